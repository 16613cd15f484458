"""Weights in files: what the real programs write, our own format, strict loading under the right names."""
import json
import os
import pickle
import struct

import numpy as np
import pytest
import safetensors.numpy
from weight_samples import SAMPLES, Network, assert_same

from ldm.errors import UserError
from ldm.weights import check, convert, fill, load, opened, read_state, save
from ldm.weights.names import fit

# ---- what the real programs write

BASE = np.arange(24, dtype=np.float32)
TORCH_STATE = {                                             # what both torch samples hold
    "conv.bias": np.float32([1 - 1e-3, 1.5 - 1e-3, 2 - 1e-3]),     # one step of Adam at 1e-3 from 1, 1.5, 2
    "norm.weight": np.float32([2, 2.5]), "norm.bias": np.float32([3, 3.5]),
    "norm.running_mean": np.float32([0, 0]), "norm.running_var": np.float32([1, 1]),
    "norm.num_batches_tracked": np.array(0, np.int64),
    "transposed": BASE.reshape(4, 6).T, "strided": BASE[5:23:3], "first_half": BASE[:12],
    "half": np.float32([1.5, -65504, 2.0 ** -24]),
    "bfloat16": np.float32([1, -2.5, 226 * 2.0 ** 120]),      # 3e38 to eight binary digits
    "double": np.float32([0.1, 0]),
    "int32": np.int32([[-7, 2 ** 31 - 1]]), "bool": np.array([True, False, True]),
    "uint8": np.uint8([0, 255]),
    "empty": np.zeros((0, 3), np.float32), "scalar": np.array(2.5, np.float32),
    "expanded": np.full((2, 3), 4, np.float32), "parameter": np.float32([9]),
}


@pytest.mark.parametrize("sample", SAMPLES[:2], ids=lambda path: path.name)
def test_torch_samples(sample):
    state, config = read_state(sample)
    conv = state.pop("conv.weight")
    np.testing.assert_allclose(conv, (np.arange(6) * 0.5 - 1e-3).reshape(3, 2, 1, 1), rtol=1e-5)
    assert config is None
    np.testing.assert_allclose(state["conv.bias"], TORCH_STATE["conv.bias"], rtol=1e-6)
    assert_same(state, TORCH_STATE | {"conv.bias": state["conv.bias"]})


def test_jittor_sample():
    state, config = read_state(SAMPLES[2])
    assert config is None
    assert_same(state, {
        "conv.weight": np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1) / 4, "scalar": np.float32([2.5]),
        "half": np.float32([0, 1, 2]), "int32": np.int32([-1, 0, 1]), "numpy": np.float32([[0, 2], [1, 3]]),
        "bool": np.array([True, False])})


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_numpy_pickles_of_every_protocol(tmp_path, protocol, module):
    state = {"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big": np.arange(3, dtype=">f4"),
             "half": np.ones((), np.float16), "int": np.arange(2), "plain": 3, "number": np.float64(0.5)}
    data = pickle.dumps(state, protocol)
    if protocol < 4:                                        # names are not preceded by their length
        data = data.replace(b"cnumpy.core.", b"c" + module.encode() + b".")
    (tmp_path / "a.bin").write_bytes(data)
    assert_same(read_state(tmp_path / "a.bin")[0], {
        "fortran": np.float32([[0, 1, 2], [3, 4, 5]]), "big": np.float32([0, 1, 2]),
        "half": np.ones((), np.float32), "int": np.arange(2)})


# ---- our own format

