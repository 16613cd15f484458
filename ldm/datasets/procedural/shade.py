"""The surface of the ground, pixel by pixel: its label, and its colour in light and haze."""
from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.datasets.procedural.palette import Palette
from ldm.datasets.procedural.plan import Plan
from ldm.datasets.procedural.terrain import LABEL, Surface, View, smoothstep

# label -> (colours of the palette and their shares; strengths of the coarse texture, of the fine texture, of
# the light on its unevenness, of upright blades)
MATERIALS = {
    "mountain": ((("rock", 0.85), ("haze", 0.15)), 0.07, 0.03, 0.0, 0.0),
    "water": ((("water", 1.0),), 0.0, 0.0, 0.0, 0.0), "sea": ((("water", 1.0),), 0.0, 0.0, 0.0, 0.0),
    "river": ((("water", 1.0),), 0.0, 0.0, 0.0, 0.0), "lake": ((("water", 1.0),), 0.0, 0.0, 0.0, 0.0),
    "rock": ((("rock", 1.0),), 0.10, 0.12, 0.20, 0.0),
    "tree": ((("foliage", 1.0),), 0.14, 0.22, 0.22, 0.0),
    "earth": ((("earth", 1.0),), 0.10, 0.13, 0.20, 0.0),
    "hill": ((("grass", 0.55), ("foliage", 0.45)), 0.10, 0.09, 0.10, 0.0),
    "sand": ((("sand", 1.0),), 0.03, 0.035, 0.09, 0.0),
    "land": ((("earth", 0.40), ("sand", 0.35), ("grass", 0.25)), 0.10, 0.12, 0.14, 0.0),
    "grass": ((("grass", 1.0),), 0.08, 0.10, 0.08, 0.14),
    "plant": ((("grass", 0.45), ("foliage", 0.55)), 0.14, 0.15, 0.20, 0.10),
    "waterfall": ((("cloud", 0.75), ("water", 0.25)), 0.0, 0.0, 0.0, 0.0),
    "path": ((("sand", 0.65), ("earth", 0.35)), 0.05, 0.09, 0.12, 0.0),
    "field": ((("crop", 1.0),), 0.04, 0.06, 0.06, 0.08),
    "road": ((("rock", 0.75), ("dark", 0.25)), 0.03, 0.05, 0.03, 0.0),
}
SNOWY = {"mountain": 1.0, "rock": 0.45, "tree": 0.35, "hill": 0.7, "earth": 0.5, "land": 0.7, "plant": 0.5,
         "road": 0.3}                            # how much of the snow that falls stays


def label_ground(surface: Surface, view: View, plan: Plan, rng: np.random.Generator) -> np.ndarray:
    """The label of every pixel of sky, ground and water: height x width uint8."""
    fall = view.nearest / surface.z
    labels = surface.owner.copy()
    soil = np.isin(labels, [LABEL[n] for n in ("grass", "land", "earth", "plant", "sand", "rock", "field")])
    if plan.fields:
        inside = soil & (surface.z > plan.fields[0]) & (surface.z < plan.fields[1])
        labels[inside] = LABEL["field"]
    low = surface.height < 0.3 + 0.01 * surface.z
    beach = (surface.shore < plan.shore[1]) & low & (surface.owner != LABEL["waterfall"])
    labels[beach] = LABEL[plan.shore[0]]
    labels[surface.forest > 0.08] = LABEL["tree"]
    wet = (surface.shore < 0) & (surface.height < 0.7 * surface.z / view.focal)   # no water up a cliff
    labels[wet] = surface.water_label[wet]
    for way in plan.ways:
        if way.label != "river":
            aside = np.abs(surface.x - way.centre(view, np.minimum(surface.z, 1e4)))
            on = (aside < way.width / 2) & (fall > way.start) & (surface.z < 150)
            labels[on & ~wet & (surface.forest < 0.08)] = LABEL[way.label]
    labels[surface.sky] = LABEL["sky"]
    return labels


def illuminate(palette: Palette, light: Any) -> np.ndarray:
    """RGB factor of a surface under `light` 0..1 of the sun's full strength."""
    return palette["ambient"] * np.float32(0.64) + light * (palette["light"] * np.float32(0.93))


def haze_share(z: Any, palette: Palette) -> Any:
    """The share of the air's colour at depth z, a number or an array."""
    density, power = np.float32(-palette.haze_density), np.float32(0.8)
    if np.ndim(z) == 0:                          # a depth alone is computed in float64, as a plain number
        return float(1 - np.exp(float(density) * (float(min(z, 500)) / 300) ** float(power)))
    return 1 - np.exp(density * (np.minimum(z, np.float32(500)) / 300) ** power)


