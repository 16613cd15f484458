"""tools/label_photos.py: the mapping, what is left out, resuming, and that the label maps train."""
import csv
import json
import re
import shutil

import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT
from golden.eval.recipe import state_dict
from test_evaluation_networks import TINY, in_mmseg, shapes
from tiny import CONFIG, make_model, one_error, run_tool

from ldm import config as configs
from ldm import images, weights
from ldm.datasets.procedural import make_scene
from ldm.errors import UserError
from ldm.evaluation import labelling, mapping
from ldm.labels import NAMES, NUM_CLASSES, OTHER

SIZE = (128, 96)
SCENES = [make_scene(9, i, SIZE) for i in (4, 9, 11, 3)]    # of which the demo's segmenter is sure
DEMO = ROOT / "models/demo-128-segmenter/segmenter.safetensors"


# ---- the mapping -------------------------------------------------------------------------------------------

def test_the_table_is_whole():
    rows = mapping.table()
    assert len(rows) == len({row["name"] for row in rows}) == mapping.ADE_CLASSES
    kinds = [row["kind"] for row in rows]
    assert [kinds.count(k) for k in ("exact", "near", "ambiguous", "none")] == [28, 13, 24, 85]
    assert sum(row["indoor"] for row in rows) == 62
    for row in rows:
        assert (row["strict"] == row["name"]) == (row["kind"] == "exact"), row
        assert row["kind"] == "exact" or row["strict"] == "other"
        assert row["strict"] in ("other", row["nearest"])
    for column in ("strict", "nearest"):
        assert {row[column] for row in rows} == set(NAMES)


@pytest.mark.parametrize("name", mapping.MAPPINGS)
def test_the_sums(name):
    found = mapping.load(name)
    matrix = found.matrix()
    assert matrix.shape == (NUM_CLASSES + 1, 150)
    np.testing.assert_array_equal(matrix[:NUM_CLASSES].sum(0), 1)       # every class goes to one target
    assert matrix[NUM_CLASSES].sum() == 62
    p = np.random.default_rng(0).dirichlet(np.ones(150))
    names = [row["name"] for row in mapping.table()]
    building = ["building", "windowpane", "door", "column", "skyscraper", "grandstand", "tower", "awning",
                "booth", "canopy", "tank"] if found.summed else ["building"]
    assert (matrix @ p)[NAMES.index("building")] == pytest.approx(sum(p[names.index(n)] for n in building))
    assert (matrix @ p)[:NUM_CLASSES].sum() == pytest.approx(1)


def test_changes_of_the_mapping(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"palm": "plant", "car": "road"}))
    found, nearest = mapping.load(path), mapping.load("nearest")
    names = [row["name"] for row in mapping.table()]
    differing = np.flatnonzero(found.targets != nearest.targets)
    assert {names[i]: NAMES[found.targets[i]] for i in differing} == {"palm": "plant", "car": "road"}
    for text, word in (('{"plam": "plant"}', "plam"), ('{"palm": "plants"}', "plants"), ("[1]", "mapping"),
                       ('{"palm": 3}', "3")):
        path.write_text(text)
        with pytest.raises(UserError, match=word):
            mapping.load(path)
    with pytest.raises(UserError, match="no.json"):
        mapping.load("no.json")


# ---- rules -------------------------------------------------------------------------------------------------

def test_specks_take_what_surrounds_them():
    labels = np.full((100, 100), NAMES.index("sky"), np.uint8)
    labels[60:] = NAMES.index("sea")
    expected = labels.copy()
    labels[10:12, 10:12] = NAMES.index("person")            # 4 of 10,000: a bird
    labels[80, 0:3] = NAMES.index("boat")                   # at the border
    labels[30:36, 30:36] = expected[30:36, 30:36] = NAMES.index("tree")
    np.testing.assert_array_equal(labelling.without_specks(labels), expected)
    one = np.zeros((4, 4), np.uint8)
    np.testing.assert_array_equal(labelling.without_specks(one, 2.0), one)


def test_copies_and_grey_pictures_are_told():
    a, b = (make_scene(5, i, (256, 192))[0] for i in range(2))
    small = images.resize(a, (160, 120))
    distance = [bin(labelling.difference_hash(a) ^ labelling.difference_hash(x)).count("1")
                for x in (images.jpeg_roundtrip(small, 60), b)]
    assert distance[0] <= labelling.ALIKE < distance[1]
    assert not labelling.is_grey(a) and labelling.is_grey(np.repeat(a[..., :1], 3, 2))


