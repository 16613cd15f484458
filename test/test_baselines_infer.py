"""tools/infer.py with GANs: every kind, the same job, record and overview; seeds; what a user can cause."""
import json
import shutil

import numpy as np
import pytest
from tiny import make_pairs, one_error, run_tool
from tiny_gan import KINDS, make_model

from ldm import config as configs
from ldm import images, weights
from ldm.errors import UserError
from ldm.inference import makers
from ldm.inference.batch import Batch
from ldm.platform import runtime


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of tiny models, and pairs: the references' label maps are the next masks."""
    root = tmp_path_factory.mktemp("gans")
    for kind in KINDS:
        make_model(root / kind, kind)
    make_pairs(root, 3, (64, 32))
    (root / "reference_masks").mkdir()
    for i in range(3):
        shutil.copy(root / f"masks/m{(i + 1) % 3}.png", root / f"reference_masks/m{i}.png")
    return root


def infer(place, kind, *more):
    maps = ("--reference-masks", place / "reference_masks") if kind == "sean" else ()
    return run_tool("infer", "--model", place / kind, "--masks", place / "masks", "--references",
                    place / "references", "--output", place / "out" / kind, "--format", "png", *maps, *more)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_made_once(place, kind):
    done = infer(place, kind)
    assert done.returncode == 0, done.stderr
    assert "3 to make" in done.stdout and "1 steps each" in done.stdout
    folder = place / "out" / kind
    found = [images.read_image(path) for path in sorted(folder.glob("*.png"))]
    assert [picture.shape for picture in found] == [(32, 64, 3)] * 3
    assert kind == "scgan" or not np.array_equal(found[0], found[1])    # SCGAN's new weights: all saturated
    assert (folder / "about/overview.jpg").exists()
    before = (folder / "m1.png").read_bytes()
    (folder / "m1.png").unlink()
    again = infer(place, kind, "--batch-size", 2)
    assert "1 to make, 2 exist already" in again.stdout
    assert (folder / "m1.png").read_bytes() == before
    one_error(infer(place, kind, "--seed", 1), "made otherwise", "seed")


def test_a_changed_label_map_of_a_reference_is_another_input(place):
    infer(place, "sean")
    first = (place / "out/sean/m0.png").read_bytes()
    shutil.copy(place / "masks/m0.png", place / "reference_masks/m0.png")
    done = infer(place, "sean")
    assert "1 to make, 2 exist already" in done.stdout
    assert (place / "out/sean/m0.png").read_bytes() != first


@pytest.mark.parametrize("kind", ["gaugan", "scgan", "sean"])
def test_what_a_picture_depends_on(place, kind):
    pipeline = makers.of_folder(place / kind, None).load()
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 29, (1, 32, 64), np.uint8)
    one, other = (rng.integers(0, 256, (1, 32, 64, 3), np.uint8) for _ in range(2))

    def made(reference, seed, name="a"):
        batch = Batch(masks, reference, [name], [seed], masks if kind == "sean" else None)
        return pipeline.network, pipeline.pictures(batch)[0].astype(int)
    network, first = made(one, 0)
    if kind == "gaugan":                        # new weights end near grey: let the style be seen
        from ldm.backend import jt
        network.generator.conv_img.weight.assign(jt.ones(network.generator.conv_img.weight.shape))
        first = made(one, 0)[1]
    np.testing.assert_array_equal(first, made(one, 0)[1])
    if kind == "scgan":
        np.testing.assert_array_equal(first, made(other, 1)[1])
    else:
        assert pipeline.maker.reads_reference_maps == (kind == "sean")
    if kind == "gaugan":
        assert (first != made(other, 0)[1]).any() and (first != made(one, 1)[1]).any()


def test_what_a_user_can_cause(place, tmp_path):
    def job(model, *more):
        return run_tool("infer", "--model", model, "--masks", place / "masks", "--references",
                        place / "references", "--output", tmp_path / "out", *more)
    one_error(job(place / "sean"), "--reference-masks", "not given")
    one_error(job(place / "clade", "--reference-masks", place / "masks"), "--reference-masks", "leave it out")
    if runtime.cpu_has_bf16():
        one_error(job(place / "clade", "--precision", "bf16"), "--precision", "clade")
    one_error(job(place / "clade", "sampler=ddpm"), "--rounds", "clade")
    shutil.copytree(place / "gaugan", tmp_path / "mixed")
    shutil.copy(place / "clade/generator.safetensors", tmp_path / "mixed/generator.safetensors")
    one_error(job(tmp_path / "mixed"), "mixed/generator.safetensors", "other values of kind than")
    for name, kind in (("unknown", "pix2pix"), ("iidm", "iidm")):
        folder = tmp_path / name
        shutil.copytree(place / "gaugan", folder)
        tree = configs.load(folder / "config.yaml")
        tree["kind"] = kind
        configs.save(folder / "config.yaml", tree)
        one_error(job(folder), "config.yaml: kind" if name == "unknown" else "iidm/config.yaml")
    shutil.copytree(place / "gaugan", tmp_path / "older")
    state, config = weights.read_state(place / "gaugan/generator.safetensors")
    weights.save(tmp_path / "older/generator.safetensors", state, {**config, "kind": "clade"})
    one_error(job(tmp_path / "older"), "generator.safetensors", "kind")
    (tmp_path / "few").mkdir()
    shutil.copy(place / "masks/m0.png", tmp_path / "few/m0.png")
    done = job(place / "sean", "--reference-masks", tmp_path / "few")
    assert done.returncode == 2 and "1 images in" in done.stdout
    assert done.stderr.count("has no label map in") == 2


def test_a_dry_run_checks_and_makes_nothing(place, tmp_path):
    done = run_tool("infer", "--model", place / "scgan", "--masks", place / "masks", "--references",
                    place / "references", "--output", tmp_path / "out", "--dry-run")
    assert done.returncode == 0 and "memory: about" in done.stdout and not (tmp_path / "out").exists()


def test_arrays_of_other_shapes_are_refused(place):
    pipeline = makers.of_folder(place / "sean", None).load()
    masks, reference = np.zeros((1, 32, 64), np.uint8), np.zeros((1, 32, 64, 3), np.uint8)
    for batch, word in ((Batch(masks, reference, ["a"], [0]), "reference_masks"),
                        (Batch(masks, reference, ["a"], [0], masks[:, :8]), "reference_masks"),
                        (Batch(masks[:, :8], reference, ["a"], [0], masks), "masks"),
                        (Batch(masks, reference, ["a"], [0], masks + 29), "reference_masks hold|29")):
        with pytest.raises(UserError, match=word):
            pipeline.pictures(batch)
    text = pipeline.files(Batch(masks, reference, ["a"], [0], masks), "png")[0]
    assert text.startswith(b"\x89PNG") and json.dumps("sean").encode() in text
