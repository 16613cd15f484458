"""tools/sheet.py and tools/reconstruct.py, and the numbers of pictures against pictures."""
import shutil

import numpy as np
import pytest
from tiny import make_model, make_pairs, one_error, run_tool

from ldm import images
from ldm.evaluation import pixels


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets")
    (folder / "model").mkdir()
    make_model(folder / "model")
    make_pairs(folder / "in")
    return folder


def sheet(place, output, *more):
    masks, styles = ([place / "in" / kind / f"m{i}.{suffix}" for i in range(2)]
                     for kind, suffix in (("masks", "png"), ("references", "jpg")))
    return run_tool("sheet", "--model", place / "model", "--rounds", place / "model/rounds.yaml", "--masks",
                    *masks, "--references", *styles, "--output", output, *more)


def test_a_table_and_its_rows(place, tmp_path):
    for name, more, rows in (("table.png", (), 3), ("pairs.png", ("--pairs",), 2)):
        done = sheet(place, tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
        assert images.read_image(tmp_path / name).shape == (rows * (48 + 6) + 6, 3 * (64 + 6) + 6, 3)
    table, pairs = (images.read_image(tmp_path / name) for name in ("table.png", "pairs.png"))
    first, last = table[-54:-6, 76:140], table[-54:-6, 146:210]         # the second mask in both styles
    assert np.array_equal(last, pairs[-54:-6, 146:210]) and not np.array_equal(first, last)


def test_what_a_sheet_cannot_be(place, tmp_path):
    one_error(sheet(place, tmp_path / "sheet.gif"), "sheet.gif", "suffix")
    one_error(sheet(place, tmp_path / "s.png", "--pairs", "--masks", place / "in/masks/m0.png"), "--pairs")


def test_reconstructions_are_measured_and_written(place, tmp_path):
    given = ["--model", place / "model", "--images", place / "in/references", "--output", tmp_path]
    done = run_tool("reconstruct", *given)
    assert done.returncode == 0, done.stderr
    *lines, mean = done.stdout.splitlines()
    assert len(lines) == 4 and mean.startswith("mean of 4: ")
    truth, made = images.read_image(place / "in/references/m0.jpg"), images.read_image(tmp_path / "m0.png")
    assert lines[0] == f"m0.jpg: {pixels.psnr(made, truth):.2f} dB, " \
                       f"sharpness {pixels.sharpness(made, truth):.3f}"
    one_error(run_tool("reconstruct", *given[:3], tmp_path / "none"), "none")


def test_what_cannot_be_reconstructed_is_a_line_and_no_picture_is_replaced(place, tmp_path):
    for name in ("a.png", "b.jpg", "b.png"):
        shutil.copy(place / "in/masks/m0.png", tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    given = ["reconstruct", "--model", place / "model", "--images", tmp_path, "--output"]
    one_error(run_tool(*given, tmp_path), "is or contains")
    done = run_tool(*given, tmp_path / "out")
    assert done.returncode == 2 and "mean of 2: " in done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "b.png: has the name of b.jpg" in errors[0] and "c.png: cannot be read" in errors[1]
    assert errors[2].startswith("error: 2 could not be measured") and len(errors) == 3
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_psnr_and_sharpness():
    rng = np.random.default_rng(0)
    truth = rng.integers(60, 190, (32, 48, 3)).astype(np.uint8)
    assert pixels.psnr(truth, truth) == float("inf") and pixels.sharpness(truth, truth) == 1
    assert pixels.psnr(truth + 51, truth) == pytest.approx(20 * np.log10(5))
    halved = (truth // 2 + 60).astype(np.uint8)
    assert pixels.sharpness(halved, truth) == pytest.approx(0.5, abs=0.02)
    assert pixels.sharpness(truth, np.zeros_like(truth)) == pytest.approx(pixels.detail(truth))
