"""The sky: a gradient, the sun or moon with its glow, clouds on a plane overhead, stars."""
import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.datasets.procedural.terrain import smoothstep

# kind -> how much of the sky is covered (a shift of unit noise), stretch along the horizon, softness of edges
CLOUDS = {"clear": (-1.6, 1.0, 0.6), "fair": (-0.5, 1.0, 0.45), "streaks": (-0.2, 3.5, 1.2),
          "heaped": (0.15, 0.8, 0.5), "closed": (1.0, 1.4, 1.6)}


def _clouds(view, kind, rng):
    """Cover 0..1 and brightness 0..1 of the clouds at half the picture's size."""
    share, stretch, soft = CLOUDS[kind]
    height, width = max(int(view.horizon) // 2 + 2, 2), view.width // 2
    column = (np.arange(width, dtype=np.float32) * 2 - view.centre) / view.width
    over = np.maximum((view.horizon - np.arange(height, dtype=np.float32) * 2) / view.height, 0) + 0.10
    u = column[None] / over[:, None] * (95 / stretch)
    v = np.broadcast_to(42 / over[:, None], u.shape)
    offset = rng.uniform(0, noise.SIDE, 2)
    density = noise.sample("smooth", u, v, offset) + 0.32 * noise.sample("rough", u * 0.8, v * 0.8, offset)
    toward = noise.sample("smooth", u + 3, v - 9, offset)       # thicker towards the light: darker here
    cover = smoothstep(density + share, 0, 2 * soft)
    bright = np.clip(0.72 + 0.35 * (density - toward) - 0.16 * (density + share), 0, 1)
    return cover.astype(np.float32), bright.astype(np.float32)


def paint_sky(view, palette, sun_place, kind, rows_seen, rng):
    """Sky of the picture, height x width x 3 float32 (zero from row `rows_seen` down), with the glow map
    height x width that lights the haze. `sun_place` is (column, row) in pixels."""
    rows = np.arange(view.height, dtype=np.float32)[:, None]
    columns = np.arange(view.width, dtype=np.float32)[None]
    distance = np.hypot(columns - sun_place[0], rows - sun_place[1]) / view.width
    glow = np.exp(-(distance / 0.22)).astype(np.float32)
    image = np.zeros((view.height, view.width, 3), np.float32)
    seen = image[:rows_seen]
    up = np.clip((view.horizon - rows[:rows_seen]) / view.height, 0, 1) / 0.5
    blend = (1 - np.exp(-2.4 * up))[..., None] / (1 - np.exp(-2.4))
    seen += palette["horizon"] * (1 - blend) + palette["zenith"] * blend
    seen += (0.75 * glow[:rows_seen])[..., None] * (palette["glow"] - seen)
    if palette.stars:
        _stars(image, view, rng)
    _lay_clouds(seen, glow, up, view, palette, kind, rng)
    if kind != "closed":
        _disc(seen, view, palette, distance[:rows_seen])
    return image, glow


def _lay_clouds(image, glow, up, view, palette, kind, rng):
    cover, bright = _clouds(view, kind, rng)
    rows = min(len(image), cover.shape[0] * 2)
    size = (view.width, cover.shape[0] * 2)
    cover, bright = (cv2.resize(part, size)[:rows] for part in (cover, bright))
    part = image[:rows]
    tone = palette["shade"] + bright[..., None] * (palette["cloud"] - palette["shade"])
    tone += (0.6 * glow[:rows] * bright)[..., None] * (palette["glow"] - tone)
    thin = 0.55 + 0.45 * smoothstep(up[:rows], 0.0, 0.2)         # clouds sink into the haze at the horizon
    tone -= part
    tone *= (cover * thin)[..., None]
    part += tone


def _disc(image, view, palette, distance):
    radius = 0.016 if palette.stars else 0.02
    near = distance < radius + 2 / view.width
    disc = smoothstep(distance[near], radius + 1.5 / view.width, radius - 0.5 / view.width)[:, None]
    white = np.minimum(palette["glow"] * 0.6 + 0.45, 1)
    image[near] += disc * (white - image[near])


def _stars(image, view, rng):
    count = 90
    place = rng.random((count, 2)) * [max(view.horizon * 0.8, 1), view.width]
    rows, columns = place.astype(int).T
    image[rows, columns] += rng.uniform(0.15, 0.5, (count, 1)).astype(np.float32)