class Textures:
    """Noise at the surface's points: broad, coarse (a few metres), fine (some pixels, fainter far away),
    relief (light and shade of the coarse and the fine one, for a sun at the side `sunny`), upright blades."""

    def __init__(self, surface: Surface, view: View, sunny: float, rng: np.random.Generator) -> None:
        z = np.minimum(surface.z, 1e4)
        rows, columns = z.shape

        def look(kind, scale, settles, lit=False):
            """`scale` texels a unit near the camera; far away one or two a pixel: more would be noise."""
            each = np.float32(scale) / (1 + z / np.float32(settles))
            limit = np.float32(np.sqrt(1.6 * view.focal / scale))
            v = np.float32(scale) * z / (1 + z / limit) - np.float32(1.1) * surface.height * each
            return noise.sample(kind, surface.x * each, v, rng.uniform(0, noise.SIDE, 2), lit)

        near = np.clip(6 / z, 0.1, 1).astype(np.float32)
        self.broad = np.tanh(look("smooth", 45, 12) * 0.8)
        coarse, place = look("rough", 170, 6, True), rng.uniform(0, noise.SIDE, 2)
        self.coarse, self.fine = coarse[..., 0], noise.crop("leaves", rows, columns, place) * near
        relief = 0.75 * coarse[..., 1] + 0.6 * near * noise.crop("leaves", rows, columns, place, True)
        self.relief = np.clip(-sunny * relief, -2.5, 2.5)
        self.blades = noise.crop("blades", rows, columns, rng.uniform(0, noise.SIDE, 2)) * near
        self.blades *= np.clip(0.7 + 0.5 * self.coarse, 0.1, 1.6)


def _table(palette):
    """Colour of every label, 29 x 3, and its share of snow and strengths of texture, 5 x 29."""
    color = np.zeros((29, 3), np.float32)
    strengths = np.zeros((5, 29), np.float32)
    for name, (mixture, *texture) in MATERIALS.items():
        color[LABEL[name]] = sum(palette[field] * share for field, share in mixture)
        strengths[:, LABEL[name]] = SNOWY.get(name, 0), *texture
    return color, strengths


def paint_ground(image: np.ndarray, labels: np.ndarray, surface: Surface, view: View, palette: Palette,
                 glow: np.ndarray, sun: np.ndarray, plan: Plan, rng: np.random.Generator) -> None:
    """Colour all under the sky in `image` (float32 RGB, in place); water gets its own colour only."""
    top = int(np.argmin(surface.sky.all(axis=1)))                 # nothing but sky over this row
    image, labels, surface, glow = image[top:], labels[top:], surface.below(top), glow[top:]
    sunny = 1.0 if sun[0] > 0 else -1.0
    textures = Textures(surface, view, sunny, rng)
    color, (snowy, coarse, fine, uneven, blades) = _table(palette)
    albedo = np.take(color, labels, axis=0)
    _details(albedo, labels, surface, palette, textures, plan, view)
    texture = 1 + np.take(coarse, labels) * textures.coarse + np.take(fine, labels) * textures.fine
    texture += np.take(blades, labels) * textures.blades + 0.09 * textures.broad
    albedo *= np.clip(texture, 0.3, 1.8)[..., None]
    high = surface.height / (0.05 * np.minimum(surface.z, 500) + 0.5)
    line = 1.9 - 1.7 * palette.snow
    high = high + 0.35 * textures.coarse + 0.3 * textures.broad
    snow = np.take(snowy, labels) * smoothstep(high, line - 0.3, line + 0.5)
    snow *= min(1.0, palette.snow * 4)
    white = np.minimum(palette["bright"] * 1.02, 1)
    albedo += (snow * 0.85)[..., None] * (white - albedo)
    light = np.minimum(surface.light, 1) * (1 + np.take(uneven, labels) * textures.relief)
    light += _crags(labels, surface, sunny, rng)
    albedo *= illuminate(palette, np.clip(light, 0, 1.15)[..., None])
    haze = haze_share(surface.z, palette)[..., None]
    air = (0.7 * glow)[..., None] * (palette["glow"] - palette["haze"])
    air += palette["haze"]
    air -= albedo
    air *= haze
    albedo += air
    cv2.copyTo(albedo, (labels != LABEL["sky"]).view(np.uint8), image)