def test_save_and_read_back(tmp_path):
    rng = np.random.default_rng(0)
    state = {"odd": rng.standard_normal(3).astype(np.float16), "double": rng.standard_normal(5),
             "w": rng.standard_normal((4, 3, 2), np.float32), "steps": np.array(7, np.int64),
             "empty": np.zeros((0, 2), np.float32)}
    config = {"unet": {"channels": 8}, "name": "Ünet"}
    save(tmp_path / "w.safetensors", state, config)
    found, found_config = read_state(tmp_path / "w.safetensors")
    assert found_config == config and list(found) == list(state)
    for name in state:
        expected = state[name] if state[name].dtype.kind == "i" else state[name].astype(np.float32)
        np.testing.assert_array_equal(found[name], expected, strict=True)
        np.testing.assert_array_equal(safetensors.numpy.load_file(tmp_path / "w.safetensors")[name], expected)
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_float16_halves_the_file_and_comes_back_as_float32(tmp_path):
    state = {"w": np.linspace(-3, 3, 10_000, dtype=np.float32)}
    save(tmp_path / "half", state, dtype="float16")
    save(tmp_path / "full", state)
    assert os.path.getsize(tmp_path / "full") - os.path.getsize(tmp_path / "half") == 20_000
    found, config = read_state(tmp_path / "half")
    assert config is None
    np.testing.assert_array_equal(found["w"], state["w"].astype(np.float16).astype(np.float32), strict=True)


def test_safetensors_of_the_library_and_bfloat16(tmp_path):
    state = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True]), "h": np.float16([0.5])}
    safetensors.numpy.save_file(state, tmp_path / "lib.safetensors", {"format": "pt"})
    found, config = read_state(tmp_path / "lib.safetensors")
    assert config is None and set(found) == set(state)
    np.testing.assert_array_equal(found["a"], state["a"])
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "bf16").write_bytes(struct.pack("<Q", len(header)) + header + bytes.fromhex("803f20c0"))
    assert read_state(tmp_path / "bf16")[0]["x"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize("header, words", [
    ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]}}, "'x' lies outside"),
    ({"x": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}}, "damaged"),
    ({"x": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}, "of type F8_E4M3"),
    ({"__metadata__": {"format": "iidm", "version": "2"}}, "version 2"),
    ({}, "holds no tensors"),
])
def test_broken_safetensors(tmp_path, header, words):
    text = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text.replace(b"{}", b"{ ") + bytes(8)
                                 if header else struct.pack("<Q", 2) + b"{}")
    with pytest.raises(UserError, match=words):
        read_state(tmp_path / "x")


def test_save_refuses_what_could_not_be_read(tmp_path):
    path = tmp_path / "deep" / "w"
    bad = {"ok": np.ones(2), "bad.w": np.float32([1, np.nan])}
    for state, dtype, words in ((bad, None, "1 of 2 numbers of 'bad.w'"),
                                ({"big": np.float32([7e4])}, "float16", "'big' are NaN or infinite"),
                                ({"w": np.ones(1)}, "float64", "float64: is not a dtype")):
        with pytest.raises(UserError, match=words):
            save(path, state, {}, dtype)
    assert not path.exists() and (not path.parent.exists() or not os.listdir(path.parent))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save(tmp_path / "file" / "w", {"w": np.ones(1)})


# ---- which tensors, under which names

SHAPES = {"encoder.w": (2, 3), "encoder.b": (3,), "quantize.embedding.weight": (4, 1)}
STATE = {name: np.full(shape, i + 1, np.float32) for i, (name, shape) in enumerate(SHAPES.items())}


def prefixed(prefix, state=STATE):
    return {prefix + name: array for name, array in state.items()}


def assert_loads(path):
    network = Network(SHAPES)
    load(path, network)
    assert_same(network.values, STATE)


def test_load_returns_the_config(tmp_path):
    save(tmp_path / "w", STATE, {"autoencoder": {"channels": 2}})
    network = Network(SHAPES)
    assert load(tmp_path / "w", network) == {"autoencoder": {"channels": 2}}
    assert_same(network.values, STATE)


