"""Random numbers that belong to a picture: they do not depend on the batch. Needs no Jittor."""
from __future__ import annotations

import zlib
from typing import Sequence

import numpy as np


class ItemNoise:
    """noise(name, (N, ...)) -> standard normal float32 numbers; those of an item depend on (its key, name).

    keys: N keys, each one or more whole numbers from 0 on."""

    def __init__(self, keys: Sequence[Sequence[int]]) -> None:
        self.keys = [[int(number) for number in key] for key in keys]

    def __call__(self, name: str, shape: Sequence[int]) -> np.ndarray:
        number = zlib.crc32(name.encode())
        return np.stack([np.random.default_rng([*key, number]).standard_normal(tuple(shape[1:]), np.float32)
                         for key in self.keys])
