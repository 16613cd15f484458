"""The evaluation's networks against golden numbers of PyTorch, transformers, timm and JSeg, and their
weights' names."""
import functools
import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden.eval.recipe import smooth_image, state_dict

from ldm.backend import jt
from ldm.errors import UserError
from ldm.evaluation import networks
from ldm.evaluation.networks import NIMA, FIDInception, SegFormer, names, segformer
from ldm.evaluation.networks.inception import resized
from ldm.evaluation.networks.nima import LAYOUTS, cropped
from ldm.evaluation.networks.segformer import SIZES
from ldm.weights import fill, save

GOLDEN = Path(__file__).parent / "golden" / "eval"
SEED = 20240601
KEYS = json.loads(gzip.decompress((GOLDEN / "keys.json.gz").read_bytes()))
TINY = dict(hidden=(8, 16, 24, 32), depths=(1, 1, 2, 1), decoder=24)


@functools.cache
def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def shapes(network):
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def weights(keys):
    """The recipe's tensors for a published list of names, counters of training steps and all."""
    return state_dict(keys, SEED)


def empty(keys):
    """Arrays of the right shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in keys.items()}


def pictures(height, width, offset):
    return np.stack([smooth_image(height, width, SEED + offset + i) for i in range(2)])


def close(value, exact, tolerance):
    """Whether `value` is within `tolerance` times the largest magnitude of `exact`."""
    assert np.isfinite(value).all()
    return np.abs(value - exact).max() <= tolerance * np.abs(exact).max()


@functools.cache
def inception():
    network = FIDInception()
    fill(network, names.inception(weights(KEYS["fid_inception"])), "recipe")
    return network


@functools.cache
def tiny():
    network = SegFormer(**TINY)
    fill(network, state_dict(shapes(network), SEED), "recipe")
    network.eval()
    return network


def test_inception_takes_the_published_names():
    keys = KEYS["fid_inception"]
    assert len(keys) == 566
    expected = {k: tuple(s) for k, s in keys.items() if not k.startswith("fc.") and "num_batches" not in k}
    assert shapes(inception()) == expected


@pytest.mark.parametrize("name, size", [("small", (96, 128)), ("land", (384, 512))])
def test_inception_features(name, size):
    images = pictures(*size, 0)
    slices = resized(images)[:, ::23, ::23].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(slices, golden("inception")[f"{name}_resized_slice"], atol=2e-6)
    features, exact = inception()(images).numpy(), golden("inception")[f"{name}_feat2048_f64"]
    assert features.shape == (2, 2048) and features.dtype == np.float32
    assert np.linalg.norm(features - exact) < 1e-5 * np.linalg.norm(exact)
    assert close(features, exact, 1e-5)


@pytest.mark.parametrize("size", ["b0", "b5"])
@pytest.mark.parametrize("spelling", ["hub", "jseg"])
def test_segformer_takes_the_published_names(size, spelling):
    keys = KEYS[f"segformer_{size}"][spelling]
    assert len(keys) == {"b0 hub": 208, "b5 hub": 1172, "b0 jseg": 194, "b5 jseg": 1070}[f"{size} {spelling}"]
    state, rectify = names.segformer(empty(keys))
    assert not rectify
    found = names.segformer_size(state, "file")
    assert segformer.size_name(found) == size
    expected = shapes(SegFormer(**SIZES[size]))
    assert {name: array.shape for name, array in state.items()} == expected == shapes(SegFormer(**found))


def test_jseg_halves_are_key_and_value():
    state = weights(KEYS["segformer_b0"]["jseg"])
    translated, _ = names.segformer({f"module.{name}": array for name, array in state.items()})
    block, old = "segformer.encoder.block.2.1.attention.self", "backbone.block3.1.attn"
    np.testing.assert_array_equal(translated[f"{block}.key.weight"], state[f"{old}.kv.weight"][:160])
    np.testing.assert_array_equal(translated[f"{block}.value.bias"], state[f"{old}.kv.bias"][160:])
    np.testing.assert_array_equal(translated[f"{block}.sr.weight"], state[f"{old}.sr.weight"])
    last = "segformer.encoder.layer_norm.3.bias"
    np.testing.assert_array_equal(translated[last], state["backbone.norm4.bias"])


@pytest.mark.parametrize("name, shape, word", [
    ("segformer.encoder.patch_embeddings.1.proj.weight", (0, 32, 3, 3), "channels"),
    ("segformer.encoder.patch_embeddings.0.proj.weight", (0, 3, 7, 7), "channels"),
    ("segformer.encoder.patch_embeddings.1.proj.weight", (31, 32, 3, 3), "channels"),
    ("segformer.encoder.patch_embeddings.0.proj.weight", (32,), "is not a SegFormer"),
    ("backbone.block1.0.attn.kv.weight", (3, 2), "is not a SegFormer"),
])
def test_a_segformer_of_impossible_shapes_is_told(tmp_path, name, shape, word):
    keys = KEYS["segformer_b0"]["jseg" if name.startswith("backbone") else "hub"]
    assert name in keys
    save(tmp_path / "w", {key: np.zeros(shape if key == name else size, np.float32)
                          for key, size in keys.items()})
    with pytest.raises(UserError, match=f"w: .*{word}"):
        networks.open_segmenter(tmp_path / "w")


def test_segformer_tiny():
    logits, exact = tiny()(pictures(96, 128, 10)), golden("segformer")
    assert close(logits.numpy(), exact["tiny_logits_f64"], 1e-5)
    assert close(logits.numpy(), exact["tiny_logits_jseg"], 5e-5)       # its norms have another eps in places
    predicted = segformer.labels(logits, (96, 128)).numpy()
    assert (predicted == exact["tiny_pred"]).mean() >= 0.999
    for labels, given, accuracy in zip(predicted, exact["tiny_gt"], exact["tiny_accuracy"]):
        assert (labels == given).mean() == pytest.approx(accuracy, abs=1e-3)


def test_segformer_b0():
    network = SegFormer(**SIZES["b0"])
    state, _ = names.segformer(weights(KEYS["segformer_b0"]["hub"]))
    fill(network, state, "recipe")
    network.eval()
    exact = golden("segformer")
    logits = network(pictures(128, 160, 10))
    assert close(logits.numpy()[:, exact["b0_logits_f64_channels"]], exact["b0_logits_f64"], 1e-5)
    assert (segformer.labels(logits, (128, 160)).numpy() == exact["b0_pred"]).mean() >= 0.999


MMSEG = ((".0.proj.", ".0.projection."), (".0.layer_norm.", ".0.norm."), ("layer_norm_", "norm"),
         (".attention.self.sr.", ".attn.sr."), (".attention.self.layer_norm.", ".attn.norm."),
         (".attention.output.dense.", ".attn.attn.out_proj."), (".mlp.dense1.", ".ffn.layers.0."),
         (".mlp.dwconv.dwconv.", ".ffn.layers.1."), (".mlp.dense2.", ".ffn.layers.4."))


def in_mmseg(state, rng):
    """A state under the hub's names in mmsegmentation's, as its converter does it, with a head of its
    kind."""
    def mmseg(name):
        for place, part in enumerate(("patch_embeddings", "block", "layer_norm")):
            if name.startswith(f"segformer.encoder.{part}."):
                stage, rest = name.split(".", 3)[3].split(".", 1)
                name = f"backbone.layers.{stage}.{place}.{rest}"
        for old, new in MMSEG:
            name = name.replace(old, new)
        return name

    result = {}
    for name, array in state.items():
        if "decode_head" in name or ".self.key." in name or ".self.value." in name:
            continue
        if ".self.query." in name:
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            name = mmseg(name).replace(".attention.self.query.", ".attn.attn.in_proj_")
            result[name] = np.concatenate(parts)
        else:
            linear = ".mlp.dense" in name and array.ndim == 2
            result[mmseg(name)] = array[:, :, None, None] if linear else array
    convs = {f"convs.{i}": (24, c) for i, c in enumerate(TINY["hidden"])} | {"fusion_conv": (24, 96)}
    for name, (out_channels, in_channels) in convs.items():
        prefix = f"decode_head.{name}"
        result[f"{prefix}.conv.weight"] = rng.normal(0, 0.2, (out_channels, in_channels, 1, 1))
        for part in ("weight", "bias", "running_mean", "running_var"):
            result[f"{prefix}.bn.{part}"] = rng.uniform(0.5, 1.5, out_channels)
        result[f"{prefix}.bn.num_batches_tracked"] = np.zeros((), np.int64)
    result["decode_head.conv_seg.weight"] = rng.normal(size=(29, 24, 1, 1))
    result["decode_head.conv_seg.bias"] = rng.normal(size=29)
    return {name: np.asarray(a, a.dtype if a.dtype == np.int64 else np.float32) for name, a in result.items()}


def mmseg_head(state, stages):
    """OpenMMLab's head as it is written there: conv, norm, ReLU, enlarge, join, conv, norm, ReLU, classes."""
    def conv_module(x, name):
        x = np.einsum("oi,nihw->nohw", state[f"{name}.conv.weight"][:, :, 0, 0], x)
        weight, bias, mean, variance = (state[f"{name}.bn.{part}"].reshape(1, -1, 1, 1) for part in (
            "weight", "bias", "running_mean", "running_var"))
        return np.maximum(0, (x - mean) / np.sqrt(variance + 1e-5) * weight + bias)

    height, width = stages[0].shape[2:]
    maps = [conv_module(x, f"decode_head.convs.{i}") for i, x in enumerate(stages)]
    large = [np.stack([[cv2.resize(c, (width, height)) for c in x] for x in m]) for m in maps]
    x = conv_module(np.concatenate(large, axis=1), "decode_head.fusion_conv")
    x = np.einsum("oi,nihw->nohw", state["decode_head.conv_seg.weight"][:, :, 0, 0], x)
    return x + state["decode_head.conv_seg.bias"].reshape(1, -1, 1, 1)


