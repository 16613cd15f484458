"""Procedural landscapes: the same from (seed, index) anywhere, all classes, palettes that show, the tool."""
import hashlib
import json
import subprocess
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import run_tool, start_tool

from ldm.datasets.procedural import SIZE, make_photo, make_scene
from ldm.datasets.procedural.terrain import LABEL, View
from ldm.datasets.procedural.water import _mirrored
from ldm.images import read_image, read_labels

ROOT = Path(__file__).resolve().parents[1]
SMALL = 128, 96


def digest(seed, index):
    image, labels = make_scene(seed, index)
    return hashlib.sha256(image.tobytes() + labels.tobytes()).hexdigest()


def landscapes(*arguments):
    return run_tool("make_landscapes", *arguments)


def test_sizes_and_types():
    image, labels = make_scene(0, 3)
    assert image.shape == (SIZE[1], SIZE[0], 3) == (384, 512, 3) and image.dtype == np.uint8
    assert labels.shape == (384, 512) and labels.dtype == np.uint8


def test_same_in_another_process():
    code = ("import sys; sys.path[:0] = [%r, %r]; from test_procedural import digest; "
            "print(digest(5, 40), digest(5, 2))" % (str(ROOT), str(ROOT / "test")))
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [digest(5, 2), digest(5, 40)] == other.stdout.split()[::-1]       # and in the other order


def test_a_shadow_beside_the_picture():
    """In this scene a tree at the border throws its shadow outwards."""
    image, _ = make_scene(1, 232)
    assert image.std() > 10


def test_scenes_differ():
    assert len({digest(seed, index) for seed in (0, 1) for index in range(3)}) == 6


def test_small_scene_is_the_same_composition():
    """The label map at a quarter of the size agrees with the reduced one."""
    agree = [(make_scene(2, k)[1][2::4, 2::4] == make_scene(2, k, SMALL)[1]).mean() for k in range(4)]
    assert min(agree) > 0.75


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


