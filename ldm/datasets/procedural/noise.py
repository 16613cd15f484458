"""Fractal noise: periodic tiles made once, from octaves of resized white noise, then only looked up."""
from __future__ import annotations

import functools

import cv2
import numpy as np

SIDE = 1024                                    # texels of a tile, which repeats in both directions

# kind -> (coarsest octave, finest octave, gain an octave, form); an octave of n has n x n cells in the tile
KINDS = {
    "smooth": (4, 64, 0.5, "plain"),           # patches of ground, undulation
    "rough": (8, 512, 0.62, "plain"),          # stone, soil, swell
    "ridged": (4, 256, 0.47, "ridged"),        # mountains
    "fine": (96, 512, 0.7, "plain"),           # ripples
    "leaves": (64, 512, 0.78, "plain"),        # foliage, pebbles
    "blades": (128, 512, 0.75, "upright"),      # grass
    "cloud": (4, 512, 0.58, "plain"),          # veils and streaks
    "heap": (8, 512, 0.55, "billow"),          # heaped clouds
}


def _octave(rng, cells, form):
    """SIDE x SIDE periodic noise with `cells` x `cells` random values, cubic in between; where the form is
    upright, a fourth as many down the tile."""
    across, down = int(cells), int(cells) // (4 if form == "upright" else 1)
    margin = 4
    values = np.pad(rng.standard_normal((down, across)).astype(np.float32), margin, mode="wrap")
    wide, tall = SIDE // across, SIDE // down
    big = cv2.resize(values, None, fx=wide, fy=tall, interpolation=cv2.INTER_CUBIC)
    return big[margin * tall:(margin + down) * tall, margin * wide:(margin + across) * wide]


@functools.lru_cache(maxsize=None)
def tile(kind: str) -> np.ndarray:
    """The SIDE x SIDE float32 tile of a kind, of zero mean and unit deviation; the same in every process."""
    first, last, gain, form = KINDS[kind]
    rng = np.random.default_rng([list(KINDS).index(kind), 29])
    total = np.zeros((SIDE, SIDE), np.float32)
    weight, cells, carry = 1.0, 2 ** int(np.log2(first)), 1.0
    while cells <= last:
        octave = _octave(rng, cells, form)
        if form == "ridged":                   # sharp crests; small ones only where the larger are high
            octave = 1 - np.abs(octave)
            total += weight * octave * carry
            carry = np.clip(0.5 + 0.5 * octave, 0, 1)
        else:
            total += weight * (np.abs(octave) if form == "billow" else octave)
        weight, cells = weight * gain, cells * 2
    total -= total.mean()
    return total / total.std()


@functools.lru_cache(maxsize=None)
def relief(kind: str) -> np.ndarray:
    """SIDE x SIDE x 2: the tile of a kind, and how much it rises to the right and downwards (unit deviation):
    the light on it as a relief."""
    heights = cv2.GaussianBlur(np.tile(tile(kind), (2, 2)), (0, 0), 0.8)[:SIDE, :SIDE]
    rise = np.roll(heights, -2, axis=1) - heights + 0.6 * (np.roll(heights, -2, axis=0) - heights)
    return np.stack([tile(kind), rise / rise.std()], axis=2)


def sample(kind: str, u: np.ndarray, v: np.ndarray, offset: np.ndarray, lit: bool = False) -> np.ndarray:
    """Noise at the points (u, v), arrays in texels, shifted by `offset` = (du, dv); float32.

    `lit` gives both values of `relief`, in a last dimension of 2."""
    u, v = np.broadcast_arrays(_wrap(u + np.float32(offset[0])), _wrap(v + np.float32(offset[1])))
    texels = relief(kind) if lit else tile(kind)
    return cv2.remap(texels, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _wrap(coordinate):
    """Coordinates taken into the tile: OpenCV keeps them in 16 bits."""
    coordinate = np.asarray(coordinate, np.float32)
    turns = np.floor(coordinate * np.float32(1 / SIDE))
    turns *= np.float32(-SIDE)
    turns += coordinate
    return turns


def crop(kind: str, height: int, width: int, offset: np.ndarray, lit: bool = False) -> np.ndarray:
    """height x width texels of a tile, unscaled, starting at `offset` = (column, row); the tile repeats.

    `lit` gives its slopes, the second value of `relief`."""
    rows, columns = (np.arange(n) + int(start) for n, start in ((height, offset[1]), (width, offset[0])))
    texels = relief(kind)[..., 1] if lit else tile(kind)
    return texels[np.ix_(rows % SIDE, columns % SIDE)]
