"""The segmenter of our own: its finer first stage, its training data, its loss, its tool, the shipped one."""
import json

import numpy as np
import pytest
from golden.eval.recipe import smooth_image, state_dict
from tiny import one_error, run_tool

from ldm import config as configs
from ldm import images
from ldm.datasets.procedural import make_scene
from ldm.evaluation import frechet_distance, networks, quick, style_similarity
from ldm.evaluation.networks import SegFormer
from ldm.training.tasks import segmenter
from ldm.training.tasks.segmenter import SegmenterTask, cut
from ldm.weights import fill, save

SMALL = dict(hidden=(8, 16, 24, 32), depths=(1, 1, 2, 1), decoder=24)
OPTIONS = {"batch_size": 5, "seed": 3, "least_crop": 0.5}


def small(**more):
    """A SegFormer with the recipe's random numbers in it, and its state."""
    network = SegFormer(**SMALL, **more)
    state = state_dict({name: tuple(p.shape) for name, p in network.state_dict().items()}, 20240601)
    fill(network, state, "recipe")
    return network, state


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    """The file of a segmenter whose first stage is at half the image's size."""
    path = tmp_path_factory.mktemp("fine") / "fine.safetensors"
    save(path, small(patch=3)[1])
    return path


def pairs(count=7):
    """Pictures that are eight times their labels, which climb to the lower right: pictures, maps, 24 x 32."""
    rows, columns = np.linspace(0, 1, 24)[:, None], np.linspace(0, 1, 32)
    maps = np.stack([28 * (0.4 * rows + 0.6 * columns) ** (1 + i / 7) for i in range(count)]).astype(np.uint8)
    return np.stack([maps * 8] * 3, -1), maps


def task(network=None, **options):
    pictures, maps = pairs()
    smaller = np.stack([images.resize(p, (16, 12)) for p in pictures])
    return SegmenterTask(network, [pictures, smaller], maps, (16, 12), OPTIONS | options)


def test_first_stage_at_half_the_size(fine):
    network, _ = small(patch=3)
    network.eval()
    picture = smooth_image(48, 64, 1)[None]
    assert [tuple(x.shape) for x in network.stages(picture)] == [
        (1, 8, 24, 32), (1, 16, 12, 16), (1, 24, 6, 8), (1, 32, 3, 4)]
    logits = network(picture)
    assert logits.shape == [1, 29, 24, 32]
    labels, _ = networks.open_segmenter(fine).segment(picture)          # its shapes tell the size
    np.testing.assert_array_equal(labels, networks.segformer.labels(logits, (48, 64)).numpy())


@pytest.mark.parametrize("patch, least", [(3, 16), (7, 32)])
def test_pictures_that_are_too_small_for_the_network_are_enlarged(patch, least):
    """As in the first part of a run of several sizes, whose pictures are measured too."""
    network = SegFormer(**{**SMALL, "patch": patch, "reductions": (8, 4, 2, 1)})
    assert network.least_side == least
    judge = networks.Segmenter(network, "small")
    for height, width in ((16, 17), (24, 32), (32, 33)):
        pictures = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
        labels, features = judge.segment(pictures)
        assert labels.shape == (2, height, width) and np.isfinite(features).all()
        np.testing.assert_allclose(judge.features(pictures), features, rtol=1e-4, atol=1e-5)


