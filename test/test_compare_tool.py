"""tools/compare.py on tiny models: rows, report, resumed, refused; the crops."""
import json
import shutil

import numpy as np
import pytest
import tiny
import tiny_gan
from tiny import make_pairs, one_error, run_tool

from ldm import config as configs
from ldm import images
from ldm.ablation import report
from ldm.ablation.crops import busiest
from ldm.evaluation.networks import SegFormer
from ldm.weights import read_state, save

ROWS = ["sean", "clade", "dm", "iidm"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """IIDM of 64 x 32, SEAN and CLADE, held-out data in the contest's form, training images, a segmenter."""
    root = tmp_path_factory.mktemp("comparison")
    size = tiny.CONFIG["image_size"]
    tiny.CONFIG["image_size"] = [64, 32]
    try:
        tiny.make_model(root)
    finally:
        tiny.CONFIG["image_size"] = size
    save(root / "checkpoint.safetensors", read_state(root / "unet.safetensors")[0])
    for kind in ("sean", "clade"):
        tiny_gan.make_model(root / "gans" / kind, kind)
    data = make_pairs(root / "data", 3, (64, 32))
    (data / "masks").rename(data / "val_B_labels_resized")
    (data / "references").rename(data / "imgs")
    shutil.copytree(data / "imgs", data / "truth")
    shutil.copytree(data / "val_B_labels_resized", data / "reference_labels")
    (root / "models/segformer").mkdir(parents=True)
    network = SegFormer(hidden=(8, 16, 24, 32), depths=(1, 1, 1, 1), decoder=16)
    save(root / "models/segformer/tiny.safetensors", {k: v.numpy() for k, v in network.state_dict().items()})
    return root


def compare(place, *more, count=2):
    return run_tool("compare", "--model", place, "--rounds", place / "rounds.yaml", "--gans", place / "gans",
                    "--data", place / "data", "--train-images", place / "data/imgs", "--count", count,
                    "--models", place / "models", "--output", place / "out", *more)


def test_rows_and_report_and_nothing_made_twice(place):
    done = compare(place)
    assert done.returncode == 0, done.stderr
    assert "4 rows of 2 pairs, 8 pictures to go" in done.stdout and "SCGAN is left out" in done.stdout
    table = {row["name"]: row for row in json.loads((place / "out/comparison.json").read_text())["rows"]}
    assert list(table) == [*ROWS, "shuffled", "real"]
    for name in ROWS:
        numbers = table[name]["numbers"]
        assert {"M", "FD-seg", "S"} <= {key for key, entry in numbers.items() if entry["value"] is not None}
        assert numbers["seconds"]["value"] > 0
    own = {name: a for part in ("generator", "encoder")
           for name, a in read_state(place / f"gans/clade/{part}.safetensors")[0].items()
           if "running" not in name and not name.endswith(("_u", "_v"))}
    count = sum(a.size for a in own.values())
    assert table["clade"]["numbers"]["million parameters"]["value"] == pytest.approx(count / 1e6)
    text = (place / "out/comparison.md").read_text()
    assert "68.38" in text and "92.09" in text and "27.90" in text and "63.76" in text
    page = (place / "out/comparison.html").read_text()
    assert page.count("<img") == 2 * 2 * 7 and "http" not in page.split("Settings and hashes")[0]
    speeds = (place / "out/speed.json").read_text()
    (place / "out/sean/m1.jpg").unlink()
    again = compare(place)
    assert "4 rows of 2 pairs, 1 pictures to go" in again.stdout, again.stderr
    assert (place / "out/speed.json").read_text() == speeds


def test_bad_input(place, tmp_path):
    one_error(compare(place, "--gans", tmp_path), "holds none of sean")
    one_error(compare(place, "--reference-masks", tmp_path / "none", "--output", tmp_path / "out"),
              "--reference-masks", "SEAN")
    shutil.copytree(place / "gans/clade", tmp_path / "gans/gaugan")
    one_error(compare(place, "--gans", tmp_path / "gans", "--output", tmp_path / "out"), "gaugan/config.yaml",
              "kind clade")
    shutil.move(tmp_path / "gans/gaugan", tmp_path / "gans/clade")
    tree = configs.load(tmp_path / "gans/clade/config.yaml")
    configs.save(tmp_path / "gans/clade/config.yaml", {**tree, "image_size": [96, 64]})
    one_error(compare(place, "--gans", tmp_path / "gans", "--output", tmp_path / "out"), "image_size")
    one_error(compare(place, "--seed", 1), "made otherwise", "seed")


def test_no_folder_of_models_takes_results(place):
    for folder in ("gans", "."):
        one_error(compare(place, "--output", place / folder), "is or contains", "--output")
    assert not list(place.glob("gans/*/*.jpg"))


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a": {"seconds": "b"}}', '{"a": {"seconds": 1.5}}'])
def test_a_file_of_seconds_that_was_edited(place, text):
    speeds = place / "out/speed.json"
    before = speeds.read_text()
    speeds.write_text(text)
    one_error(compare(place), "speed.json", "remove it")
    speeds.write_text(before)


def test_table_1_is_the_papers():
    assert report.PAPER["iidm"] == report.PAPER["ensemble"]
    rows = [{"name": "sean", "title": "SEAN", "numbers": {"S": {"value": 50.0}, "seconds": {"value": 0.25}}}]
    headings, body = report.cells(rows)
    assert headings == ["", "S", "S, paper", "seconds"] and body == [["SEAN", "50.00", "68.38", "0.25"]]


def test_the_busiest_window():
    labels = np.zeros((40, 80), np.uint8)
    labels[20:30, 50:70] = np.random.default_rng(0).integers(0, 29, (10, 20))
    rows, columns = busiest(labels)
    assert rows.start <= 20 and rows.stop >= 30 and columns.start <= 50 and columns.stop >= 70
    assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 32)
    assert busiest(np.zeros((4, 4), np.uint8)) == (slice(0, 1), slice(0, 1))
    assert images.resize(labels[rows, columns], (80, 40), smooth=False).shape == (40, 80)