def spectral_slope(image):
    """Exponent of the fall of a picture's power with the frequency, from 0.01 to 0.35 cycles a pixel."""
    gray = image.mean(axis=2)
    window = np.hanning(gray.shape[0])[:, None] * np.hanning(gray.shape[1])[None]
    power = np.abs(np.fft.fft2((gray - gray.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(gray.shape[0])[:, None], np.fft.fftfreq(gray.shape[1])[None])
    edges = np.geomspace(0.01, 0.35, 14)
    means = [power[(radius >= low) & (radius < high)].mean() for low, high in zip(edges, edges[1:])]
    return np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(means), 1)[0]


def test_photos_have_the_statistics_of_photographs():
    """Their power falls as that of photographs, colours go together, some are dark and some are bright."""
    photos = [make_photo(3, index, (256, 192)) for index in range(24)]
    assert -3.4 < np.median([spectral_slope(photo) for photo in photos]) < -2.2
    together = [np.corrcoef(photo.reshape(-1, 3).T)[0, 1] for photo in photos]
    assert 0.6 < np.median(together) < 0.99
    means = [photo.mean() for photo in photos]
    assert min(means) < 80 < 140 < max(means)
    kurtosis = [((d - d.mean()) ** 4).mean() / d.var() ** 2
                for d in (np.diff(photo.mean(axis=2), axis=1) for photo in photos)]
    assert np.median(kurtosis) > 6                               # edges: a normal distribution has 3


def test_photos_are_the_same_from_seed_and_number():
    first, second = make_photo(4, 1, SMALL), make_photo(4, 2, SMALL)
    assert first.shape == (96, 128, 3) and first.dtype == np.uint8 and (first != second).any()
    np.testing.assert_array_equal(make_photo(4, 1, SMALL), first)


def test_water_mirrors_what_stands_over_it():
    """A lake under its far shore shows the trees over it upside down, and below them the sky."""
    view = View(64, 48, 0.5, 0.5, 0.1)
    image = np.zeros((48, 64, 3), np.float32)
    labels = np.full((48, 64), LABEL["lake"], np.uint8)
    depth = view.focal / np.maximum(np.arange(48)[:, None] + 0.5 - view.horizon, 0.5) * np.ones((1, 64))
    labels[:20], depth[:20] = LABEL["sky"], np.inf
    labels[20:26], depth[20:26] = LABEL["tree"], view.focal / (26 - view.horizon)
    image[:20], image[20:26] = 1.0, np.linspace(0, 0.5, 6)[:, None, None]
    mirror = _mirrored(image, labels, depth.astype(np.float32), image[:20], np.full(64, 20), view, 26)
    np.testing.assert_array_equal(mirror[:6], image[20:26][::-1])
    assert (mirror[6:] == 1).all()


def test_tool_writes_the_training_form_and_resumes(tmp_path):
    assert landscapes("--count", 2, "--seed", 9, "--start", 4, "--output", tmp_path).returncode == 0
    imgs, masks = tmp_path / "train_resized" / "imgs", tmp_path / "train_resized" / "labels"
    assert sorted(p.name for p in imgs.iterdir()) == ["00004.jpg", "00005.jpg"]
    assert sorted(p.name for p in masks.iterdir()) == ["00004.png", "00005.png"]
    image, labels = make_scene(9, 5)
    np.testing.assert_array_equal(read_labels(masks / "00005.png"), labels)
    assert np.abs(read_image(imgs / "00005.jpg").astype(int) - image).mean() < 4
    (masks / "00004.png").unlink()
    kept = (imgs / "00004.jpg").stat().st_mtime_ns
    again = start_tool("make_landscapes", "--count", 3, "--seed", 9, "--start", 4, "--output", tmp_path,
                       "--processes", 2)
    assert again.returncode == 0
    assert (imgs / "00004.jpg").stat().st_mtime_ns == kept and len(list(masks.iterdir())) == 3
    np.testing.assert_array_equal(read_labels(masks / "00004.png"), make_scene(9, 4)[1])


def test_tool_writes_the_test_form(tmp_path):
    assert landscapes("--count", 2, "--seed", 1, "--output", tmp_path, "--split", "test").returncode == 0
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
    assert landscapes(*options).returncode == 0
    if not recorded:
        (tmp_path / "scenes.json").unlink()                     # a folder of before there was such a file
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused = landscapes(*options, *other)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "another --output" in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert landscapes(*options).returncode == 0


def test_more_scenes_keep_the_pairs_of_the_first(tmp_path):
    options = ("--count", 1, "--size", 32, 32, "--split", "test", "--output", tmp_path)
    assert landscapes(*options).returncode == 0 and landscapes(*options, "--start", 1).returncode == 0
    pairs = json.loads((tmp_path / "label_to_img.json").read_text())
    assert pairs == {"00000.png": "00001.jpg", "00001.png": "00002.jpg"}


def test_tool_writes_photos(tmp_path):
    made = landscapes("--count", 2, "--kind", "photo", "--size", 128, 96, "--output", tmp_path)
    assert made.returncode == 0
    assert [p.name for p in sorted(tmp_path.rglob("*.jpg"))] == ["00000.jpg", "00001.jpg"]
    image = read_image(tmp_path / "imgs" / "00001.jpg")
    assert np.abs(image.astype(int) - make_photo(0, 1, (128, 96))).mean() < 6
    assert not list(tmp_path.rglob("*.png"))
    mixed = landscapes("--count", 2, "--size", 128, 96, "--output", tmp_path)
    assert mixed.returncode == 2 and "another --output" in mixed.stderr


def test_scenes_of_an_older_drawing_are_not_mixed(tmp_path):
    options = ("--count", 1, "--size", 32, 32, "--output", tmp_path)
    assert landscapes(*options).returncode == 0
    record = json.loads((tmp_path / "scenes.json").read_text())
    (tmp_path / "scenes.json").write_text(json.dumps({k: v for k, v in record.items() if k != "drawing"}))
    assert landscapes(*options).returncode == 2


@pytest.mark.parametrize("arguments, culprit", [
    (("--count", 1, "--kind", "photo", "--split", "test", "--output", "{}"), "--split"),
    (("--count", -1, "--output", "{}"), "--count"),
    (("--count", 10 ** 30, "--output", "{}"), "--count"),
    (("--count", 1, "--start", 10 ** 30, "--output", "{}"), "--start"),
    (("--count", 1, "--seed", -4, "--output", "{}"), "--seed"),
    (("--count", 1, "--processes", 0, "--output", "{}"), "--processes"),
    (("--count", 1, "--output", "{}/file/inside"), "file/inside"),
    (("--count", "many", "--output", "{}"), "--count"),
])
def test_tool_errors_are_one_line(tmp_path, arguments, culprit):
    (tmp_path / "file").write_text("no folder")
    result = landscapes(*(str(a).format(tmp_path) for a in arguments))
    assert result.returncode == 2 and result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and culprit in lines[0]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_no_more_processes_than_scenes(tmp_path, monkeypatch):
    asked = []

    def pool(count, *given):
        asked.append(count)
        return ThreadPool(count)
    monkeypatch.setattr("multiprocessing.get_context", lambda kind: SimpleNamespace(Pool=pool))
    done = run_tool("make_landscapes", "--count", 1, "--processes", 12, "--size", 64, 48, "--output",
                    tmp_path)
    assert done.returncode == 0 and asked == [1], done.stderr


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) >= "2.0.0", reason="numpy 1 can say where 2 differs")
def test_scenes_do_not_depend_on_numpys_promotion_rules(tmp_path):
    """numpy 2 lets its own numbers widen float32 arrays, which numpy 1 did not."""
    environment = {"NPY_PROMOTION_STATE": "weak_and_warn",
                   "PYTHONWARNINGS": "always:result dtype changed:UserWarning"}
    done = start_tool("make_landscapes", "--count", 4, "--seed", 3, "--size", 64, 48, "--output",
                      tmp_path / "scenes", env=environment, check=True)
    said = [line for line in done.stderr.splitlines() if "result dtype changed" in line and "/ldm/" in line]
    assert "result dtype changed" in done.stderr and not said, "\n".join(said)      # numpy's own are there
