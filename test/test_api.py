"""The Python API: its pictures are those of tools/infer.py, its steps, variations and settings."""
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from tiny import make_model, make_pairs, one_error, run_tool

from ldm import Pipeline, images
from ldm import config as configs
from ldm.diffusion.samplers import SAMPLERS
from ldm.errors import UserError
from ldm.inference import provenance, rounds
from ldm.labels import COLORS


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    make_model(folder / "model")
    make_pairs(folder / "in")
    return folder


@pytest.fixture(scope="module")
def pipe(place):
    return Pipeline.load(place / "model", place / "model/rounds.yaml")


@pytest.fixture(scope="module")
def files(place):
    return str(place / "in/masks/m1.png"), str(place / "in/references/m1.jpg")


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_importing_the_package_loads_no_jittor():
    code = "import sys, ldm; assert 'jittor' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("overrides", [[], ["pixels=entry"], ["sampler=ddpm", "rounds.*.guidance=1"],
                                       ["rounds.*.guidance_interval=[0.1, 0.4]"]])
def test_pictures_are_those_of_the_tool(place, pipe, overrides):
    """Bit for bit; a JPEG of exact pixels loses something, so that those are compared as PNG."""
    suffix = "jpg" if "pixels=entry" in overrides else "png"
    out = place / f"out{len(overrides)}{suffix}"
    done = run_tool("infer", "--model", place / "model", "--rounds", place / "model/rounds.yaml", "--masks",
                    place / "in/masks", "--references", place / "in/references", "--output", out, "--seed", 5,
                    "--format", suffix, "--batch-size", 3, *overrides)
    assert done.returncode == 0, done.stderr
    masks, styles = (sorted((place / "in" / name).iterdir()) for name in ("masks", "references"))
    made = pipe.with_rounds(rounds.load(place / "model/rounds.yaml", overrides))(masks, styles, seed=5)
    assert all(same(picture, images.read_image(out / f"{path.stem}.{suffix}"))
               for picture, path in zip(made, masks))
    told = provenance.read(out / f"m2.{suffix}")
    assert told == (None if suffix == "jpg" else json.loads(made[2].info["iidm"]))


def test_what_a_picture_says_makes_it_again(place, pipe, files, tmp_path):
    image = pipe(*files, seed=9, name="lake")
    for name in ("a.png", "b.JPG"):
        Pipeline.save(image, tmp_path / name)
        told = provenance.read(tmp_path / name)
        assert told["seed"] == 9 and told["name"] == "lake" and told["size"] == [64, 48]
        assert told["weights"].keys() == {"unet", "autoencoder"} and told["model"] == "model"
    assert same(Image.open(tmp_path / "a.png"), image)
    again = pipe.with_rounds(told["settings"])(*files, seed=told["seed"], name=told["name"])
    assert same(again, image)


def test_paths_images_and_arrays_of_any_size_are_equal(pipe, files):
    mask, style = Image.open(files[0]), Image.open(files[1])
    expected = pipe(*files)
    for m in (mask, np.asarray(mask), np.asarray(mask).astype(np.int64), mask.resize((128, 96), 0)):
        for s in (style, np.asarray(style)):
            assert same(pipe(m, s, name="m1"), expected)
    assert not same(pipe(mask, style), expected)                    # it is called "image"
    colors = COLORS[np.asarray(mask)]
    assert same(pipe(colors, style, name="m1", mask_colors="ours"), expected)
    with pytest.raises(UserError, match="colours without a class"):
        pipe(colors, style, mask_colors="voc")


def test_variations_are_what_each_seed_makes(pipe, files):
    four = pipe(*files, seed=(k for k in range(4)))
    assert len(four) == 4 and same(four[2], pipe(*files, seed=2)) and not same(four[0], four[1])
    assert pipe.grid(four).size == (4 * 64 + 5 * 6, 48 + 12) and pipe.grid(four, columns=2).size[1] == 114
    assert [json.loads(image.info["iidm"])["seed"] for image in four] == [0, 1, 2, 3]


