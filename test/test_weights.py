"""Weights in files: golden samples of the real programs, hostile and broken files, strict loading, full-size networks.

`golden/weights_lightning.ckpt` and `golden/weights_legacy.pt` were written by torch 2.13.0 (`torch.save`, and with
`_use_new_zipfile_serialization=False`) from one state dict with every dtype, transposed, strided, offset, shared,
expanded and empty tensors; the first is laid out as Lightning's, with Adam's state. `golden/weights_jittor.pkl` was
written by jittor 1.3.11 (`jt.save`). Files of other contents are built here.
"""
import contextlib
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from conftest import GOLDEN, ROOT, golden_json

from ldm.errors import UserError
from ldm.weights import convert, load, read_state, save
from ldm.weights.names import fit

SAMPLES = [GOLDEN / name for name in ("weights_lightning.ckpt", "weights_legacy.pt", "weights_jittor.pkl")]


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
    "int32": np.int32([[-7, 2 ** 31 - 1]]), "bool": np.array([True, False, True]), "uint8": np.uint8([0, 255]),
    "empty": np.zeros((0, 3), np.float32), "scalar": np.array(2.5, np.float32),
    "expanded": np.full((2, 3), 4, np.float32), "parameter": np.float32([9]),
}


def assert_same(state, expected):
    assert list(state) == list(expected)
    for name, array in expected.items():
        assert state[name].dtype == array.dtype, name
        np.testing.assert_array_equal(state[name], array, name, strict=True)
        assert state[name].flags.c_contiguous


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
    state = {"odd": rng.standard_normal(3).astype(np.float16), "w": rng.standard_normal((4, 3, 2)).astype(np.float32),
             "double": rng.standard_normal(5), "steps": np.array(7, np.int64), "empty": np.zeros((0, 2), np.float32)}
    config = {"unet": {"channels": 8}, "name": "Ünet"}
    save(tmp_path / "w.safetensors", state, config)
    found, found_config = read_state(tmp_path / "w.safetensors")
    assert found_config == config and set(found) == set(state)
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
    for state, dtype, words in (({"ok": np.ones(2), "bad.w": np.float32([1, np.nan])}, None, "1 of 2 numbers of 'bad.w'"),
                                ({"big": np.float32([7e4])}, "float16", "'big' are NaN or infinite"),
                                ({"w": np.ones(1)}, "float64", "float64: is no type for weights")):
        with pytest.raises(UserError, match=words):
            save(path, state, {}, dtype)
    assert not path.exists() and (not path.parent.exists() or not os.listdir(path.parent))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save(tmp_path / "file" / "w", {"w": np.ones(1)})


# ---- files that are broken, of another kind, or hostile

@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_every_truncation_is_told(tmp_path, sample):
    whole = sample.read_bytes()
    # Without all of its 28 bytes of checksum a Jittor file is a plain pickle, whole in itself.
    lengths = set(range(0, len(whole), 7)) | set(range(len(whole) - 40, len(whole)))
    for length in lengths - ({len(whole) - 28} if sample.suffix == ".pkl" else set()):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated|empty|no file of weights"):
            read_state(tmp_path / "cut")


def test_truncated_safetensors(tmp_path):
    save(tmp_path / "w", {"a": np.ones(9), "b": np.ones((2, 2))}, {"k": 1})
    whole = (tmp_path / "w").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_state(tmp_path / "cut")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_flipped_bytes_raise_nothing_but_user_errors(tmp_path, sample):
    rng = np.random.default_rng(0)
    whole, refused = sample.read_bytes(), 0
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        (tmp_path / "bent").write_bytes(data)
        try:
            read_state(tmp_path / "bent")
        except UserError:
            refused += 1
    assert refused >= (399 if sample.suffix == ".pkl" else 200)     # SHA-1 over all; elsewhere a number may change


