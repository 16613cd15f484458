"""Maps the 150 classes of ADE20K, which published segmenters have, to the contest's 29 (ade20k.json)."""
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
    """targets: the contest's class of each of the 150. indoor: whether each is an indoor thing.

    summed: add the probabilities of all classes with the same target, then take the largest. Otherwise the
    most probable of the 150 classes decides, as probably in the contest.
    """
    name: str
    targets: np.ndarray
    indoor: np.ndarray
    summed: bool

    def matrix(self) -> np.ndarray:
        """30 x 150 float32: a matrix that sums probabilities for each of the 29 targets and, in the last row,
        for indoor things."""
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
