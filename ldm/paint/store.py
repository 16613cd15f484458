"""Masks, references and results in memory, within a bound: those that were not used for longest go first."""
from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import Any, NamedTuple, Optional, Union

from ldm.paint import limits


class Mask(NamedTuple):
    """A map at the model's size: a byte a pixel, row by row, each the number of a class."""
    id: str
    ids: bytes

    @property
    def weight(self) -> int:
        return len(self.ids)


class Reference(NamedTuple):
    """A style picture at the model's size, as a PNG that we wrote. No file of a client is kept."""
    id: str
    png: bytes

    @property
    def weight(self) -> int:
        return len(self.png)


class Result(NamedTuple):
    """A picture, and all that it was made from. about: seed, name, rounds and so on, as plain values."""
    id: str
    png: bytes
    jpg: bytes
    mask: Mask
    reference: Optional[Reference]
    about: dict[str, Any]

    @property
    def weight(self) -> int:
        return len(self.png) + len(self.jpg) + self.mask.weight + (
            self.reference.weight if self.reference else 0)


Thing = Union[Mask, Reference, Result]


def identity(data: bytes) -> str:
    """The id of a mask's ids or of a reference's PNG: equal content, equal id."""
    return hashlib.sha256(data).hexdigest()[:32]


class Store:
    """Things by kind and id. What `keep` takes (the samples) stays; results go after their time."""

    def __init__(self, capacity: int = limits.STORE) -> None:
        self.capacity, self.weight = capacity, 0
        self.things: OrderedDict[tuple[type, str], tuple[Thing, float]] = OrderedDict()
        self.kept: dict[tuple[type, str], Thing] = {}

    def keep(self, thing: Thing) -> None:
        self.kept[type(thing), thing.id] = thing

    def add(self, thing: Thing) -> None:
        key = type(thing), thing.id
        if key in self.kept:
            return
        if key in self.things:
            self._remove(key)
        self.things[key] = thing, time.monotonic()
        self.weight += thing.weight
        while self.weight > self.capacity and len(self.things) > 1:
            self._remove(next(iter(self.things)))

    def get(self, kind: type, name: str) -> Any:
        """The thing of a kind (Mask, Reference, Result), or None. It counts as used now."""
        key = kind, name
        if key in self.kept:
            return self.kept[key]
        if key not in self.things:
            return None
        self.things.move_to_end(key)
        return self.things[key][0]

    def remove_old_results(self) -> None:
        oldest = time.monotonic() - limits.RESULT_SECONDS
        for key in [key for key, (_, made) in self.things.items() if key[0] is Result and made < oldest]:
            self._remove(key)

    def _remove(self, key):
        thing, _ = self.things.pop(key)
        self.weight -= thing.weight