def test_lists_give_lists(pipe, files):
    one = pipe([files[0]], files[1])
    assert isinstance(one, list) and same(one[0], pipe(*files))
    made = pipe([files[0], files[0].replace("m1", "m2")], files[1], seed=[1, 2])
    assert [json.loads(image.info["iidm"])["name"] for image in made] == ["m1", "m1", "m2", "m2"]
    assert same(made[1], pipe(*files, seed=2))


def test_steps_show_the_picture_and_end_with_it(pipe, files):
    steps = list(pipe.steps(*files, seed=[0, 1]))
    assert [(s.round, s.rounds, s.index, s.count) for s in steps] == [
        (1, 2, 1, 3), (1, 2, 2, 3), (1, 2, 3, 3), (2, 2, 1, 2), (2, 2, 2, 2)]
    assert pipe.step_count == 5 and [s.image is None for s in steps] == [True] * 4 + [False]
    assert [same(*pair) for pair in zip(steps[-1].images, pipe(*files, seed=[0, 1]))] == [True, True]
    previews = steps[2].previews()
    assert len(previews) == 2 and previews[0].size == pipe.latent_size
    assert same(previews[0], steps[2].preview())
    assert (pipe.model.folder / "preview.yaml").exists()


def test_a_loop_may_be_left(pipe, files):
    step = next(pipe.steps(*files))
    assert step.image is None and same(pipe(*files), pipe(*files))


def test_gradients_are_as_they_were_between_steps(pipe, files):
    from ldm.backend import jt
    for _ in pipe.steps(*files):
        assert not jt.flags.no_grad


