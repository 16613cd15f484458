"""Fractal noise: periodic tiles made once, from octaves of resized white noise, then only looked up."""
import functools

import cv2
import numpy as np

SIDE = 1024                                    # texels of a tile, which repeats in both directions

# kind -> (coarsest octave, finest octave, gain an octave, ridged); an octave of n has n x n cells in the tile
KINDS = {
    "smooth": (4, 64, 0.5, False),             # clouds, patches of ground, undulation
    "rough": (8, 512, 0.62, False),            # stone, soil, foliage
    "ridged": (4, 256, 0.47, True),            # mountains
    "fine": (96, 512, 0.8, False),             # grain of grass and sand
}


def _octave(rng, cells):
    """SIDE x SIDE periodic noise with `cells` x `cells` random values, cubic in between."""
    cells = int(cells)
    margin = 4
    values = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), margin, mode="wrap")
    scale = SIDE // cells
    big = cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return big[margin * scale:(margin + cells) * scale, margin * scale:(margin + cells) * scale]


@functools.lru_cache(maxsize=None)
def tile(kind):
    """The SIDE x SIDE float32 tile of a kind, of zero mean and unit deviation; the same in every process."""
    first, last, gain, ridged = KINDS[kind]
    rng = np.random.default_rng([sorted(KINDS).index(kind), 29])
    total = np.zeros((SIDE, SIDE), np.float32)
    weight, cells, carry = 1.0, 2 ** int(np.log2(first)), 1.0
    while cells <= last:
        octave = _octave(rng, cells)
        if ridged:                             # sharp crests; small ones only where the larger are high
            octave = 1 - np.abs(octave)
            total += weight * octave * carry
            carry = np.clip(0.5 + 0.5 * octave, 0, 1)
        else:
            total += weight * octave
        weight, cells = weight * gain, cells * 2
    total -= total.mean()
    return total / total.std()


def sample(kind, u, v, offset):
    """Noise at the points (u, v), arrays in texels, shifted by `offset` = (du, dv); float32."""
    u, v = np.broadcast_arrays(_wrap(u + np.float32(offset[0])), _wrap(v + np.float32(offset[1])))
    return cv2.remap(tile(kind), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _wrap(coordinate):
    """Coordinates taken into the tile: OpenCV keeps them in 16 bits."""
    coordinate = np.asarray(coordinate, np.float32)
    return coordinate - SIDE * np.floor(coordinate * np.float32(1 / SIDE))


def crop(kind, height, width, offset):
    """height x width texels of a tile, unscaled, starting at `offset` = (column, row)."""
    x, y = int(offset[0]) % (SIDE - width), int(offset[1]) % (SIDE - height)
    return tile(kind)[y:y + height, x:x + width]