@pytest.mark.parametrize("tree", [
    STATE, {"epoch": 3, "state_dict": STATE, "loss": np.array(0.1)}, {"model": STATE}, {"params": STATE},
    {"ema": prefixed("module.")}, {"epoch": 1, "ema_model": STATE}, {"generator": {"net": STATE}},
    prefixed("_orig_mod."), {"model": prefixed("module._orig_mod.")}, prefixed("_orig_mod.module.model."),
    {"state_dict": STATE, "torch_rng": np.zeros(50, np.uint8), "losses": np.ones(9)},
    {"model": STATE, "optimizer": {"state": {0: {"exp_avg": np.ones((2, 3)), "exp_avg_sq": np.ones(2)}}}},
    {"model": STATE, "rng": {"cpu": np.arange(9)}},
    {"model": {"state_dict": prefixed("model.")}}, prefixed("module.model."),
    prefixed("first_stage_model.") | {"model.diffusion_model.out.w": np.ones(2), "betas": np.ones(9)},
    STATE | {"loss.discriminator.main.0.weight": np.ones((2, 2)), "loss.perceptual_loss.lin0.w": np.ones(1)},
    {"state_dict": prefixed("first_stage_model.", STATE | {"loss.logvar": np.zeros(())}) | {"s": np.ones(1)}},
])
def test_containers_and_prefixes_of_other_programs(tmp_path, tree):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(tree))
    assert_loads(tmp_path / "w.pkl")


def test_several_sets_of_weights_need_a_choice(tmp_path):
    other = {name: array + 1 for name, array in STATE.items()}
    tree = {"model": other, "ema": STATE, "mine": {"a": {"w": np.ones(2)}}}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(tree))
    with pytest.raises(UserError, match="several sets of weights, at 'model', 'ema'; .*--container model"):
        read_state(tmp_path / "w.pkl")
    assert_same(read_state(tmp_path / "w.pkl", "ema")[0], STATE)
    assert_same(read_state(tmp_path / "w.pkl", "model")[0], other)
    assert_same(read_state(tmp_path / "w.pkl", "mine.a")[0], {"w": np.ones(2, np.float32)})
    with pytest.raises(UserError, match="has no 'mine.b'; choose one of its keys: a"):
        read_state(tmp_path / "w.pkl", "mine.b")
    save(tmp_path / "own", STATE)
    with pytest.raises(UserError, match="has no 'ema'"):
        read_state(tmp_path / "own", "ema")


@pytest.mark.parametrize("tree, words", [
    ({"model": STATE, "ema_model": dict(STATE)}, "'model', 'ema_model'.*--container model"),
    ({"generator": STATE, "discriminator": {"w": np.ones((2, 2))}}, "'generator', 'discriminator'"),
    (STATE | {"ema": STATE}, "the top, 'ema'.*--container ema"),
    ({f"s{i}": dict(STATE) for i in range(40)}, "and 34 more"),
    ({f"{i}" + "k" * 900: i for i in range(40)}, r"holds no named tensors .* and 30 more"),
])
def test_sets_of_weights_are_named_and_the_option_too(tmp_path, tree, words):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(tree))
    with pytest.raises(UserError, match=words) as error:
        read_state(tmp_path / "w.pkl")
    assert len(str(error.value)) < 800


@pytest.mark.parametrize("write", [
    lambda path, state: save(path, state, {"k": 1}),
    lambda path, state: path.write_bytes(pickle.dumps(state, 4)),
    lambda path, state: path.write_bytes(pickle.dumps(state, 0)),
], ids=["own", "pickle", "old pickle"])
def test_names_and_shapes_are_checked_without_the_numbers(tmp_path, write):
    write(tmp_path / "w", prefixed("module."))
    assert check(tmp_path / "w", SHAPES) in ({"k": 1}, None)
    assert check(tmp_path / "w", Network(SHAPES)) in ({"k": 1}, None)
    with pytest.raises(UserError, match="missing 1 .more"):
        check(tmp_path / "w", SHAPES | {"more": (2,)})
    with opened(tmp_path / "w") as (entries, _):
        entry = entries["module.encoder.w"]
        assert entry.shape == (2, 3) and entry.dtype == np.float32
        np.testing.assert_array_equal(entry.read(), STATE["encoder.w"], strict=True)