def test_batches_are_a_function_of_the_step():
    first, again, other = task().batch(4), task().batch(4), task().batch(5)
    assert first["images"].shape == (5, 12, 16, 3) and first["images"].dtype == np.uint8
    assert first["labels"].shape == (5, 12, 16) and first["labels"].dtype == np.uint8
    for name in ("images", "labels"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_picture_and_labels_are_cut_and_mirrored_alike(monkeypatch):
    monkeypatch.setattr(segmenter, "disturb", lambda image, rng: image)
    batch = task(batch_size=40).batch(0)
    errors = np.abs(batch["images"][..., 0].astype(int) - 8 * batch["labels"].astype(int)).mean((1, 2))
    crossed = np.abs(batch["images"][..., 0].astype(int) - 8 * batch["labels"][:, :, ::-1].astype(int))
    assert errors.max() < 8 < 30 < crossed.mean()                      # within one label, on the mean


def test_cut_takes_the_part():
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(cut(picture, (0.5, 0.25, 1, 0.75), (4, 4), False), picture[2:6, 4:])
    np.testing.assert_array_equal(cut(picture, (0, 0, 1, 1), (4, 4), False), picture[1::2, 1::2])


def test_disturbed_images_keep_their_drawing():
    picture = smooth_image(48, 64, 5)
    made = [segmenter.disturb(picture, np.random.default_rng(i)) for i in range(20)]
    correlations = [np.corrcoef(picture.ravel(), image.ravel())[0, 1] for image in made]
    assert all(image.dtype == np.uint8 and image.shape == picture.shape for image in made)
    assert min(correlations) > 0.9 and max(correlations) < 0.9999
    assert np.std([image.mean() for image in made]) > 5


def test_loss_is_the_cross_entropy_of_the_enlarged_logits():
    network, _ = small()
    network.eval()
    batch = {"images": np.stack([smooth_image(96, 128, i) for i in range(2)]),
             "labels": np.stack([smooth_image(96, 128, 5 + i)[..., 0] // 9 for i in range(2)])}
    loss, terms = SegmenterTask(network, [], [], (128, 96), OPTIONS).loss(batch)
    logits = networks.segformer.resize(network(batch["images"]), (96, 128)).numpy().astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    own = np.take_along_axis(probabilities, batch["labels"][:, None].astype(int), 1)
    assert loss.item() == pytest.approx(-np.log(own).mean(), rel=1e-3)  # means in fp32, a division a pixel
    assert terms["accuracy"].item() == pytest.approx((logits.argmax(1) == batch["labels"]).mean(), abs=1e-3)


def test_quick_metrics(fine):
    segmenter = networks.open_segmenter(fine)
    results, references = (np.stack([smooth_image(48, 64, k + i) for i in range(5)]) for k in (0, 10))
    found, features = segmenter.segment(results)
    masks = found.copy()
    masks[:, :12] = (masks[:, :12] + 1) % 29                            # a quarter of the rows is wrong
    real = np.stack([smooth_image(48, 64, 20 + i) for i in range(4)])
    numbers = quick.quick_metrics(results, masks, references, segmenter, quick.image_moments(segmenter, real),
                                  batch_size=2)
    assert numbers["M"] == pytest.approx(75)
    assert numbers["S"] == pytest.approx(100 * np.mean([style_similarity(a, b)
                                                        for a, b in zip(results, references)]))
    theirs = segmenter.features(real)
    assert numbers["FD-seg"] == pytest.approx(frechet_distance(
        features.mean(0), np.cov(features.T), theirs.mean(0), np.cov(theirs.T)), rel=1e-5)
    without = quick.quick_metrics(results, masks, references)
    assert without == {"M": None, "FD-seg": None, "S": pytest.approx(numbers["S"])}


def test_what_a_user_can_cause(tmp_path):
    absent = run_tool("train_segmenter", "--data", tmp_path / "absent", "--output", tmp_path / "run")
    one_error(absent, tmp_path / "absent")
    unknown = run_tool("train_segmenter", "--data", tmp_path, "--output", tmp_path / "run",
                       "segmenter.size=b0")
    one_error(unknown, "segmenter.size=b0: is not an option")


@pytest.mark.slow
def test_training_by_the_tool(tmp_path):
    made = run_tool("make_landscapes", "--count=8", "--size", 128, 96, "--output", tmp_path / "data")
    assert made.returncode == 0, made.stderr
    tree = {"image_size": [64, 48], "segmenter": {**{k: list(v) if isinstance(v, tuple) else v
                                                     for k, v in SMALL.items()}, "patch": 3},
            "segmenter_training": {"learning_rate": 5.0e-3, "batch_size": 8, "steps": 60, "warmup_steps": 5,
                                   "ema_rate": 0.8, "least_crop": 1.0, "save_every": 30, "sample_every": 60}}
    configs.save(tmp_path / "small.yaml", tree)
    command = ["train_segmenter", "--config", tmp_path / "small.yaml", "--data", tmp_path / "data",
               "--output", tmp_path / "run"]
    for steps in (30, 60):                                              # the second goes on with the first
        done = run_tool(*command, f"segmenter_training.steps={steps}")
        assert done.returncode == 0, done.stderr
    assert "continuing at step 30" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50, 60]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"] and lines[-1]["accuracy"] > lines[0]["accuracy"] + 0.1
    assert images.read_image(tmp_path / "run/samples-0000060.jpg").shape[1] > 6 * 64
    segmenter = networks.open_segmenter(tmp_path / "run/segmenter.safetensors")
    pairs = [make_scene(0, i, (128, 96)) for i in range(8)]
    pictures = np.stack([images.resize(picture, (64, 48)) for picture, _ in pairs])
    found, _ = segmenter.segment(pictures)
    share = np.mean([(f == images.resize(m, (64, 48), smooth=False)).mean()
                     for f, (_, m) in zip(found, pairs)])
    assert share > lines[0]["accuracy"] + 0.1
