"""Water: the mirror image of what stands over it, waves, the light of the sun on them, and surf."""
from __future__ import annotations

from typing import Optional

import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.datasets.procedural.palette import Palette
from ldm.datasets.procedural.terrain import LABEL, Surface, View, smoothstep

WATERS = tuple(LABEL[name] for name in ("water", "sea", "river", "lake"))
ROUGHNESS = {"sea": 1.0, "river": 0.55, "water": 0.35, "lake": 0.35}


def _mirrored(image, labels, depth_drawn, backdrop, skyline, view, top):
    """What a still water level shows from row `top` down: rows x width x 3 float32.

    A point seen at `row` and depth z lies over the water's row b = horizon + focal / z; its mirror image is
    at 2 b - row. Nearer points hide farther ones; where none is mirrored, the sky is: that of `backdrop`,
    over the row `skyline` of each column.
    """
    height, width = labels.shape
    rows, columns = np.nonzero((labels != LABEL["sky"]) & ~np.isin(labels, WATERS))
    z = np.minimum(depth_drawn[rows, columns], 600)
    target = np.floor(2 * (view.horizon + view.focal / z) - rows - 0.5).astype(np.int32)
    inside = (target >= top) & (target < height)
    rows, columns, target, z = rows[inside], columns[inside], target[inside], z[inside]
    order = np.argsort(-z, kind="stable")
    source = np.full((height - top, width), -1, np.int32)
    source[target[order] - top, columns[order]] = rows[order]     # the last write, the nearest point, stays
    for _ in range(2):  # a receding bank leaves gaps of a row or two
        gaps = (source[1:-1] < 0) & (source[:-2] >= 0) & (source[2:] >= 0)
        source[1:-1][gaps] = source[:-2][gaps]
    here, column = np.arange(top, height)[:, None], np.arange(width)[None]
    sky_row = np.clip(2 * view.horizon - here - 1, 0, np.maximum(skyline - 1, 0)[None]).astype(np.int32)
    shown = image[source, column]
    empty = source < 0
    shown[empty] = backdrop[sky_row, column][empty]
    return shown


def _waves(surface, z, rng):
    """Slopes of the water towards the camera and aside, about -2..2: swell, and ripples near the camera."""
    offset = rng.uniform(0, noise.SIDE, 2)
    swell = noise.sample("rough", surface.x * 60 / (1 + z / 12), z * 260 / (1 + z / 2), offset)
    ripple = noise.sample("fine", surface.x * 200 / (1 + z / 3), 1100 * z / (1 + z), offset)
    return 0.75 * swell + 0.75 * ripple, 0.75 * swell - 0.6 * ripple


def paint_water(image: np.ndarray, labels: np.ndarray, surface: Surface, depth_drawn: np.ndarray,
                backdrop: np.ndarray, view: View, palette: Palette, sun_place: Optional[tuple[float, float]],
                rng: np.random.Generator) -> None:
    """Give every water pixel its mirror image, body colour, waves, the sun's path and surf, in place.

    `depth_drawn` is the depth of what each pixel shows, things too; `backdrop` the upper rows of the picture
    before things were drawn. `sun_place` is (column, row), or None where no sun is seen.
    """
    wet = np.isin(labels, WATERS)
    if not wet.any():
        return
    top = int(np.argmax(wet.any(axis=1)))
    surface_below, z = surface.below(top), np.minimum(surface.z[top:], 600)
    skyline = np.argmin(surface.sky, axis=0)     # first row that is not sky, in each column
    mirror = _mirrored(image, labels, depth_drawn, backdrop, skyline, view, top)
    wet, labels = wet[top:], labels[top:]
    rough = np.zeros(29, np.float32)
    for name, value in ROUGHNESS.items():
        rough[LABEL[name]] = value
    rough = np.take(rough, labels)
    along, aside = _waves(surface_below, z, rng)
    near = np.clip(5 / z, 0.04, 1)
    rows = np.arange(len(z), dtype=np.float32)[:, None]
    columns = np.arange(view.width, dtype=np.float32)[None]
    scale = view.height / 384
    lift = rough * (1.0 + 6 * near) * scale
    shown = cv2.remap(mirror, columns + 0.5 * lift * aside, np.clip(rows - lift * along, 0, len(z) - 1),
                      cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    steep = (rows + top - view.horizon) / view.focal  # tangent of the angle that the water is seen at
    share = 0.12 + 0.80 * np.exp(-4.2 * np.maximum(steep, 0))
    share = np.clip(share * (1 - 0.22 * rough) - 0.09 * along * (0.35 + rough), 0.04, 0.95)
    body = image[top:] * (1 + (0.05 + 0.13 * rough) * along)[..., None]
    body += share[..., None] * (shown * 0.97 - body)
    if sun_place is not None:
        _sun_path(body, along, near, rough, columns, sun_place, view, palette)
    foam = _foam(labels, surface_below, along)
    body += (foam * 0.8)[..., None] * (palette["cloud"] - body)
    image[top:][wet] = body[wet]


def _sun_path(body, along, near, rough, columns, sun_place, view, palette):
    """Glitter under the sun: where a wave's slope is right, the more the nearer the sun's column."""
    wide = (0.028 + 0.10 * near) * (0.6 + 0.6 * rough) * view.width
    chance = np.exp(-((columns - sun_place[0]) / wide) ** 2)
    specks = noise.crop("blades", *chance.shape[::-1], sun_place).T       # they lie flat
    glint = smoothstep(0.55 * along + 0.8 * specks + 2.1 * chance, 2.0, 3.0) * smoothstep(chance, 0.03, 0.4)
    bright = np.minimum(palette["glow"] * 0.8 + 0.25, 1)
    body += (0.85 * glint + 0.18 * chance)[..., None] * (bright - body)


def _foam(labels, surface, waves):
    """White of breaking waves along the shore of the sea, and a thin wet line along all other shores."""
    near = -surface.shore
    lines = np.sin(near * 26 + 1.6 * waves) - 0.25 - near * 1.6
    surf = smoothstep(lines + 0.2 * waves, 0.0, 0.5) * (near < 0.7) + smoothstep(-near, -0.05, -0.01)
    crests = 0.5 * smoothstep(waves, 2.6, 3.4)
    return np.where(labels == LABEL["sea"], np.clip(surf + crests, 0, 1), np.float32(0)).astype(np.float32)