def test_long_names_are_cut_in_errors(tmp_path):
    save(tmp_path / "w", {"n" * 900 + str(i): np.ones(1) for i in range(300)})
    with pytest.raises(UserError, match="and 295 more") as error:
        load(tmp_path / "w", Network(SHAPES))
    assert len(str(error.value)) < 1500


def test_a_load_that_does_not_fit_lists_everything_and_changes_nothing(tmp_path):
    shapes = {f"layer{i}.w": (2,) for i in range(8)} | SHAPES
    state = {"encoder.w": np.ones((3, 2)), "encoder.b": np.ones(3), "odd.w": np.ones(1), "loss.w": np.ones(1)}
    save(tmp_path / "w", state)
    network = Network(shapes)
    with pytest.raises(UserError) as error:
        load(tmp_path / "w", network)
    words = str(error.value)
    assert "missing 9 (layer0.w, layer1.w, layer2.w, layer3.w, layer4.w and 4 more)" in words
    assert "extra 1 (odd.w)" in words                       # loss.* belongs to an autoencoder's training
    assert "of another shape 1 (encoder.w is 3x2 instead of 2x3)" in words
    assert "\n" not in words and not any(value.any() for value in network.values.values())


@pytest.mark.parametrize("state, words", [
    ({"a": 1, "loss.w": 1}, "extra 1 .loss.w"),             # no codebook here: nothing is left out
    ({"module.a": 1, "b": 1}, "extra 2 .module.a, b"),      # a wrapper wraps everything
    ({"a": 1, "first_stage_model.a": 1}, "extra 1 .first_stage_model.a"),      # either could be meant
])
def test_names_are_only_changed_where_the_tables_are_clear(state, words):
    with pytest.raises(UserError, match=words):
        fit({name: np.ones(2) for name in state}, {"a": (2,)}, "w")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.bool_])
def test_weights_that_are_not_of_floats_are_refused_where_they_are_read(tmp_path, dtype):
    save(tmp_path / "w", STATE | {"encoder.b": np.ones(3, dtype)})
    network = Network(SHAPES)
    words = f"not of floats: 1 .encoder.b is {np.dtype(dtype).name}"
    for take in (lambda: load(tmp_path / "w", network), lambda: check(tmp_path / "w", network),
                 lambda: fill(network, STATE | {"encoder.b": np.ones(3, dtype)}, "w"),
                 lambda: convert(tmp_path / "w", tmp_path / "new", SHAPES)):
        with pytest.raises(UserError, match=words):
            take()
    assert not any(value.any() for value in network.values.values()) and not (tmp_path / "new").exists()


def test_a_network_that_drops_a_tensor_is_a_fault(tmp_path):
    class Forgetful(Network):
        def load_state_dict(self, state):
            super().load_state_dict({name: array for name, array in state.items() if name != "encoder.b"})
    save(tmp_path / "w", STATE)
    with pytest.raises(RuntimeError, match="encoder.b"):
        load(tmp_path / "w", Forgetful(SHAPES))


def test_convert(tmp_path):
    state, left_out = convert(SAMPLES[0], tmp_path / "all.safetensors")
    assert len(state) == 20 and left_out == []
    assert_same(read_state(tmp_path / "all.safetensors")[0], read_state(SAMPLES[0])[0])
    tree = prefixed("first_stage_model.", STATE | {"loss.w": np.ones(1)}) | {"betas": np.ones(2)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(tree))
    _, left_out = convert(tmp_path / "w.pkl", tmp_path / "fit", SHAPES, {"x": 1}, dtype="float16")
    assert left_out == ["betas", "first_stage_model.loss.w"]
    assert read_state(tmp_path / "fit")[1] == {"x": 1}
    assert_loads(tmp_path / "fit")
    with pytest.raises(UserError, match="missing 1 .more"):
        convert(tmp_path / "w.pkl", tmp_path / "not", SHAPES | {"more": (1,)})
    assert not (tmp_path / "not").exists()
