"""Seeded weights and images that the golden numbers here were computed with."""
import zlib

import numpy as np


def tensor(key, shape, seed):
    """Deterministic float32 value of state-dict entry `key` (int64 0 for num_batches_tracked)."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    leaf = key.rsplit(".", 1)[-1]
    shape = tuple(shape)
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        v = rng.uniform(0.5, 1.5, shape)
    elif leaf == "running_mean":
        v = 0.1 * rng.standard_normal(shape)
    elif len(shape) >= 2:                      # conv / linear weight: He scaling
        fan_in = int(np.prod(shape[1:]))
        v = rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
    elif leaf == "weight":                     # 1-d weight: a norm layer's scale
        v = 1.0 + 0.1 * rng.standard_normal(shape)
    else:                                      # bias
        v = 0.1 * rng.standard_normal(shape)
    return v.astype(np.float32)


def state_dict(shapes, seed):
    return {k: tensor(k, s, seed) for k, s in shapes.items()}


def smooth_image(h, w, seed):
    """uint8 (h, w, 3) landscape-like test image: random low frequencies + a little grain."""
    rng = np.random.default_rng([seed, h, w])
    y, x = np.mgrid[0:h, 0:w]
    img = np.zeros((h, w, 3))
    for c in range(3):
        for _ in range(6):
            fy, fx = rng.uniform(-4, 4, 2)
            img[..., c] += rng.uniform(0.3, 1.0) * np.cos(
                2 * np.pi * (fy * y / h + fx * x / w) + rng.uniform(0, 6.3))
    img = (img - img.min()) / (img.max() - img.min()) * 235 + 10
    img += rng.integers(-6, 7, img.shape)
    return np.clip(np.round(img), 0, 255).astype(np.uint8)
