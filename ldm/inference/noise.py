"""Noise that belongs to an image: results depend neither on batch size nor on order nor on the number of processes."""
import zlib

import numpy as np


class ImageNoise:
    """One generator an image, from (seed, name, round); each call draws the next standard normals of every image."""

    def __init__(self, seed, names, round_number):
        self.generators = [np.random.default_rng([seed, zlib.crc32(name.encode()), round_number]) for name in names]

    def __call__(self, shape):
        """-> N x *shape float32."""
        return np.stack([g.standard_normal(shape, np.float32) for g in self.generators])