def test_a_model_names_the_rounds_that_it_is_used_with(place, tmp_path):
    for file in (place / "model").glob("*.safetensors"):
        (tmp_path / file.name).symlink_to(file)
    tree = yaml.safe_load((place / "model/config.yaml").read_text())
    for named, expected in ({}, "entry"), ({"rounds": "fast"}, "fast"):
        tree.pop("rounds", None)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**tree, **named}))
        assert Pipeline.load(tmp_path).settings == rounds.load(expected)
    done = run_tool("infer", "--model", tmp_path, "--masks", place / "in/masks", "--references",
                    place / "in/references", "--output", tmp_path / "out", "--dry-run", "rounds.0.steps=4")
    assert done.returncode == 0 and "38 steps each" in done.stdout, done.stderr
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**tree, "rounds": "slow"}))
    with pytest.raises(UserError, match="config.yaml.*rounds.*fast"):
        Pipeline.load(tmp_path)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_part_of_the_style_is_kept(pipe, files, sampler):
    """What is kept is the style's, pixel by pixel; the network sees it so, whatever the sampler."""
    other = pipe.with_rounds(sampler=sampler)
    mask, style = files
    width, height = pipe.size
    own = images.read_image(style, pipe.size)
    plain = np.asarray(other(mask, style, seed=3))
    keep = np.zeros((height, width), bool)
    assert np.array_equal(np.asarray(other(mask, style, seed=3, keep=keep)), plain)
    keep[:height // 2] = True
    for step in other.steps(mask, style, seed=3, keep=keep):
        latents = step._clean()
    half = np.asarray(step.image)
    assert np.array_equal(half[keep], own[keep]) and not np.array_equal(half[~keep], own[~keep])
    assert not np.array_equal(half[~keep], plain[~keep])                # what is painted fits to it
    clean = other.refinement.encode(own)[:, :, :latents.shape[2] // 2]
    np.testing.assert_allclose(latents[:, :, :latents.shape[2] // 2], clean, atol=0.02)
    whole = Image.new("L", (300, 225), 255)
    assert np.array_equal(np.asarray(other(mask, style, keep=whole)), own)


def test_keep_needs_a_style(pipe, files):
    noise = pipe.with_rounds({"rounds": [{"strength": 0.5, "steps": 2, "from": "noise"}]})
    with pytest.raises(UserError, match="to be kept"):
        noise(files[0], keep=np.ones((4, 4)))
    image = noise(files[0], files[1], keep=np.ones((4, 4)))
    assert image.size == pipe.size
    with pytest.raises(UserError, match="keep"):
        noise(files[0], files[1], keep=np.ones(4))


def test_other_rounds_share_the_networks(pipe, files):
    fast = pipe.with_rounds("fast", guidance=2.5, **{"rounds.0.steps": 2})
    assert fast.refinement.unet is pipe.refinement.unet and fast.settings.rounds[2]["guidance"] == 2.5
    assert fast.settings.rounds[0]["steps"] == 2 and pipe.settings.rounds[0]["guidance"] == 2.0
    assert same(pipe.with_rounds(sampler="ddim")(*files), pipe(*files))
    assert pipe.with_rounds(rounds=[{"strength": 0.5, "steps": 2}]).step_count == 2
    noise = pipe.with_rounds({"rounds": [{"respacing": "ddim50", "start": 4, "from": "noise"}]})
    assert same(noise(files[0]), noise(*files))


@pytest.mark.parametrize("arguments, options, subject, word", [
    (("none.png", None), {}, "none.png", "cannot be read"),
    ((0,), {"style": None}, "style", "missing"),
    ((5, 1), {}, "mask", "is 5"),
    ((np.zeros((48, 64)), 1), {}, "mask", "float64"),
    ((np.full((48, 64), 29), 1), {}, "mask", "label 29"),
    ((np.full((48, 64), 2 ** 40), 1), {}, "mask", "holds label"),
    ((np.zeros((64, 48), np.uint8), 1), {}, "mask", "proportions"),
    ((np.zeros((0, 64), np.uint8), 1), {}, "mask", "shape"),
    ((np.zeros((2, 48, 64), np.uint8), 1), {}, "mask", "shape"),
    ((0, np.zeros((48, 64, 3))), {}, "style", "float64"),
    ((0, 3.5), {}, "style", "3.5"),
    ((0, 1), {"seed": -1}, "seed", "whole number"), ((0, 1), {"seed": 1.5}, "seed", "whole number"),
    ((0, 1), {"seed": "x"}, "seed", "whole number"), ((0, 1), {"seed": True}, "seed", "whole number"),
    ((0, 1), {"seed": []}, "seed", "empty"), ((0, 1), {"seed": [1, 2 ** 31]}, "seed", "whole number"),
    ((0, 1), {"name": 5}, "name", "text"), (([0, 0], [1, 1, 1]), {}, "mask", "list of 2"),
    (([], 1), {}, "mask", "list of 0"), ((0, 1), {"name": "\ud800"}, "name", "encoded"),
    ((0, 1), {"seed": np.array(1.5)}, "seed", "whole number"),
    ((0, 1), {"mask_colors": 5}, "mask_colors", "5"), ((0, 1), {"fit": "stretch"}, "fit", "refuse"),
    ((0, 1), {"ignore": [300000]}, "ignore", "300000"), ((0, 1), {"ignore": "x"}, "ignore", "x"),
])
def test_errors_name_what_is_wrong(pipe, files, arguments, options, subject, word):
    inputs = [files[x] if type(x) is int and x < 2 else [files[y] for y in x] if isinstance(x, list) else x
              for x in arguments]
    with pytest.raises(UserError) as caught:
        pipe(*inputs, **options)
    assert str(caught.value).startswith(f"{subject}: ") and word in str(caught.value)


@pytest.mark.parametrize("arguments, options, word", [
    (("nothing",), {}, "nothing: is not a model folder"), ((None,), {}, "model: is None"),
    (("in",), {}, "config.yaml"), ((5,), {}, "model: is 5"), (("model", "quick"), {}, "quick"),
    (("model",), {"precision": "fp8"}, "precision"), (("model",), {"size": (63, 48)}, "size: .*64 x 48"),
    (("model",), {"memory_limit": "x"}, "memory_limit"),
    (("model",), {"unet": "nothing"}, "nothing: cannot be read"),
    (("model", {"rounds": [{"strength": 0.01, "steps": 50}]}), {}, "1 to 10 steps")])
def test_what_cannot_be_loaded(place, monkeypatch, arguments, options, word):
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match=word):
        Pipeline.load(*arguments, **options)


def test_what_cannot_be_arranged_or_saved(pipe, tmp_path):
    image = Image.new("RGB", (4, 3))
    for wrong in ([], image, [image, image.resize((3, 3))], [np.zeros((3, 4, 3), np.uint8)]):
        with pytest.raises(UserError, match="^pictures: "):
            pipe.grid(wrong)
    with pytest.raises(UserError, match="^columns: "):
        pipe.grid([image], columns=0)
    (tmp_path / "folder.png").mkdir()
    for picture, name in ((image, "a.webp"), (np.zeros((3, 4, 3), np.uint8), "a.png"), (image, "folder.png")):
        with pytest.raises(UserError):
            pipe.save(picture, tmp_path / name)


# ---- other sizes, several seeds, no references: the tool and the API ---------------------------------------

NOISE = {"rounds": [{"strength": 0.5, "steps": 2, "guidance": 2.0, "from": "noise"}]}


@pytest.fixture(scope="module")
def portrait(place):
    return Pipeline.load(place / "model", NOISE, size=(48, 64))


def test_a_portrait_of_the_tool_is_that_of_the_api(place, portrait):
    masks = place / "portraits"
    masks.mkdir()
    for path in (place / "in/masks").iterdir():
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(masks / path.name)
    configs.save(place / "noise.yaml", NOISE)
    arguments = ("infer", "--model", place / "model", "--rounds", place / "noise.yaml", "--masks", masks,
                 "--no-reference", "--size", 48, 64, "--seeds", "2..3", "--output", place / "portraits-out",
                 "--format", "png")
    dry, done, again = run_tool(*arguments, "--dry-run"), run_tool(*arguments), run_tool(*arguments)
    assert done.returncode == 0, done.stderr
    assert "8 to make" in dry.stdout and "48 x 64" in dry.stdout and "8 exist already" in again.stdout
    for image, seed in zip(portrait(masks / "m1.png", seed=[2, 3]), (2, 3)):
        assert image.size == (48, 64)
        assert same(image, images.read_image(place / f"portraits-out/m1_seed{seed}.png"))
        assert provenance.read(place / f"portraits-out/m1_seed{seed}.png") == json.loads(image.info["iidm"])
    one_error(run_tool(*arguments, "--size", 40, 64), place / "portraits-out", "image_size")


def test_other_shapes_of_the_mask(portrait, files):
    with pytest.raises(UserError, match="proportions than 3 : 4"):
        portrait(files[0])
    assert portrait(files[0], fit="crop").size == (48, 64)


@pytest.mark.parametrize("options, words", [
    (["--size", 50, 64], ("--size", "48 x 64")), (["--size", 0, 0], ("--size", "8 x 8")),
    (["--seeds", "3..1"], ("--seeds", "3..1")),
    (["--seeds", "0..1", "--seed", 1], ("--seed", "not allowed")),
    (["--no-reference"], ("--no-reference", "noise")),
    (["--no-reference", "--pairs", "p.json"], ("--no-reference", "--pairs")),
    (["--mask-colors", "spade"], ("spade", "voc")), (["--rounds", "quick"], ("quick", "fast")),
])
def test_options_that_do_not_fit(place, options, words):
    done = run_tool("infer", "--model", place / "model", "--rounds", place / "model/rounds.yaml", "--masks",
                    place / "in/masks", "--output", place / "none", *options,
                    *([] if "--no-reference" in options else ["--references", place / "in/references"]))
    one_error(done, *words)
    assert not (place / "none").exists()