def test_segformer_of_mmsegmentation():
    original = {name: value.numpy() for name, value in tiny().state_dict().items()}
    published = in_mmseg(original, np.random.default_rng(3))
    state, rectify = names.segformer(published)
    assert rectify
    network = SegFormer(rectify=True, **names.segformer_size(state, "file"))
    fill(network, state, "file")
    network.eval()
    for name, array in original.items():
        if name.startswith("segformer."):
            np.testing.assert_array_equal(state[name], array)
    images = pictures(96, 128, 10)
    stages = [x.numpy() for x in network.stages(images)]
    assert close(network(images).numpy(), mmseg_head(published, stages), 1e-5)


def test_resize_is_bilinear_with_pixel_centres():
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 7)).astype(np.float32)
    large = segformer.resize(jt.array(x), (13, 28)).numpy()
    exact = np.stack([cv2.resize(c, (28, 13), interpolation=cv2.INTER_LINEAR) for c in x[0]])
    np.testing.assert_allclose(large[0], exact, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nima_takes_the_published_names(layout):
    state = empty(KEYS[f"nima_{layout}"])
    assert len(state) == {"inception_resnet_v2_pyiqa": 1306, "mobilenet_v2": 314}.get(layout, 28)
    found, translated = names.nima(state, "file")
    assert found == layout
    assert {name: array.shape for name, array in translated.items()} == shapes(NIMA(layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nima_probabilities(layout):
    images, exact = pictures(384, 512, 20), golden("nima")
    slices = cropped(images, LAYOUTS[layout].size)[:, ::17, ::17].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(slices, exact[f"{layout}.crop_slice"], atol=2e-6)
    network = NIMA(layout)
    fill(network, names.nima(weights(KEYS[f"nima_{layout}"]), "recipe")[1], "recipe")
    probabilities = network(images).numpy()
    np.testing.assert_allclose(probabilities, exact[f"{layout}.prob_f64"], atol=1e-4)
    scores = 10 * networks.Extractor(network, layout)(images) @ np.arange(1, 11)
    np.testing.assert_allclose(scores, exact[f"{layout}.A_percent"], rtol=1e-4)


def test_nima_crops_tall_images_as_well():
    image = smooth_image(60, 40, 5)
    np.testing.assert_allclose(cropped([image], 24)[0], cropped([image.swapaxes(0, 1)], 24)[0].swapaxes(0, 1),
                               atol=1e-4)


def test_unknown_layout_of_nima():
    with pytest.raises(UserError, match="vgg19: is not a layout of NIMA; choose vgg16_flat"):
        NIMA("vgg19")


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, {name: value.numpy() for name, value in tiny().state_dict().items()})
    return path


def test_segmenter_from_a_file(tiny_file):
    segmenter = networks.open_segmenter(tiny_file)
    assert segmenter.name == "SegFormer 1-1-2-1 of 8"
    images = pictures(96, 128, 10)
    labels, features = segmenter.segment(images)
    assert labels.dtype == np.uint8 and (labels == golden("segformer")["tiny_pred"]).mean() >= 0.999
    assert features.shape == (2, 80) and features.dtype == np.float32
    np.testing.assert_allclose(segmenter.features(images), features, atol=1e-6)
    means = np.concatenate([x.numpy().mean((2, 3)) for x in tiny().stages(images)], axis=1)
    np.testing.assert_allclose(features, means, atol=1e-5)


def test_weights_of_another_network(tiny_file, tmp_path):
    with pytest.raises(UserError, match="tiny.safetensors: .* missing 470"):
        networks.open_inception(tiny_file)
    with pytest.raises(UserError,
            match="tiny.safetensors: is not a NIMA of a known layout; give a file of vgg16_flat"):
        networks.open_nima(tiny_file)
    other = tmp_path / "other.safetensors"
    save(other, {"features.28.weight": np.zeros((512, 512, 3, 3), np.float32)})
    with pytest.raises(UserError, match="other.safetensors: is not a SegFormer"):
        networks.open_segmenter(other)
    with pytest.raises(UserError, match="other.safetensors: .* missing 27"):
        networks.open_nima(other)


def test_segmenter_of_other_classes(tmp_path):
    network = SegFormer(**TINY, num_classes=19)
    save(tmp_path / "city.safetensors", state_dict(shapes(network), SEED))
    with pytest.raises(UserError, match="city.safetensors: has 19 classes"):
        networks.open_segmenter(tmp_path / "city.safetensors")