@pytest.mark.parametrize("content, words", [
    (b"", "is empty"), (b"x", "no file of weights"), (b"config: 1\n" * 20, "no file of weights"),
    (b"\x89PNG\r\n\x1a\n" + bytes(40), "no file of weights"), (b"PK\x03\x04" + bytes(60), "truncated or damaged"),
    (b"\x80\x04", "truncated or damaged"), (pickle.dumps([1, 2]), "no named tensors"),
    (pickle.dumps({"epoch": 1, "log": {}}), r"no named tensors \(keys are epoch, log\)"),
    (pickle.dumps(np.ones(2)), "no named tensors"), (pickle.dumps({3: np.ones(2)}), "no names"),
    (pickle.dumps({"a": np.array(["text"])}), "instead of numbers"),
    (pickle.dumps({"a": np.array([1j])}), "instead of numbers"),
])
def test_other_kinds_of_files(tmp_path, content, words):
    (tmp_path / "f.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_state(tmp_path / "f.ckpt")


def test_files_that_are_not_there_or_folders(tmp_path):
    for path in (tmp_path, tmp_path / "none.pkl"):
        with pytest.raises(UserError, match="cannot be read"):
            read_state(path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    with pytest.raises(UserError, match="without torch's data.pkl"):
        read_state(tmp_path / "a.npz")


class Call:
    """Pickles as a call of `function` with `arguments`."""
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def as_pickle(data):
    return data


def as_jittor(data):
    return data + hashlib.sha1(data).digest() + b"HCAJSLHD"


def as_zip(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", data)
    return file.getvalue()


def as_legacy(data):
    return SAMPLES[1].read_bytes()[:137] + data             # the magic, version and system pickles are 137 bytes


@pytest.mark.parametrize("wrap", [as_pickle, as_jittor, as_zip, as_legacy])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, wrap, protocol):
    mark = tmp_path / "ran"
    tree = {"w": np.ones(2), "x": Call(os.system, f"touch {mark}")}
    (tmp_path / "evil").write_bytes(wrap(pickle.dumps(tree, protocol)))
    with pytest.raises(UserError, match=f"evil: names {os.system.__module__}.system, only tensors and containers"):
        read_state(tmp_path / "evil")
    assert not mark.exists()


@pytest.mark.parametrize("code, words", [
    (b"cos\nsystem\n(S'touch ran'\ntR.", "names os.system"),
    (b"\x80\x02cbuiltins\neval\n(X\x01\x00\x00\x001tR.", "names builtins.eval"),
    (b"\x80\x02cnumpy.core.multiarray\n__loader__.\n.", "names numpy.core.multiarray.__loader__"),
    (b"\x80\x04\x8c\x06jittor\x8c\x12jittor_core.Var.__\x93.", "names jittor.jittor_core.Var.__"),
    (b"\x80\x02cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n.", "ModelCheckpoint"),
    (b"\x80\x02ctorch.storage\n_load_from_bytes\n.", "names torch.storage._load_from_bytes"),
    (b"(ibuiltins\nexec\n(S'1'\ntR.", "names builtins.exec"),
    (b"\x80\x02cos\n\x1b[31m\n.", r"names 'os.\\x1b\[31m'"),
    (b"\x80\x02\x82\x01.", "truncated or damaged"),                                   # a code of the extension registry
    (b"Pmodule\n.", "no file of weights"), (b"\x80\x02X\x01\x00\x00\x00aQ.", "a reference out of the file"),
    (b"\x80\x02cnumpy\nndarray\n)R.", "numpy.ndarray is called"),
    (b"\x80\x02cnumpy\nndarray\n)\x81.", "truncated or damaged"),                       # ndarray.__new__
    (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x05\x00\x00\x00_callK\x01s\x86b.", "is changed"),
    (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x05\x00\x00\x00valueK\x01sb.", "truncated or damaged"),
    (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00idna\x86R.", "a text in idna"),
])
def test_hand_made_pickles(tmp_path, monkeypatch, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(code)
    with pytest.raises(UserError, match=words):
        read_state("evil.pkl")
    assert os.listdir(tmp_path) == ["evil.pkl"]
    read_state(SAMPLES[0])                                  # and it left the reader as it was


@pytest.mark.parametrize("bad, many", [(np.nan, 2), (-np.inf, 1)])
def test_a_number_that_is_none_is_told_with_its_tensor(tmp_path, bad, many):
    state = {"fine": np.ones(3), "conv.weight": np.array([[1.0] * (4 - many) + [bad] * many])}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(state))
    safetensors.numpy.save_file(state, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.pkl", tmp_path / "w.safetensors"):
        with pytest.raises(UserError, match=f"{many} of 4 numbers of 'conv.weight' are NaN or infinite"):
            read_state(path)


# ---- which tensors, under which names

class Network:
    """What `load` wants of a network: named values with shapes that a dict replaces."""
    def __init__(self, shapes):
        self.values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

    def state_dict(self):
        return dict(self.values)

    def load_state_dict(self, state):
        self.values.update(state)


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
    {"ema": prefixed("module.")}, {"model": {"state_dict": prefixed("model.")}}, prefixed("module.model."),
    prefixed("first_stage_model.") | {"model.diffusion_model.out.w": np.ones(2), "betas": np.ones(9)},
    STATE | {"loss.discriminator.main.0.weight": np.ones((2, 2)), "loss.perceptual_loss.lin0.w": np.ones(1)},
    {"state_dict": prefixed("first_stage_model.", STATE | {"loss.logvar": np.zeros(())}) | {"scale": np.ones(1)}},
])
def test_containers_and_prefixes_of_other_programs(tmp_path, tree):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(tree))
    assert_loads(tmp_path / "w.pkl")


def test_several_sets_of_weights_need_a_choice(tmp_path):
    other = {name: array + 1 for name, array in STATE.items()}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": other, "ema": STATE, "mine": {"a": {"w": np.ones(2)}}}))
    with pytest.raises(UserError, match="several sets of weights, at 'model' and 'ema'"):
        read_state(tmp_path / "w.pkl")
    assert_same(read_state(tmp_path / "w.pkl", "ema")[0], STATE)
    assert_same(read_state(tmp_path / "w.pkl", "model")[0], other)
    assert_same(read_state(tmp_path / "w.pkl", "mine.a")[0], {"w": np.ones(2, np.float32)})
    with pytest.raises(UserError, match="has no 'mine.b', keys are a"):
        read_state(tmp_path / "w.pkl", "mine.b")
    save(tmp_path / "own", STATE)
    with pytest.raises(UserError, match="has no 'ema'"):
        read_state(tmp_path / "own", "ema")


def test_a_load_that_does_not_fit_lists_everything_and_changes_nothing(tmp_path):
    shapes = {f"layer{i}.w": (2,) for i in range(8)} | SHAPES
    state = {"encoder.w": np.ones((3, 2)), "encoder.b": np.ones(3), "odd.w": np.ones(1), "loss.w": np.ones(1)}
    save(tmp_path / "w", state)
    network = Network(shapes)
    with pytest.raises(UserError) as error:
        load(tmp_path / "w", network)
    words = str(error.value)
    assert "missing 9 (layer0.w, layer1.w, layer2.w, layer3.w, layer4.w and 4 more)" in words
    assert "extra 1 (odd.w)" in words                       # loss.* belongs to the training of a quantised autoencoder
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
    assert_same(read_state(tmp_path / "all.safetensors")[0], state)
    tree = prefixed("first_stage_model.", STATE | {"loss.w": np.ones(1)}) | {"betas": np.ones(2)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(tree))
    _, left_out = convert(tmp_path / "w.pkl", tmp_path / "fit", SHAPES, {"x": 1}, dtype="float16")
    assert left_out == ["betas", "first_stage_model.loss.w"]
    assert read_state(tmp_path / "fit")[1] == {"x": 1}
    assert_loads(tmp_path / "fit")
    with pytest.raises(UserError, match="missing 1 .more"):
        convert(tmp_path / "w.pkl", tmp_path / "not", SHAPES | {"more": (1,)})
    assert not (tmp_path / "not").exists()


def run_tool(*arguments):
    return subprocess.run([sys.executable, ROOT / "tools" / "convert.py", *arguments], capture_output=True, text=True)


def test_convert_tool(tmp_path):
    done = run_tool(SAMPLES[2], "--output", tmp_path / "w.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/w.safetensors: 6 tensors, 19 parameters, not compared with a network\n"
    assert len(safetensors.numpy.load_file(tmp_path / "w.safetensors")) == 6
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Call(os.system, "true")))
    for arguments in ((tmp_path / "evil.pkl", "--output", tmp_path / "x"), (tmp_path, "--output", tmp_path / "x"),
                      (SAMPLES[2], "--output", "/proc/x"), (SAMPLES[2], "--output", tmp_path / "x", "--part", "unet")):
        done = run_tool(*arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()


# ---- full size, random numbers

@contextlib.contextmanager
def stand_ins():
    """Modules that lend pickles the names which Jittor and torch give, without either."""
    def rebuild(*arguments):
        return arguments
    fakes = {"jittor": types.ModuleType("jittor"), "torch": types.ModuleType("torch"),
             "torch._utils": types.ModuleType("torch._utils")}
    fakes["jittor"].jittor_core = types.SimpleNamespace(Var=rebuild)
    fakes["torch"].FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    fakes["torch._utils"]._rebuild_tensor_v2 = lambda *arguments: arguments
    rebuild.__module__, rebuild.__qualname__ = "jittor", "jittor_core.Var"
    tensor = fakes["torch._utils"]._rebuild_tensor_v2
    tensor.__module__, tensor.__name__, tensor.__qualname__ = "torch._utils", *["_rebuild_tensor_v2"] * 2
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        yield rebuild, tensor, fakes["torch"].FloatStorage
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def random_array(name, shape):
    return np.random.default_rng([len(name), *name.encode()]).standard_normal(shape, np.float32)


def write_jittor(path, shapes):
    """A file as jt.save writes it of Vars, one at a time in memory."""
    class Var:
        def __init__(self, name, shape):
            self.name, self.shape = name, shape

        def __reduce__(self):
            return rebuild, (random_array(self.name, self.shape),)

    class Hashed:
        def __init__(self, file):
            self.file, self.sha1 = file, hashlib.sha1()

        def write(self, data):
            self.sha1.update(data)
            return self.file.write(data)

    with stand_ins() as (rebuild, _, _), open(path, "wb") as file:
        hashed = Hashed(file)
        pickler = pickle.Pickler(hashed, 4)
        pickler.fast = True                                 # keeps no object that was written
        pickler.dump({name: Var(name, shape) for name, shape in shapes.items()})
        file.write(hashed.sha1.digest() + b"HCAJSLHD")


def write_torch_zip(path, shapes):
    """A Lightning checkpoint as torch.save writes it."""
    class Tensor:
        def __init__(self, key, shape):
            self.key, self.shape = key, shape

        def __reduce__(self):
            strides = tuple(int(np.prod(self.shape[i + 1:])) for i in range(len(self.shape)))
            return rebuild, (Storage(self.key, self.shape), 0, tuple(self.shape), strides, False, {})

    class Storage:
        def __init__(self, key, shape):
            self.identity = "storage", kind, key, "cpu", int(np.prod(shape))

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identity if isinstance(value, Storage) else None

    with stand_ins() as (_, rebuild, kind), zipfile.ZipFile(path, "w") as archive:
        stream = io.BytesIO()
        state = {name: Tensor(str(i), shape) for i, (name, shape) in enumerate(shapes.items())}
        Pickler(stream, 2).dump({"epoch": 1, "state_dict": state, "optimizer_states": [], "lr_schedulers": []})
        archive.writestr("archive/data.pkl", stream.getvalue())
        for i, (name, shape) in enumerate(shapes.items()):
            archive.writestr(f"archive/data/{i}", random_array(name, shape).tobytes())


def test_builders_write_what_the_real_programs_write(tmp_path):
    shapes = {"conv.weight": (3, 2, 1, 1)}
    write_jittor(tmp_path / "j", shapes)
    write_torch_zip(tmp_path / "t", shapes)
    for path in (SAMPLES[2], tmp_path / "j"):
        memo_free = path.read_bytes().replace(b"\x94", b"")
        assert b"\x8c\x06jittor\x8c\x0fjittor_core.Var\x93" in memo_free
    for path in (SAMPLES[0], tmp_path / "t"):
        with zipfile.ZipFile(path) as archive:
            data = archive.read([name for name in archive.namelist() if name.endswith("/data.pkl")][0])
        assert b"ctorch._utils\n_rebuild_tensor_v2\n" in data and b"ctorch\nFloatStorage\n" in data
    for name in "jt":
        assert_same(read_state(tmp_path / name)[0], {n: random_array(n, s) for n, s in shapes.items()})


READ = """
import json, re, sys, time
sys.path.insert(0, sys.argv[1])
from ldm.weights import read_state

def peak_memory():                    # of this program: getrusage would count what the parent had before
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024

begun, before = time.time(), peak_memory()
state, config = read_state(sys.argv[2])
peak = peak_memory() - before
print(json.dumps({"seconds": time.time() - begun, "peak": peak, "shapes": {n: a.shape for n, a in state.items()},
                  "firsts": {n: float(a.flat[-1]) for n, a in state.items()}}))
"""


def read_elsewhere(path):
    """What a fresh process reads of `path`: shapes, last numbers, seconds, and the memory it took for that."""
    done = subprocess.run([sys.executable, "-c", READ, ROOT, path], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def assert_full(path, shapes, limit):
    seen = read_elsewhere(path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB in {seen['seconds']:.1f} s, "
          f"{seen['peak'] / path.stat().st_size:.2f} times its size in memory")
    assert seen["shapes"] == shapes
    for name in list(shapes)[::50] + list(shapes)[-1:]:
        assert seen["firsts"][name] == random_array(name, shapes[name]).flat[-1]
    assert 0.9 < seen["peak"] / path.stat().st_size < limit


def test_full_size_autoencoder_from_a_torch_checkpoint(tmp_path):
    shapes = golden_json("full_vqgan_shapes")
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 55_322_782
    extra = {"loss.discriminator.main.0.weight": [64, 3, 4, 4], "loss.discriminator.main.3.running_var": [128]}
    write_torch_zip(tmp_path / "vq-f4.ckpt", shapes | extra)
    assert_full(tmp_path / "vq-f4.ckpt", shapes | extra, 1.3)
    network = Network(shapes)
    assert load(tmp_path / "vq-f4.ckpt", network) is None
    np.testing.assert_array_equal(network.values["quantize.embedding.weight"],
                                  random_array("quantize.embedding.weight", (8192, 3)))


@pytest.mark.slow
def test_full_size_unet_from_a_jittor_file(tmp_path):
    shapes = golden_json("full_unet_shapes")
    assert len(shapes) == 660 and sum(int(np.prod(shape)) for shape in shapes.values()) == 501_540_358
    write_jittor(tmp_path / "ema.pkl", shapes)
    assert_full(tmp_path / "ema.pkl", shapes, 1.3)
    state, _ = convert(tmp_path / "ema.pkl", tmp_path / "unet.safetensors", shapes)
    del state
    assert_full(tmp_path / "unet.safetensors", shapes, 1.3)
