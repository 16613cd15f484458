"""Masks in the colours of other programs: exact colours, the tables' files, what is refused."""
import json
import sys

import numpy as np
import pytest
from PIL import Image

from ldm import images, mask_colors
from ldm.errors import UserError
from ldm.labels import COLORS, NAMES

# SPADE's labelcolormap(29): VOC's colours from index 1 on.
SPADE = {0: (128, 0, 0), 1: (0, 128, 0), 2: (128, 128, 0), 6: (128, 128, 128), 7: (64, 0, 0),
         14: (192, 128, 128), 20: (128, 64, 128), 28: (192, 64, 128)}
NUL = "\\x00" if sys.version_info >= (3, 11) else "NUL"         # how csv's error, or ours, calls that byte
RNG = np.random.default_rng(0)
MAP = RNG.integers(0, 29, (6, 8)).astype(np.uint8)


def colored(table):
    colors = np.zeros((29, 3), np.uint8)
    for *color, label in table:
        colors[label] = color
    return colors[MAP]


def save(folder, array, name="m.png"):
    Image.fromarray(array).save(folder / name)
    return folder / name


def test_voc_is_spades_colours():
    table = {label: tuple(color) for *color, label in mask_colors.SHIPPED["voc"]}
    assert len(table) == len(set(table.values())) == 29
    assert all(table[label] == color for label, color in SPADE.items())


@pytest.mark.parametrize("name", ["ours", "voc"])
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "palette"])
def test_shipped_tables_read_maps(tmp_path, name, kind):
    image = Image.fromarray(colored(mask_colors.load(name)))
    image = image.convert("RGBA") if kind == "RGBA" else image.quantize(64) if kind == "palette" else image
    image.save(tmp_path / "m.png")
    reading = images.reading(mask_colors=name)
    assert np.array_equal(images.read_labels(tmp_path / "m.png", reading=reading), MAP)


def test_ours_is_what_is_read_without_a_table(tmp_path):
    path = save(tmp_path, COLORS[MAP])
    assert np.array_equal(images.read_labels(path), MAP)


TEXTS = {"c.yaml": '"#102030": sky\n"7 8 9": 5\n"0, 0, 255": Waterfall\n',
         "c.json": '{"#102030": "sky", "7 8 9": 5, "0 0 255": 16}',
         "c.csv": "r,g,b,class\n16,32,48,sky\n7, 8, 9, 5\n\n#0000FF,waterfall\n"}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_files_of_each_format(tmp_path, name):
    (tmp_path / name).write_text("\ufeff" * (name == "c.csv") + TEXTS[name], encoding="utf-8")
    expected = ((0, 0, 255, 16), (7, 8, 9, 5), (16, 32, 48, 1))
    assert mask_colors.load(tmp_path / name) == mask_colors.load(str(tmp_path / name)) == expected
    assert mask_colors.load({"#102030": "sky", (7, 8, 9): 5, "0 0 255": 16}) == expected


@pytest.mark.parametrize("name, text, word", [
    ("c.yaml", "", "mapping"), ("c.yaml", "[1, 2]", "mapping"), ("c.yaml", "{}", "no colour"),
    ("c.yaml", '"#10203": sky', "#10203"), ("c.yaml", '"256 0 0": sky', "256 0 0"),
    ("c.yaml", "5: sky", "key"),
    ("c.yaml", '"1 2 3": sea-monster', "sea-monster"), ("c.yaml", '"1 2 3": 29', "29"),
    ("c.yaml", '"1 2 3": -1', "-1"), ("c.yaml", '"1 2 3": true', "True"), ("c.yaml", '"1 2 3": 1.0', "1.0"),
    ("c.yaml", '"1 2 3": 1\n"#010203": 2', "twice"), ("c.yaml", '"1 2 3": 1\n"1 2 3": 2', "twice"),
    ("c.json", "[]", "mapping"), ("c.json", '{"1 2 3": null}', "None"), ("c.json", "{", "JSON"),
    ("c.csv", "", "no colour"), ("c.csv", "1,2,3", "1,2,3"), ("c.csv", "1,2,x,3", "1 2 x"),
    ("c.csv", "1,2,3,4,5", "line"), ("c.csv", "1,2,3,4\n1,2,3,5", "twice"),
    ("c.csv", "r,g,b,class", "no colour"),
    ("c.txt", "1,2,3,4", "table"), ("c.csv", "1,2,3,\u0664", "\u0664"), ("c.csv", "\x00,1", NUL),
])
def test_wrong_tables_are_one_line(tmp_path, name, text, word):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        mask_colors.load(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name)) and word in message and "\n" not in message


@pytest.mark.parametrize("source", ["spade", "", 5, None, [], tuple(), "/dev/null", {}, {(1, 2): 3},
                                    {(1, 2, 300): 3}, {None: 3}, {"1 2 3": object()}])
def test_what_is_no_table(source):
    with pytest.raises(UserError) as caught:
        mask_colors.load(source)
    assert "\n" not in str(caught.value)


def test_unknown_colours_are_listed_with_their_shares(tmp_path):
    array = colored(mask_colors.load("voc"))
    array[0, :6], array[1, :3] = (1, 2, 3), (250, 250, 250)
    with pytest.raises(UserError) as caught:
        images.read_labels(save(tmp_path, array), reading=images.reading(mask_colors="voc"))
    assert "2 colours without a class: #010203 12 %, #fafafa 6.2 %" in str(caught.value).replace("6.3", "6.2")
    assert len(caught.value.args[3]) == 2
    array = RNG.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    with pytest.raises(UserError, match=" more; ") as caught:
        images.read_labels(save(tmp_path, array), reading=images.reading(mask_colors="voc"))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("kind, word", [("JPEG", "JPEG"), ("transparent", "transp"), ("16 bit", "16-bit")])
def test_maps_that_no_table_reads(tmp_path, kind, word):
    image = Image.fromarray(colored(mask_colors.load("voc")))
    if kind == "JPEG":
        image.save(tmp_path / "m.png", "JPEG")
    elif kind == "transparent":
        image = image.convert("RGBA")
        image.putpixel((0, 0), (128, 0, 0, 0))
        image.save(tmp_path / "m.png")
    else:
        Image.fromarray(MAP.astype(np.uint16)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=word):
        images.read_labels(tmp_path / "m.png", reading=images.reading(mask_colors="voc"))


def test_values_and_colours_are_not_mixed():
    with pytest.raises(UserError, match="ignore: has no effect"):
        images.reading(ignore=[255], mask_colors="voc")
    tree = images.reading(mask_colors={"1 2 3": 4}).tree()
    assert json.loads(json.dumps(tree))["mask_colors"] == [[1, 2, 3, 4]]
    assert "mask_colors" not in images.AS_IS.tree() and NAMES[4] == "rock"
