"""Procedural landscapes: the same from (seed, index) anywhere, all classes, palettes that show, the tool."""
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ldm.datasets.procedural import PALETTES, SIZE, make_scene, palette_name
from ldm.images import read_image, read_labels
from ldm.labels import NAMES, NUM_CLASSES

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "make_landscapes.py"
SMALL = 128, 96


def digest(seed, index):
    image, labels = make_scene(seed, index)
    return hashlib.sha256(image.tobytes() + labels.tobytes()).hexdigest()


def run_tool(*arguments):
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def many():
    """500 small scenes of one seed: (palette names, images, label maps)."""
    scenes = [make_scene(11, index, SMALL) for index in range(500)]
    names = np.array([palette_name(11, index) for index in range(500)])
    return names, np.stack([image for image, _ in scenes]), np.stack([labels for _, labels in scenes])


def test_sizes_and_types():
    image, labels = make_scene(0, 3)
    assert image.shape == (SIZE[1], SIZE[0], 3) == (384, 512, 3) and image.dtype == np.uint8
    assert labels.shape == (384, 512) and labels.dtype == np.uint8


def test_same_in_another_process():
    code = ("import sys; sys.path[:0] = [%r, %r]; from test_procedural import digest; "
            "print(digest(5, 40), digest(5, 2))" % (str(ROOT), str(ROOT / "test")))
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [digest(5, 2), digest(5, 40)] == other.stdout.split()[::-1]       # and in the other order


def test_scenes_differ():
    assert len({digest(seed, index) for seed in (0, 1) for index in range(3)}) == 6


def test_every_class_in_one_scene_of_a_hundred(many):
    _, _, labels = many
    assert labels.max() == NUM_CLASSES - 1
    least = 6                                                    # pixels of 128 x 96
    counts = np.array([np.bincount(one.ravel(), minlength=NUM_CLASSES) for one in labels])
    scenes = (counts >= least).sum(axis=0)
    rare = {NAMES[k]: int(scenes[k]) for k in np.flatnonzero(scenes < 5)}
    assert not rare, f"of 500 scenes these are in fewer than 5: {rare}"


def test_regions_are_large(many):
    """Five regions cover most of a picture, and no class fills all of it."""
    _, _, labels = many
    shares = np.sort([np.bincount(one.ravel(), minlength=NUM_CLASSES) / one.size for one in labels], axis=1)
    assert shares[:, -5:].sum(axis=1).mean() > 0.9
    assert shares[:, -1].max() < 0.85


def test_small_scene_is_the_same_composition():
    """The label map at a quarter of the size agrees with the reduced one."""
    agree = [(make_scene(2, k)[1][2::4, 2::4] == make_scene(2, k, SMALL)[1]).mean() for k in range(4)]
    assert min(agree) > 0.75


