"""From the 150 classes of ADE20K, which published segmenters know, to the contest's 29 (ade20k.json)."""
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ldm.documents import read_json, short
from ldm.errors import UserError
from ldm.files import Name
from ldm.labels import NAMES, NUM_CLASSES

TABLE = Path(__file__).with_name("ade20k.json")
ADE_CLASSES = 150
MAPPINGS = ("nearest", "strict")
WANTED = 'JSON like {"palm": "plant"}, names of ADE20K and of the contest'


class Mapping(NamedTuple):
    """targets: the contest's class of each of the 150. indoor: whether each is a thing of rooms.

    summed: whether the probabilities of all classes of one target are added before the largest is taken.
    Otherwise the most probable of the 150 decides, as in the contest, probably.
    """
    name: str
    targets: np.ndarray
    indoor: np.ndarray
    summed: bool

    def matrix(self) -> np.ndarray:
        """30 x 150 float32: what sums probabilities over the 29 targets and, in the last row, over things of
        rooms."""
        rows = np.zeros((NUM_CLASSES + 1, ADE_CLASSES), np.float32)
        rows[self.targets, np.arange(ADE_CLASSES)] = 1
        rows[NUM_CLASSES] = self.indoor
        return rows


def table() -> list[dict[str, Any]]:
    """The rows of ade20k.json: name, strict, nearest, kind, indoor, comment."""
    return read_json(TABLE, "the file of this package")["classes"]


def load(name: Name) -> Mapping:
    """`nearest`, `strict`, or a JSON file that changes some classes of `nearest`."""
    rows = table()
    indoor = np.array([row["indoor"] for row in rows])
    column = str(name) if name in MAPPINGS else "nearest"
    targets = np.array([NAMES.index(row[column]) for row in rows])
    if name not in MAPPINGS:
        _change(targets, [row["name"] for row in rows], name)
    return Mapping(str(name), targets, indoor, column == "nearest")


def _change(targets, known, path):
    """Apply a user's file to `targets`."""
    changes = read_json(path, WANTED)
    if not isinstance(changes, dict):
        raise UserError(path, "is not a mapping of names", f"give {WANTED}")
    for ade, target in changes.items():
        if ade not in known:
            raise UserError(path, f"names {short(ade)}, which is not a class of ADE20K",
                            f"use the names in {TABLE}")
        if target not in NAMES:
            raise UserError(path, f"maps '{ade}' to {short(target)}", f"choose one of {', '.join(NAMES)}")
        targets[known.index(ade)] = NAMES.index(target)
