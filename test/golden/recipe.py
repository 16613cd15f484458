"""How the golden numbers' weights are drawn: from (seed, parameter name), with numpy only."""
from __future__ import annotations

import hashlib
import zlib

import numpy as np


def weight(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """One parameter, float32. Each name has its own stream of random numbers."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    n = rng.standard_normal(shape)
    if len(shape) >= 2:                             # convolution, linear layer or embedding
        one_hot = ".mlp_shared." in key             # of a one-hot input one channel per position is not zero
        n /= np.sqrt(np.prod(shape[2:] if one_hot else shape[1:]))
    elif key.endswith(".weight"):                   # the scale of a norm
        n = 1 + 0.1 * n
    else:                                           # a bias
        n = 0.1 * n
    return n.astype(np.float32)


def weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    return {key: weight(key, tuple(shapes[key]), seed) for key in sorted(shapes)}


def sha256(state: dict[str, np.ndarray]) -> str:
    """The `weights_sha256` in config.json."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + str(tuple(state[key].shape)).encode())
        digest.update(np.ascontiguousarray(state[key], "<f4").tobytes())
    return digest.hexdigest()
