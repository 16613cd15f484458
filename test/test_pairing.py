"""Which reference belongs to which mask: names of any bytes and form, files of one name, one photograph for
all. No Jittor."""
import os
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from ldm import images
from ldm.datasets import landscape
from ldm.errors import UserError
from ldm.evaluation.fid import files_hash
from ldm.inference.noise import ImageNoise

GBK = os.fsdecode("风".encode("gbk"))                           # bytes that are no UTF-8
NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def folders(tmp_path, masks, references):
    for folder, names in (("masks", masks), ("refs", references)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    return tmp_path / "masks", tmp_path / "refs"


def matched(masks, references, pairs=None):
    """({mask name: reference name}, the errors' texts)."""
    found, errors = landscape.inference_pairs(masks, references, pairs)
    return {mask.name: reference.name for mask, reference in found}, [str(error) for error in errors]


def test_names_of_any_bytes_and_form(tmp_path):
    places = folders(tmp_path, ["a.png", f"{GBK}.png", f"{NFD}.png"], ["a.JPG", f"{GBK}.jpg", f"{NFC}.webp"])
    expected = {"a.png": "a.JPG", f"{GBK}.png": f"{GBK}.jpg", f"{NFD}.png": f"{NFC}.webp"}
    assert matched(*places) == (expected, [])
    pairs = {"a.png": f"{NFD}.webp", f"{NFC}.png": "a.JPG", f"{GBK}.png": "a.JPG"}
    expected = {"a.png": f"{NFC}.webp", f"{NFD}.png": "a.JPG", f"{GBK}.png": "a.JPG"}
    assert matched(*places, pairs) == (expected, [])
    files_hash([places[0] / f"{GBK}.png"])
    a, b = ImageNoise([0, 0], [GBK, "风"], 1)((2, 3))
    assert not np.array_equal(a, b)
    assert np.array_equal(b, np.random.default_rng([0, zlib.crc32("风".encode()), 1])
                          .standard_normal((2, 3), np.float32)), "as ever for names in UTF-8"


def test_two_of_one_name_are_refused_for_that_mask(tmp_path):
    places = folders(tmp_path, ["a.png", "b.png", "b.PNG", "c.png", "c.bmp"],
                     ["a.jpg", "a.png", "b.jpg", "c.jpg"])
    found, errors = matched(*places)
    assert found == {"b.PNG": "b.jpg", "c.bmp": "c.jpg"} and len(errors) == 3
    for words in (("a.png: has two references", "a.jpg and a.png", "remove"),
                  ("b.png: has the name of b.PNG",),
                  ("c.png: has the name of c.bmp",)):
        assert sum(all(word in error for word in words) for error in errors) == 1, errors


def test_what_is_there_instead_is_named(tmp_path):
    places = folders(tmp_path, ["a.png", "b.png", "c.jpg", "d.png", "d.jpg"], ["a.heic", "d.jpeg", "x.jpg"])
    found, errors = matched(*places)
    assert found == {"d.png": "d.jpeg"}
    assert any("a.png" in error and "a.heic" in error for error in errors)
    assert any("b.png: has no reference of the same name" in error for error in errors)
    assert any("c.jpg: is not a label map" in error and "PNG" in error for error in errors)
    assert len(errors) == 3
    _, errors = matched(*places, {"d.png": "D.JPG", "a.png": "../x.jpg", "e.png": "x.jpg", "b.png": "x.jpg"})
    assert any("'D.JPG' does not exist, but d.jpeg does" in error for error in errors)
    assert any("a.png: its reference '../x.jpg' does not exist" in error for error in errors)
    assert any("e.png: is named in the pairs but is not a file" in error for error in errors)


@pytest.mark.parametrize("as_folder", [True, False])
def test_one_photograph_for_all_is_said(tmp_path, caplog, as_folder):
    masks, references = folders(tmp_path, ["a.png", "b.png"], ["x.jpg"])
    found, errors = matched(masks, references if as_folder else references / "x.jpg")
    assert (found, errors) == ({"a.png": "x.jpg", "b.png": "x.jpg"}, [])
    assert len(caplog.messages) == 1 and "x.jpg is the reference of all 2 masks" in caplog.text


def test_photographs_beside_their_masks(tmp_path):
    masks, _ = folders(tmp_path, ["a.png", "a.jpg", "b.png", "b.jpg"], [])
    assert matched(masks, masks) == ({"a.png": "a.jpg", "b.png": "b.jpg"}, [])


def test_ten_thousand_are_matched_at_once(tmp_path):
    names = [f"{k:05d}" for k in range(10_000)]
    pairs = {f"{name}.png": f"{name}.jpg" for name in names}
    find = landscape.named_in(pairs, [tmp_path / f"{name}.JPG" for name in names], "")
    assert all(" does" in find(tmp_path / f"{name}.png")[1][0] for name in names)


def test_a_folder_of_another_layout_names_the_one_that_is_wanted(tmp_path):
    for name in ("images/training", "annotations/training"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match="imgs and labels.*train_resized/labels/NAME.png"):
        landscape.training_pairs(tmp_path)


def test_training_takes_names_of_any_form_and_label_maps_that_keep_their_values(tmp_path):
    picture, labels = Image.new("RGB", (64, 48)), Image.fromarray(np.full((48, 64), 255, np.uint8))
    for folder, names in (("imgs", ["a.jpg", f"{NFC}.jpg", "c.jpg"]),
                          ("labels", ["a.png", f"{NFD}.bmp", "c.jpg"])):
        (tmp_path / folder).mkdir()
        for name in names:
            (picture if folder == "imgs" else labels).save(tmp_path / folder / name)
    with pytest.raises(UserError) as caught:
        landscape.training_pairs(tmp_path, (64, 64))
    details = "\n".join(caught.value.details)
    assert "c.jpg: is not a label map" in details and "a.png: holds label 255" in details
    (tmp_path / "imgs/c.jpg").unlink()
    (tmp_path / "labels/c.jpg").unlink()
    with pytest.raises(UserError, match="64 x 48, other proportions than 64 x 64.*--fit crop"):
        landscape.training_pairs(tmp_path, (64, 64), reading=images.Reading((255,)))
    pairs = landscape.training_pairs(tmp_path, (64, 64), reading=images.Reading((255,), "crop"))
    assert [p.name for pair in pairs for p in pair] == ["a.jpg", "a.png", f"{NFC}.jpg", f"{NFD}.bmp"]