def test_palette_decides_the_colours(many):
    """Colour histograms (8 x 8 x 8) correlate within a palette and hardly across."""
    names, images, _ = many
    assert set(names) == set(PALETTES) and len(PALETTES) >= 8
    bins = (images.astype(np.int32) // 32) @ np.array([64, 8, 1])
    correlation = np.corrcoef([np.bincount(b.ravel(), minlength=512) for b in bins])
    same = names[:, None] == names[None]
    within, across = same & ~np.eye(len(names), dtype=bool), ~same
    assert correlation[within].mean() > correlation[across].mean() + 0.4
    for name in PALETTES:
        mine = names == name
        inside = correlation[np.ix_(mine, mine)].sum() - mine.sum()
        assert inside / (mine.sum() * (mine.sum() - 1)) > correlation[np.ix_(mine, ~mine)].mean() + 0.2, name


def test_palette_is_independent_of_what_is_shown(many):
    """Scenes of one palette show as much water, wood and building as others (chance: 0.08)."""
    names, _, labels = many
    for group in (("lake", "sea", "river", "water"), ("tree",), ("house", "building"), ("road", "path")):
        shows = np.isin(labels, [NAMES.index(n) for n in group]).mean(axis=(1, 2)) > 0.02
        shares = [shows[names == name].mean() for name in PALETTES]
        assert np.ptp(shares) < 0.5 and np.std(shares) < 0.2


def test_labels_are_aligned_with_the_picture():
    """Outlines in the label map are where the picture changes: steps there beat those four pixels aside."""
    ratios = []
    for index in range(6):
        image, labels = make_scene(4, index)
        gray = image.astype(np.float32).mean(axis=2)
        step = np.abs(gray[:, 1:] - gray[:, :-1])
        outline = labels[:, 1:] != labels[:, :-1]
        shifted = np.roll(outline, 4, axis=1) & ~outline
        ratios.append(step[outline].mean() / step[shifted].mean())
    assert np.median(ratios) > 2


def test_tool_writes_the_training_form_and_resumes(tmp_path):
    assert run_tool("--count", 2, "--seed", 9, "--start", 4, "--output", tmp_path).returncode == 0
    imgs, masks = tmp_path / "train_resized" / "imgs", tmp_path / "train_resized" / "labels"
    assert sorted(p.name for p in imgs.iterdir()) == ["00004.jpg", "00005.jpg"]
    assert sorted(p.name for p in masks.iterdir()) == ["00004.png", "00005.png"]
    image, labels = make_scene(9, 5)
    np.testing.assert_array_equal(read_labels(masks / "00005.png"), labels)
    assert np.abs(read_image(imgs / "00005.jpg").astype(int) - image).mean() < 4
    (masks / "00004.png").unlink()
    kept = (imgs / "00004.jpg").stat().st_mtime_ns
    again = run_tool("--count", 3, "--seed", 9, "--start", 4, "--output", tmp_path, "--processes", 2)
    assert again.returncode == 0
    assert (imgs / "00004.jpg").stat().st_mtime_ns == kept and len(list(masks.iterdir())) == 3
    np.testing.assert_array_equal(read_labels(masks / "00004.png"), make_scene(9, 4)[1])


def test_tool_writes_the_test_form(tmp_path):
    assert run_tool("--count", 2, "--seed", 1, "--output", tmp_path, "--split", "test").returncode == 0
    pairs = json.loads((tmp_path / "label_to_img.json").read_text())
    assert pairs == {"00000.png": "00001.jpg", "00001.png": "00002.jpg"}
    assert all((tmp_path / "imgs" / name).exists() for name in pairs.values())
    assert sorted(p.name for p in (tmp_path / "val_B_labels_resized").iterdir()) == sorted(pairs)
    assert (tmp_path / "truth" / "00001.jpg").read_bytes() == (tmp_path / "imgs" / "00001.jpg").read_bytes()


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("other", [("--seed", 2), ("--size", 40, 32), ("--split", "test"),
                                   ("--start", 5, "--seed", 2)])
def test_scenes_of_another_kind_are_not_mixed(tmp_path, recorded, other):
    options = ("--count", 1, "--seed", 1, "--size", 32, 32, "--output", tmp_path)
    assert run_tool(*options).returncode == 0
    if not recorded:
        (tmp_path / "scenes.json").unlink()                     # a folder of before there was such a file
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused = run_tool(*options, *other)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "another --output" in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert run_tool(*options).returncode == 0


def test_more_scenes_keep_the_pairs_of_the_first(tmp_path):
    options = ("--count", 1, "--size", 32, 32, "--split", "test", "--output", tmp_path)
    assert run_tool(*options).returncode == 0 and run_tool(*options, "--start", 1).returncode == 0
    pairs = json.loads((tmp_path / "label_to_img.json").read_text())
    assert pairs == {"00000.png": "00001.jpg", "00001.png": "00002.jpg"}


@pytest.mark.parametrize("arguments, culprit", [
    (("--count", -1, "--output", "{}"), "--count"),
    (("--count", 1, "--seed", -4, "--output", "{}"), "--seed"),
    (("--count", 1, "--processes", 0, "--output", "{}"), "--processes"),
    (("--count", 1, "--output", "{}/file/inside"), "file/inside"),
    (("--count", "many", "--output", "{}"), "--count"),
])
def test_tool_errors_are_one_line(tmp_path, arguments, culprit):
    (tmp_path / "file").write_text("no folder")
    result = run_tool(*(str(a).format(tmp_path) for a in arguments))
    assert result.returncode == 2 and result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and culprit in lines[0]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
