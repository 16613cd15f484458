"""tools/ablation.py on a tiny model: five rows, two references, a report; resumed, and refused."""
import json
import shutil

import numpy as np
import pytest
from tiny import make_model, make_pairs, one_error, run_tool

from ldm import images
from ldm.ablation import report
from ldm.evaluation.networks import SegFormer
from ldm.weights import save

ROWS = ["dm", "i2i", "refinement", "color_transfer", "ensemble"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, a second checkpoint, held-out data in the contest's form, training images, a segmenter."""
    root = tmp_path_factory.mktemp("ablation")
    make_model(root)
    one = {name: array * np.float32(1.05) for name, array in weights_of(root / "unet.safetensors").items()}
    save(root / "checkpoint.safetensors", one)
    data = make_pairs(root / "data", 4)
    (data / "masks").rename(data / "val_B_labels_resized")
    (data / "references").rename(data / "imgs")
    shutil.copytree(data / "imgs", data / "truth")
    (root / "models/segformer").mkdir(parents=True)
    network = SegFormer(hidden=(8, 16, 24, 32), depths=(1, 1, 1, 1), decoder=16)
    save(root / "models/segformer/tiny.safetensors", {k: v.numpy() for k, v in network.state_dict().items()})
    return root


def weights_of(path):
    from ldm.weights import read_state
    return read_state(path)[0]


def ablation(place, *more, count=3):
    return run_tool("ablation", "--model", place, "--rounds", place / "rounds.yaml", "--data", place / "data",
                    "--train-images", place / "data/imgs", "--count", count, "--models", place / "models",
                    "--output", place / "out", *more)


def test_all_rows_and_the_report_and_nothing_made_twice(place):
    done = ablation(place)
    assert done.returncode == 0, done.stderr
    assert "5 rows of 3 pairs, 72 network steps to go" in done.stdout        # 3 x (6 + 3 + 3 x 5)
    table = {row["name"]: row for row in json.loads((place / "out/ablation.json").read_text())["rows"]}
    assert list(table) == [*ROWS, "shuffled", "real"]
    pictures = {name: images.read_image(place / "out" / name / "m1.jpg") for name in ROWS}
    assert all(not np.array_equal(pictures[a], pictures[b]) for a, b in zip(ROWS, ROWS[1:]))
    shuffled = images.read_image(place / "out/shuffled/m1.jpg")
    assert np.array_equal(shuffled, images.read_image(place / "out/ensemble/m0.jpg"))
    numbers = table["real"]["numbers"]
    assert numbers["S"]["value"] == pytest.approx(100) and numbers["T"]["value"] is None
    assert {"M", "FD-seg"} <= {name for name, entry in numbers.items() if entry["value"] is not None}
    page = (place / "out/ablation.html").read_text()
    assert page.count("<img") == 3 * 8 and "http" not in page.split("Settings and hashes")[0]
    assert "T is n/a: needs A, FID" in page and page.count("<svg") == 3
    text = (place / "out/ablation.md").read_text()
    assert "| + ensemble | " in text and "93.76" in text and "fd-seg: segformer" in text.lower()
    assert images.read_image(place / "out/ablation.jpg").shape == (18 + 3 * 54 + 6, 8 * 70 + 6, 3)
    stamps = {p: p.stat().st_mtime_ns for name in ROWS for p in (place / "out" / name).glob("*.jpg")}
    (place / "out/i2i/m2.jpg").unlink()
    again = ablation(place)
    assert "5 rows of 3 pairs, 3 network steps to go" in again.stdout
    assert {p for p, t in stamps.items() if p.stat().st_mtime_ns != t} == {place / "out/i2i/m2.jpg"}


def test_bad_input(place):
    one_error(ablation(place, count=9), "holds 4 usable pairs", "--count 9")
    one_error(ablation(place, "--checkpoint", place / "none.safetensors"), "none.safetensors: is not a file")
    one_error(ablation(place, "--rounds", place / "data/absent.yaml"), "absent.yaml")
    one_error(ablation(place, "--seed", 1), "holds results made otherwise (seed)")
    one_error(ablation(place, "--train-images", place / "empty"), "empty: is not a folder")
    one_error(ablation(place, "--output", place), "is or contains", "--output")


def test_the_papers_rows_stand_beside_ours():
    numbers = {"M": {"value": 50.0}, "FD-seg": {"value": None}, "S": {"value": -3.5}, "T": {"value": None}}
    rows = [{"name": name, "title": name.upper(), "numbers": numbers} for name in ("dm", "real")]
    headings, body = report.cells(rows)
    assert headings == ["", "M", "M, paper", "FD-seg", "S", "S, paper", "T", "T, paper"]
    assert body == [["DM", "50.00", "91.01", "n/a", "-3.50", "27.90", "n/a", "55.79"],
                    ["REAL", "50.00", "", "n/a", "-3.50", "", "n/a", ""]]
    assert report.plot(rows, "T") == "" and 'width="0.0"' in report.plot(rows, "S")
