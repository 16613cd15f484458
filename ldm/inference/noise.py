"""Noise that belongs to an image: results do not depend on batch size, order or number of processes."""
import os
import zlib

import numpy as np


class ImageNoise:
    """One generator an image, from (seed, name, round); a call draws each image's next standard normals."""

    def __init__(self, seed, names, round_number):
        self.generators = [np.random.default_rng([seed, zlib.crc32(os.fsencode(name)), round_number])
                           for name in names]

    def __call__(self, shape):
        """-> N x *shape float32."""
        return np.stack([g.standard_normal(shape, np.float32) for g in self.generators])