# ---- the tool ----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """A file: the demo's segmenter, its 28 landscape classes at the places that ADE20K gives them."""
    state, _ = weights.read_state(DEMO)
    for part, empty in (("weight", 0), ("bias", -12)):
        old = state[f"decode_head.classifier.{part}"]
        new = np.full((150, *old.shape[1:]), empty, np.float32)
        for k, row in enumerate(mapping.table()):
            if row["kind"] == "exact":
                new[k] = old[NAMES.index(row["name"])]
        new[20] = old[OTHER]                                # cars
        state[f"decode_head.classifier.{part}"] = new
    path = tmp_path_factory.mktemp("segmenter") / "ade.safetensors"
    weights.save(path, state, {"image_size": list(SIZE)})
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four scenes and what must be left out."""
    folder = tmp_path_factory.mktemp("photos")
    for i, (scene, _) in enumerate(SCENES):
        images.write_image(folder / f"scene{i}.jpg", scene)
    images.write_image(folder / "copy.jpg", images.jpeg_roundtrip(SCENES[0][0], 90))
    images.write_image(folder / "grey.png", np.repeat(scene[..., :1], 3, 2))
    images.write_image(folder / "noise.png",
                       np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3)).astype(np.uint8))
    images.write_image(folder / "small.png", images.resize(scene, (64, 48)))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


def label(photos, output, segmenter, *more):
    return run_tool("label_photos", "--photos", photos, "--output", output, "--segmenter", segmenter,
                    "--size", *SIZE, *more)


@pytest.fixture(scope="module")
def labelled(photos, segmenter, tmp_path_factory):
    output = tmp_path_factory.mktemp("labelled") / "mine"
    return output, label(photos, output, segmenter)


def test_photographs_are_labelled_or_left_out_with_a_line(labelled, photos):
    output, done = labelled
    assert done.returncode == 2 and done.stderr.count("error: ") == 2, done.stderr      # broken.jpg
    assert "broken.jpg" in done.stderr and "1 of the photographs cannot be read; replace" in done.stderr
    for name, word in (("grey.png", "no colours"), ("noise.png", "certainty"), ("small.png", "smaller"),
                       ("scene0.jpg", "looks like copy.jpg")):
        assert any(name in line and word in line for line in done.stdout.splitlines()), done.stdout
    assert "4 label maps" in done.stdout and "4 photographs left out" in done.stdout
    made = sorted(p.stem for p in (output / "train_resized/labels").iterdir())
    assert made == ["copy", "scene1", "scene2", "scene3"]
    assert made == sorted(p.stem for p in (output / "train_resized/imgs").iterdir())
    maps = [images.read_labels(output / f"train_resized/labels/scene{i}.png") for i in range(1, 4)]
    agreement = [(found == labels).mean() for found, (_, labels) in zip(maps, SCENES[1:])]
    assert np.mean(agreement) > 0.75, agreement
    with open(output / "labels.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert len(rows) == 9 and rows["noise.png"]["decision"] == "refused"
    assert rows["broken.jpg"]["decision"] == "unreadable"
    assert sum(float(rows["scene1.jpg"][name]) for name in NAMES) == pytest.approx(1, abs=0.01)
    card = yaml.safe_load((output / "dataset.yaml").read_text())
    assert card["mapping"] == "nearest" and len(card["targets"]) == 150 and card["size"] == list(SIZE)
    assert (output / "overview.jpg").exists()


@pytest.fixture(scope="module", params=["hub", "mmseg"])
def random_segmenter(request, tmp_path_factory):
    """A file of a tiny SegFormer of 150 classes with random weights, in two spellings."""
    from ldm.evaluation.networks import SegFormer
    state = state_dict(shapes(SegFormer(**TINY, num_classes=150)), 3)
    if request.param == "mmseg":
        rng = np.random.default_rng(0)
        state = in_mmseg(state, rng)
        state["decode_head.conv_seg.weight"] = rng.normal(size=(150, 24, 1, 1)).astype(np.float32)
        state["decode_head.conv_seg.bias"] = rng.normal(size=150).astype(np.float32)
    path = tmp_path_factory.mktemp("random") / "w.safetensors"
    weights.save(path, state)
    return path


@pytest.mark.parametrize("name", mapping.MAPPINGS)
def test_both_spellings_and_mappings_against_numpy(random_segmenter, photos, name):
    """The picture is enlarged to a short side of 512; soft-max, sums, enlarging and maximum by numpy and
    OpenCV."""
    from ldm.backend import jt
    from ldm.evaluation.networks import open_segmenter
    opened, found = open_segmenter(random_segmenter, name), mapping.load(name)
    picture = images.read_image(photos / "scene1.jpg")
    labels, sure, indoor = opened.label(picture, SIZE)
    with jt.no_grad():
        logits = opened.network(images.resize(picture, (672, 512))[None]).numpy()[0].astype(np.float64)
    p = np.exp(logits - logits.max(0))
    p /= p.sum(0)
    rooms = cv2.resize(np.einsum("k,khw->hw", found.matrix()[-1], p), SIZE)
    if found.summed:
        p = np.einsum("tk,khw->thw", found.matrix()[:-1], p)
    maps = np.stack([cv2.resize(x, SIZE) for x in p])
    expected = maps.argmax(0) if found.summed else found.targets[maps.argmax(0)]
    assert labels.shape == SIZE[::-1] and (labels == expected).mean() > 0.99
    np.testing.assert_allclose(sure, maps.max(0), atol=2e-3)
    assert indoor == pytest.approx((rooms > 0.5).mean(), abs=0.01)


def test_such_a_network_judges_m(segmenter, photos):
    from ldm.evaluation.networks import open_segmenter
    judge, picture = open_segmenter(segmenter), images.read_image(photos / "scene1.jpg")
    labels, features = judge.segment(picture[None])
    assert judge.name.endswith("ADE20K strict") and labels.shape == (1, *SIZE[::-1])
    assert (labels[0] == open_segmenter(DEMO).segment(picture[None])[0][0]).mean() > 0.95
    assert features.shape[0] == 1


def test_a_second_call_makes_only_what_is_missing(labelled, photos, segmenter, tmp_path):
    output, _ = labelled
    shutil.copytree(output, tmp_path / "mine")
    table = tmp_path / "mine/labels.csv"
    lines = table.read_bytes().splitlines(True)
    table.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])            # a kill in mid-line
    (tmp_path / "mine/train_resized/labels/scene2.png").unlink()
    stamp = (tmp_path / "mine/train_resized/labels/scene1.png").stat().st_mtime_ns
    done = label(photos, tmp_path / "mine", segmenter)
    assert "2 of 9 photographs to label" in done.stdout, done.stdout
    assert done.returncode == 2 and done.stderr.count("broken.jpg: ") == 1, done.stderr     # it is still said
    assert (tmp_path / "mine/train_resized/labels/scene1.png").stat().st_mtime_ns == stamp
    for name in ("scene2", "scene3"):
        assert ((tmp_path / f"mine/train_resized/labels/{name}.png").read_bytes()
                == (output / f"train_resized/labels/{name}.png").read_bytes())
    rows = [sorted(path.read_bytes().splitlines()) for path in (table, output / "labels.csv")]
    assert rows[0] == rows[1]
    one_error(label(photos, tmp_path / "mine", segmenter, "--mapping", "strict"),
              "mapping", "another --output")


def test_a_table_that_another_program_changed(labelled, photos, segmenter, tmp_path):
    shutil.copytree(labelled[0], tmp_path / "mine")
    table = tmp_path / "mine/labels.csv"
    text = table.read_text()
    table.write_text(re.sub("[0-9a-f]{16}(?=,[01][.])", "1.2E+15", text))       # as a spreadsheet does
    done = label(photos, tmp_path / "mine", segmenter, "--dry-run")
    assert done.returncode == 0 and " of 9 photographs to label" in done.stdout
    table.write_text(text + "x" * 200_000)
    one_error(label(photos, tmp_path / "mine", segmenter, "--dry-run"), "labels.csv", "CSV")


def test_the_label_maps_train(labelled, tmp_path):
    (tmp_path / "model").mkdir()
    make_model(tmp_path / "model")
    training = {"batch_size": 2, "steps": 1, "save_every": 1, "log_every": 1, "sample_every": 9}
    configs.save(tmp_path / "config.yaml", configs.merge(CONFIG, {"training": training}, "test"))
    done = run_tool("train", "--config", tmp_path / "config.yaml", "--data", labelled[0], "--output",
                    tmp_path / "run", "--autoencoder", tmp_path / "model/autoencoder.safetensors")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/state-0000001.safetensors").exists()


def test_what_is_wrong_is_one_line(photos, segmenter, tmp_path):
    out = tmp_path / "out"
    one_error(label(photos, photos, segmenter), "holds the photographs themselves")
    for name in ("imgs", "labels"):
        (tmp_path / "mine/train_resized").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine/train_resized" / name).symlink_to(photos)
        one_error(label(photos, tmp_path / "mine", segmenter), "holds the photographs themselves")
        (tmp_path / "mine/train_resized" / name).unlink()
    one_error(label(photos, out, DEMO), "29 classes", "150")
    one_error(label(photos, out, tmp_path / "none.pth"), "none.pth")
    one_error(label(photos, out, segmenter, "--min-confidence", "2"), "--min-confidence")
    one_error(label(photos, out, segmenter, "--mapping", "closest"), "closest")
    one_error(label(photos, out, segmenter, "--size", "99999", "64"), "--size")
    (tmp_path / "loop").symlink_to("loop")
    one_error(label(photos, tmp_path / "loop", segmenter), "loop")
    two = tmp_path / "two"
    two.mkdir()
    for name in ("a.jpg", "a.png"):
        images.write_image(two / name, SCENES[1][0])
    done = label(two, out, segmenter)
    assert done.returncode == 2 and "share names" in done.stderr
    assert not (out / "labels.csv").exists()


def test_a_photograph_is_painted_in_another_ones_style(photos, segmenter, tmp_path):
    contents, size = tmp_path / "contents", CONFIG["image_size"]
    contents.mkdir()
    for name in ("scene1.jpg", "noise.png"):
        shutil.copy(photos / name, contents)
    (tmp_path / "model").mkdir()
    make_model(tmp_path / "model")
    done = run_tool("infer", "--model", tmp_path / "model", "--rounds", tmp_path / "model/rounds.yaml",
                    "--photos", contents, "--references", photos / "scene2.jpg", "--output", tmp_path / "out",
                    "--segmenter", segmenter)
    assert done.returncode == 0 and "left out: noise.png: cannot be labelled with certainty" in done.stdout
    assert images.read_image(tmp_path / "out/scene1.jpg").shape == (*size[::-1], 3)
    assert (tmp_path / "out-labels/train_resized/labels/scene1.png").exists()
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jpg")) == ["scene1.jpg"]


def test_photographs_to_paint_are_checked_before_they_are_labelled(photos, segmenter, tmp_path):
    contents, model = tmp_path / "contents", tmp_path / "model"
    contents.mkdir()
    shutil.copy(photos / "scene1.jpg", contents)
    model.mkdir()
    make_model(model)

    def paint(*more):
        return run_tool("infer", "--model", model, "--rounds", model / "rounds.yaml", "--photos", contents,
                        "--output", tmp_path / "out", "--segmenter", segmenter, *more)

    one_error(paint(), "--references", "is not given")
    one_error(paint("--references", tmp_path / "none"), "none", "folder")
    one_error(paint("--references", photos, "--masks", tmp_path), "--photos", "--masks")
    one_error(paint("--references", photos, "--pairs", tmp_path / "none.json"), "none.json")
    others = tmp_path / "others"
    others.mkdir()
    for name in ("a.jpg", "b.jpg"):
        images.write_image(others / name, SCENES[0][0])
    one_error(paint("--references", others), "contents", "scene1.png", "has no reference of the same name")
    one_error(paint("--references", photos, "--part", "2/2"), "--part", "label_photos.py", "out-labels")
    assert not (tmp_path / "out-labels").exists() and not (tmp_path / "out").exists()
    done = label(contents, tmp_path / "out-labels", segmenter, "--size", *CONFIG["image_size"])
    assert done.returncode == 0, done.stderr
    done = paint("--references", photos, "--part", "1/2")
    assert done.returncode == 0 and (tmp_path / "out/scene1.jpg").exists(), done.stderr
