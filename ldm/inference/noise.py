"""Noise that belongs to an image: results do not depend on batch size, order or number of processes."""
from __future__ import annotations

import os
import zlib
from typing import Sequence

import numpy as np


class ImageNoise:
    """One generator per image, from (seed, name, round); a call draws each image's next normals."""

    def __init__(self, seeds: Sequence[int], names: Sequence[str], round_number: int) -> None:
        self.generators = [np.random.default_rng([seed, zlib.crc32(os.fsencode(name)), round_number])
                           for seed, name in zip(seeds, names)]

    def __call__(self, shape: Sequence[int]) -> np.ndarray:
        """-> N x *shape float32."""
        return np.stack([g.standard_normal(shape, np.float32) for g in self.generators])
