"""Colours of label maps: which class each colour is, exactly. Tables of ours, of SPADE's and of a user's."""
from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any, Iterable, Mapping, Tuple, Union

from ldm import documents
from ldm.documents import short
from ldm.errors import UserError
from ldm.files import Name
from ldm.labels import COLORS, NAMES, NUM_CLASSES

Color = Tuple[int, int, int]                            # red, green, blue, 0..255
Table = Tuple[Tuple[int, int, int, int], ...]           # colours with their classes, sorted
HEX = re.compile(r"#([0-9a-fA-F]{6})")
NUMBERS = re.compile(r"([0-9]{1,3})[ ,]+([0-9]{1,3})[ ,]+([0-9]{1,3})")
CSV_BYTES = 2 ** 20
EXAMPLE = 'colours with classes, such as "128 0 0": sky'


def voc(index: int) -> Color:
    """The colour of an index in PASCAL VOC's map: its bits in turn for red, green and blue, from the highest
    bit of each down."""
    color = [0, 0, 0]
    for bit in range(8):
        color[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return color[0], color[1], color[2]


# SPADE, and JGAN's GauGAN for the contest, draw class i in VOC's colour i + 1: class 0 is not black.
SHIPPED: dict[str, Table] = {
    "ours": tuple(sorted((int(r), int(g), int(b), label) for label, (r, g, b) in enumerate(COLORS))),
    "voc": tuple(sorted((*voc(label + 1), label) for label in range(NUM_CLASSES))),
}


def load(source: Union[Name, Mapping[Any, Any]]) -> Table:
    """A table by the name "ours" or "voc", from a YAML, JSON or CSV file, or from a mapping.

    YAML, JSON and mappings have colours as keys, "#rrggbb" or "r g b"; CSV has lines r,g,b,class or
    #rrggbb,class. A class is a number or a name. Raises UserError for anything else, and for a colour that
    occurs twice.
    """
    if isinstance(source, Mapping):
        return _table(source.items(), "mask_colors")
    if not isinstance(source, (str, os.PathLike)):
        raise UserError("mask_colors", f"is {short(source)}",
                        f"give {' or '.join(SHIPPED)}, a file or a mapping")
    if source in SHIPPED:
        return SHIPPED[str(source)]
    suffix = Path(source).suffix.lower()
    if suffix == ".csv":
        return _table(_csv_items(source), source)
    if suffix not in (".json", ".yaml", ".yml"):
        raise UserError(source, "is not a table of mask colours",
                        f"choose {' or '.join(SHIPPED)}, or give a .yaml, .json or .csv file")
    tree = documents.read_json(source, "JSON") if suffix == ".json" else documents.read_yaml(source)
    if not isinstance(tree, dict):
        raise UserError(source, "is not a mapping", f"write {EXAMPLE}")
    return _table(tree.items(), source)


def _csv_items(path):
    """(colour, class) of each line; a first line that ends in the word class is a heading."""
    try:
        lines = list(csv.reader(documents.read_text(path, CSV_BYTES, "a CSV file").splitlines()))
    except csv.Error as e:
        raise UserError(path, f"cannot be read as CSV ({e})", "write lines r,g,b,class") from None
    rows = [[cell.strip() for cell in line] for line in lines if any(cell.strip() for cell in line)]
    if rows and rows[0][-1].lower() == "class":
        rows = rows[1:]
    for row in rows:
        if len(row) not in (2, 4):
            raise UserError(path, f"has the line {short(','.join(row))}",
                            "write r,g,b,class or #rrggbb,class")
        yield " ".join(row[:-1]), row[-1]


def _table(items: Iterable[Tuple[Any, Any]], where: object) -> Table:
    found: dict[Color, int] = {}
    for key, value in items:
        color = _color(key, where)
        if color in found:
            raise UserError(where, f"names the colour {in_hex(color)} twice", "keep one of the lines")
        found[color] = _label(value, where)
    if not found:
        raise UserError(where, "names no colour", f"write {EXAMPLE}")
    return tuple(sorted((*color, label) for color, label in found.items()))


def _color(key: Any, where: object) -> Color:
    parts: Any = key
    if isinstance(key, str) and (match := HEX.fullmatch(key.strip())):
        parts = bytes.fromhex(match[1])
    elif isinstance(key, str) and (match := NUMBERS.fullmatch(key.strip())):
        parts = [int(part) for part in match.groups()]
    if (isinstance(parts, (list, tuple, bytes)) and len(parts) == 3
            and all(type(part) is int and 0 <= part <= 255 for part in parts)):
        return parts[0], parts[1], parts[2]
    raise UserError(where, f"names the colour {short(key)}",
                    'write colours as "#rrggbb" or "r g b", 0 to 255')


def _label(value: Any, where: object) -> int:
    if isinstance(value, str) and value.strip().lower() in NAMES:
        return NAMES.index(value.strip().lower())
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}", value.strip()) else value
    if type(number) is not int or not 0 <= number < NUM_CLASSES:
        raise UserError(where, f"names the class {short(value)}",
                        f"use 0..{NUM_CLASSES - 1} or a name of data/README.md, such as sky")
    return number


def in_hex(color: Iterable[int]) -> str:
    """A colour as "#rrggbb"."""
    return "#" + bytes(color).hex()