def _crags(labels, surface, sunny, rng):
    """Light and shade of ridges and gullies that are too small for the map of heights."""
    light = np.zeros(labels.shape, np.float32)
    for name, scale, strength in (("mountain", 520, 0.30), ("rock", 380, 0.22)):
        here = labels == LABEL[name]
        if here.any():
            rows = slice(*(np.flatnonzero(here.any(axis=1))[[0, -1]] + [0, 1]))
            z = np.minimum(surface.z[rows], 600)
            each = scale / (z + 2)
            u, v = surface.x[rows] * each + 40 * np.log1p(z), -1.5 * surface.height[rows] * each
            ridges = noise.sample("ridged", u, v, rng.uniform(0, noise.SIDE, 2), True)[..., 1]
            light[rows] -= here[rows] * (sunny * strength * np.clip(ridges, -2, 2))
    return light


def _details(albedo, labels, surface, palette, textures, plan, view):
    """Colours inside a material: blossoms, furrows, crowns of different greens, falling water."""
    trees = labels == LABEL["tree"]
    mix = np.clip(0.5 + 0.45 * textures.broad + 0.2 * textures.coarse, 0, 1) * 0.55
    albedo[trees] += mix[trees][:, None] * (palette["bloom"] - albedo[trees])
    albedo[trees] *= (0.32 + 0.68 * smoothstep(surface.z[trees], 20, 90))[:, None]   # dark between near trees
    for way in plan.ways:
        if way.label in ("road", "path"):
            _wear(albedo, labels == LABEL[way.label], surface, way, palette, view)
    plants = labels == LABEL["plant"]
    flowers = (textures.coarse[plants] > 1.1)[:, None]
    albedo[plants] += 0.7 * flowers * (palette["bloom"] * 1.15 - albedo[plants])
    fields = labels == LABEL["field"]
    if fields.any():
        albedo[fields] = _furrows(surface.x[fields], surface.z[fields], albedo[fields], palette)
    falls = labels == LABEL["waterfall"]
    if falls.any():
        rows = slice(*(np.flatnonzero(falls.any(axis=1))[[0, -1]] + [0, 1]))
        streaks = noise.sample("rough", surface.x[rows] * 260, surface.height[rows] * 14, (0, 0))
        albedo[rows] *= np.where(falls[rows], 1 + 0.16 * streaks, 1)[..., None]
    cliffs = labels == LABEL["rock"]
    strata = np.sin(surface.height[cliffs] * 9 + textures.broad[cliffs] * 2.5)
    albedo[cliffs] *= (1 + 0.09 * strata * np.clip(20 / surface.z[cliffs], 0, 1) ** 2)[:, None]


def _wear(albedo, here, surface, way, palette, view):
    """Dashes along the middle of a road and its worn edges; the two ruts of a path."""
    x, z = surface.x[here], np.minimum(surface.z[here], 1e4)
    aside = np.abs(x - way.centre(view, z)) / (way.width / 2)
    sharp = 1 + z / 25                           # far away lines become too thin to be seen: they fade
    if way.label == "road":
        line = smoothstep(aside, 0.075, 0.045) * (np.sin(z * 3.0) > 0) / sharp
        edge = 0.35 * smoothstep(aside, 0.82, 0.98)
        albedo[here] += (0.6 * line)[:, None] * (palette["bright"] - albedo[here])
        albedo[here] += edge[:, None] * (palette["earth"] - albedo[here])
    else:
        rut = np.exp(-((aside - 0.5) / 0.16) ** 2)
        albedo[here] *= (0.93 + 0.12 * rut - 0.12 * smoothstep(aside, 0.75, 1.0))[:, None]


def _furrows(x, z, albedo, palette):
    """Parcels of different crops with rows that run one way in each."""
    along, aside = 0.94 * x + 0.34 * z, -0.34 * x + 0.94 * z
    parcel = (np.floor(along / 5.5) * 7 + np.floor(aside / 4.2) * 13).astype(np.int64)
    draw = ((parcel * 2654435761) % 4096) / 4096.0
    turned = np.where(draw > 0.5, along, aside)
    rows = np.sin(turned * 26) * np.clip(7 / z, 0, 1) + 0.6 * np.sin(turned * 5.2) * np.clip(26 / z, 0, 1)
    other = np.where((draw % 0.25 < 0.09)[:, None], palette["earth"],
                     np.where((draw % 0.25 < 0.17)[:, None], palette["grass"], palette["crop"]))
    tone = albedo + 0.75 * (other - albedo)
    return (tone * (0.94 + 0.12 * draw[:, None] + 0.11 * rows[:, None])).astype(np.float32)
