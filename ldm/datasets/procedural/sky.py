"""The sky: a gradient, the sun or moon with its glow, clouds on a plane overhead, stars."""
from __future__ import annotations

import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.datasets.procedural.palette import Palette
from ldm.datasets.procedural.terrain import View, smoothstep

# kind -> (noise, share of the sky that is covered (a shift of unit noise), stretch along the horizon,
# softness of the edges, strength of light and shade)
CLOUDS = {"clear": ("cloud", -1.7, 2.0, 0.9, 0.10), "fair": ("heap", -0.45, 1.0, 0.5, 0.22),
          "streaks": ("cloud", -0.25, 3.5, 1.1, 0.12), "heaped": ("heap", 0.25, 0.9, 0.45, 0.26),
          "closed": ("cloud", 1.1, 1.3, 1.6, 0.16)}


def _clouds(view, kind, sun_place, rows_seen, rng):
    """Cover 0..1 and brightness 0..1 of the clouds, rows_seen x width."""
    texels, share, stretch, soft, contrast = CLOUDS[kind]
    rows = np.arange(rows_seen, dtype=np.float32)[:, None]
    column = (np.arange(view.width, dtype=np.float32)[None] - view.centre) / view.width
    over = np.maximum((view.horizon - rows) / view.height, 0) + 0.11
    u, v = column / over * (78 / stretch), np.broadcast_to(46 / over, (rows_seen, view.width))
    offset = rng.uniform(0, noise.SIDE, 2)
    density = noise.sample(texels, u, v, offset)
    density += 0.55 * noise.sample("smooth", u * 0.4, v * 0.4, offset[::-1])
    step = float((sun_place[0] - view.centre) / view.width)       # towards the sun a thicker cloud shades
    toward = noise.sample("smooth", u + 9 * float(np.sign(step)), v - 6, offset) if kind == "closed" \
        else noise.sample(texels, u + 5 * float(np.sign(step)), v + 5, offset)
    cover = smoothstep(density + share, 0, 2 * soft)
    thick = np.maximum(density + share, 0)
    bright = np.clip(0.86 + contrast * (density - toward) - 0.22 * thick, 0, 1)
    return cover.astype(np.float32), cv2.GaussianBlur(bright.astype(np.float32), (0, 0), 1.2)


def paint_sky(view: View, palette: Palette, sun_place: tuple[float, float], shown: bool, kind: str,
              rows_seen: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sky of the picture, height x width x 3 float32 (zero from row `rows_seen` down), with the glow map
    height x width that lights the haze. `sun_place` is (column, row) in pixels, `shown` whether
    its disc is seen."""
    rows = np.arange(view.height, dtype=np.float32)[:, None]
    columns = np.arange(view.width, dtype=np.float32)[None]
    distance = np.hypot(columns - float(sun_place[0]), rows - float(sun_place[1])) / view.width
    glow = np.exp(-(distance / 0.22)).astype(np.float32)
    image = np.zeros((view.height, view.width, 3), np.float32)
    seen = image[:rows_seen]
    up = np.clip((view.horizon - rows[:rows_seen]) / view.height, 0, 1) / 0.5
    blend = (1 - np.exp(-2.4 * up))[..., None] / (1 - float(np.exp(-2.4)))
    seen += palette["horizon"] * (1 - blend) + palette["zenith"] * blend
    seen += (0.75 * glow[:rows_seen])[..., None] * (palette["glow"] - seen)
    if palette.stars:
        _stars(image, view, rng)
    if shown and palette.stars:
        _moon(seen, view, palette, distance[:rows_seen], sun_place)
    cover = _lay_clouds(seen, glow, up, view, palette, kind, sun_place, rng)
    if shown and not palette.stars:
        _sun(seen, palette, distance[:rows_seen], cover)
    return image, glow


def _lay_clouds(image, glow, up, view, palette, kind, sun_place, rng):
    """Put the clouds over the sky; returns their cover."""
    rows = len(image)
    cover, bright = _clouds(view, kind, sun_place, rows, rng)
    tone = palette["shade"] + bright[..., None] * (palette["cloud"] - palette["shade"])
    tone += (0.6 * glow[:rows] * bright)[..., None] * (palette["glow"] - tone)
    thin = 0.45 + 0.55 * smoothstep(up[:rows], 0.0, 0.25)        # clouds sink into the haze at the horizon
    cover = cover * thin
    tone -= image
    tone *= cover[..., None]
    image += tone
    return cover


def _sun(image, palette, distance, cover):
    """A sun too bright to have an edge; clouds before it keep their drawing."""
    light = 1.1 * smoothstep(distance, 0.026,
                             0.012) + 0.7 * np.exp(-distance / 0.03) + 0.2 * np.exp(-distance / 0.1)
    light = np.minimum(light * (1 - 0.7 * cover), 1)[..., None]
    image += light * (np.minimum(palette["glow"] * 0.5 + 0.6, 1.2) - image)


def _moon(image, view, palette, distance, place):
    """A disc with the grey of its seas."""
    radius, near = 0.016, distance < 0.02
    disc = smoothstep(distance[near], radius + 1.0 / view.width, radius - 1.0 / view.width)
    seas = noise.crop("smooth", *distance.shape, place)[near]
    halo = 0.35 * np.exp(-distance / 0.03)
    white = np.minimum(palette["glow"] * 0.6 + 0.45, 1)
    image += halo[..., None] * (palette["glow"] - image)
    image[near] += disc[:, None] * (white * (0.93 + 0.06 * seas)[:, None] - image[near])


def _stars(image, view, rng):
    count = 90
    place = rng.random((count, 2)) * [max(view.horizon * 0.8, 1), view.width]
    rows, columns = place.astype(int).T
    image[rows, columns] += rng.uniform(0.15, 0.5, (count, 1)).astype(np.float32)
