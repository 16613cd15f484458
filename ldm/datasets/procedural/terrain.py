"""The ground: a camera, a map of heights in (depth, column), and what every pixel then sees of it.

The unit of length is the camera's height over the water, so that rows below the horizon and depths depend on
each other alone: row = horizon + focal / depth. `View.metre` is the length of a metre in it.
"""
from __future__ import annotations

import dataclasses
from typing import Any, Optional

import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.labels import NAMES

LABEL = {name: value for value, name in enumerate(NAMES)}
FAR = 420.0                                      # the last depth of the map
NEAR_SLICES, FAR_SLICES, FOCUS_SLICES = 130, 190, 70


def smoothstep(x: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class View:
    """A camera that looks along z without tilt; the horizon is moved by shifting the picture.

    `focus` is a depth around which the map needs more slices: that of a cliff."""

    def __init__(self, width: int, height: int, horizon: float, centre: float, metre: float,
                 focus: Optional[float] = None) -> None:
        self.width, self.height = width, height
        self.focal = 0.82 * width
        self.horizon, self.centre = horizon * height, centre * width
        self.metre = metre
        self.nearest = self.focal / (height - self.horizon)      # depth of flat ground at the lower edge
        last_row = 10 * height / 384
        near = self.focal / np.linspace((height - self.horizon) * 1.6, last_row, NEAR_SLICES)
        far = np.geomspace(near[-1], FAR, FAR_SLICES + 1)[1:]
        extra = np.linspace(0.85 * focus, 1.45 * focus, FOCUS_SLICES) if focus else np.zeros(0)
        self.depths = np.sort(np.concatenate([near, far, extra])).astype(np.float32)
        self.slopes = (np.arange(width, dtype=np.float32) + 0.5 - self.centre) / self.focal      # x / z

    def project(self, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
        """World point(s) -> (column, row)."""
        return self.centre + self.focal * x / z, self.horizon + self.focal * (1 - y) / z

    def depth_of(self, fall: Any) -> Any:
        """Depth of flat ground at `fall`: 0 is the horizon, 1 the lower edge of the picture."""
        return self.nearest / fall


@dataclasses.dataclass
class Layer:
    """A range of hills or mountains: `rise` is its crest over the horizon in picture heights."""
    label: str
    distance: float
    rise: float
    bumps: float = 3.0                           # in a picture's width
    spread: float = 0.5                          # of the logarithm of the distance
    shape: str = "flat"                          # flat | valley | peak | left | right


@dataclasses.dataclass
class Basin:
    """Still water between two shores given as `fall` (see View.depth_of), of the label `label`."""
    label: str
    near: float
    far: float                                   # 0: open to the horizon
    tilt: float = 0.0                            # how much nearer the near shore is on the right
    rough: float = 0.05


@dataclasses.dataclass
class Way:
    """A road, path or river, as columns of the picture: 0 the left edge, 1 the right."""
    label: str
    near: float
    vanish: float
    width: float
    bend: float = 0.0
    waves: float = 1.0
    phase: float = 0.0
    start: float = 0.0                           # fall where it begins, far away
    stop: float = 9.0                            # fall where it ends, near

    def centre(self, view: View, depth: Any) -> Any:
        """x of the middle line at `depth`."""
        fall = view.nearest / depth
        swing = self.bend * np.sin(2 * np.pi * self.waves * np.log(fall + 0.02) + self.phase)
        column = self.vanish + (self.near - self.vanish) * fall + swing * np.sqrt(fall)
        return (column * view.width - view.centre) / view.focal * depth


@dataclasses.dataclass
class Cliff:
    """A step of rock across the picture with a waterfall at column `fall_column`."""
    distance: float
    rise: float
    fall_column: float
    fall_width: float                            # in pictures' widths


@dataclasses.dataclass
class Forest:
    """Woods that cover a share of the land between two depths."""
    share: float
    near: float
    far: float
    tall: float = 14.0                           # metres
    bumps: float = 4.0


class Ground:
    """Heights and what they are made of over the map (depth x column); see `build`."""

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        self.view, self.rng = view, rng
        self.z = view.depths[:, None]
        self.x = view.slopes[None, :] * self.z
        shape = self.x.shape
        self.fall = np.broadcast_to(view.nearest / self.z, shape)
        self.column = np.broadcast_to((np.arange(view.width, dtype=np.float32) / view.width)[None], shape)
        self.log_z = np.broadcast_to(np.log(self.z), shape)
        self.shore = np.full(shape, 2.0, np.float32)             # distance to water, negative in it
        self.owner = np.zeros(shape, np.uint8)
        self.forest = np.zeros(shape, np.float32)
        self.height = np.zeros(shape, np.float32)

    def noise(self, kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return noise.sample(kind, u, v, self.rng.uniform(0, noise.SIDE, 2))

    def patch_noise(self, bumps: float) -> np.ndarray:
        """Noise whose patches look equally large near and far: `bumps` in a picture's width."""
        scale = 256 * bumps
        return self.noise("smooth", self.column * scale, self.log_z * (0.55 * scale))

    def build(self, plan: Any) -> Ground:
        """Lay out water, relief, woods and cliff of a plan."""
        self.base, self.patches = LABEL[plan.ground], []         # (label, field that is positive there)
        self.owner[:] = self.base
        self.water_label = np.zeros(self.owner.shape, np.uint8)
        ways_clear = self._clearance(plan)
        for label, share, bumps in plan.patches:
            self.patches.append((label, self.patch_noise(bumps) - _threshold(share)))
        self._water(plan)
        swell = 0.5 + 0.5 * np.tanh(self.noise("smooth", self.x * 30, self.z * 30))
        inland = smoothstep(self.shore, 0, 1)
        self.height = (0.16 * np.tanh(3 * self.shore) + plan.swell * swell * inland * ways_clear
                       * (1 - 0.85 * smoothstep(self.fall, 0.3, 0.9))).astype(np.float32)
        for layer in plan.relief:
            self._raise(layer)
        if plan.cliff:
            self._step(plan.cliff)
        for forest in plan.forests:
            self._plant(forest, ways_clear)
        return self

    def _clearance(self, plan):
        """0 on roads and rivers, 1 far from them."""
        clear = np.ones(self.x.shape, np.float32)
        for way in plan.ways:
            aside = np.abs(self.x - way.centre(self.view, self.z)) - way.width / 2
            aside = np.where(self.fall < way.start, np.float32(9), aside)
            clear = np.minimum(clear, smoothstep(aside, 0.1, 0.5 + 1.5 * way.width))
        return clear

    def _water(self, plan):
        for basin in plan.basins:
            wobble = basin.rough * self.patch_noise(1.3)
            near = basin.near + basin.tilt * (self.column - 0.5) + wobble * float(np.sqrt(basin.near))
            shore = (self.fall - near) * 3
            if basin.far > 0:
                shore = np.maximum(shore, (basin.far * (1 + 0.4 * wobble / basin.rough) - self.fall) * 8)
            self.water_label[shore < self.shore] = LABEL[basin.label]
            self.shore = np.minimum(self.shore, shore)
        for way in plan.ways:
            if way.label == "river":
                aside = np.abs(self.x - way.centre(self.view, self.z)) - way.width / 2
                aside = aside + 0.12 * way.width * self.noise("smooth", self.x * 60, self.z * 60)
                aside = np.where((self.fall < way.start) | (self.fall > way.stop), np.float32(2), aside)
                self.water_label[aside < self.shore] = LABEL["river"]
                self.shore = np.minimum(self.shore, aside).astype(np.float32)

    def _raise(self, layer):
        view = self.view
        top = 1 + layer.rise * view.height * layer.distance / view.focal
        texels = layer.bumps * 256 * view.focal / (layer.distance * view.width)
        ridged = layer.label in ("mountain", "rock")
        kind, stretch = ("ridged", 1.3) if ridged else ("smooth", 0.7)
        ripple = self.noise(kind, self.x * texels * 0.7, self.z * texels * stretch)
        envelope = np.exp(-(np.log(self.z / layer.distance) / layer.spread) ** 2)
        lift = 0.66 + 0.36 * ripple if ridged else 0.74 + 0.22 * ripple
        rise = top * envelope * (_profile(layer.shape, self.column) * lift) - 0.08 * top
        wins = rise > self.height + 0.02
        self.owner[wins] = LABEL[layer.label]
        self.height = np.where(wins, rise, self.height).astype(np.float32)
        dry = np.maximum(self.shore, np.minimum(rise, 2))
        self.shore = np.where(wins, dry, self.shore).astype(np.float32)

    def _step(self, cliff):
        view = self.view
        top = 1 + cliff.rise * view.height * cliff.distance / view.focal
        ragged = self.noise("smooth", self.x * 40, self.z * 20)
        foot = cliff.distance * (1 + 0.03 * ragged + 0.5 * (self.column - cliff.fall_column) ** 2)
        crest = top * (1 + 0.09 * self.noise("ridged", self.x * 45, self.z * 20))
        notch = np.exp(-((self.column - cliff.fall_column) / (1.2 * cliff.fall_width)) ** 2)
        crest = crest * (1 - 0.12 * notch)
        up = smoothstep(self.z / foot, 1.0, 1.07)
        self.height = np.maximum(self.height, crest * up).astype(np.float32)
        self.owner[up > 0.01] = LABEL["rock"]
        self.owner[up > 0.98] = LABEL["grass"]
        self.shore = np.where(up > 0.01, np.float32(2), self.shore)
        falls = np.abs(self.column - cliff.fall_column) < cliff.fall_width / 2 * (1 + 0.12 * ragged)
        self.owner[falls & (up > 0.005) & (self.z < 1.12 * foot)] = LABEL["waterfall"]

    def _plant(self, forest, ways_clear):
        tall = forest.tall * self.view.metre
        cover = self.patch_noise(forest.bumps) - _threshold(forest.share)
        soft = smoothstep(cover, 0.0, 0.45)                      # lower trees at the edge of the woods
        soft = soft * smoothstep(self.z, forest.near, forest.near * 1.25) * (self.z < forest.far)
        soft = soft * smoothstep(self.shore, 0.03, 0.3) * smoothstep(ways_clear, 0.3, 0.9)
        soft = soft * (self.owner != LABEL["waterfall"]) * (self.owner != LABEL["rock"])
        soft = np.where((self.owner == LABEL["mountain"]) & (self.height > 0.02 * self.z),
                        np.float32(0), soft)
        crowns = 256 / (1.1 * tall)              # the noise's smallest bumps are a crown wide
        bumpy = 0.62 + 0.2 * self.noise("rough", self.x * crowns * 0.12, self.z * crowns * 0.06)
        self.height = (self.height + soft * tall * bumpy).astype(np.float32)
        self.forest = np.maximum(self.forest, soft).astype(np.float32)


def _threshold(share):
    """The value that a share of unit noise exceeds (a logistic fit to the normal quantile)."""
    share = np.clip(share, 0.01, 0.99)
    return float(np.log((1 - share) / share)) / 1.7      # a plain number does not widen float32 arrays


def _profile(shape, column):
    if shape == "valley":
        return 0.3 + 0.8 * smoothstep(np.abs(column - 0.5), 0.05, 0.5)
    if shape == "peak":
        return 0.45 + 0.65 * np.exp(-((column - 0.5) / 0.22) ** 2)
    if shape == "left":
        return 0.15 + 0.95 * smoothstep(1 - column, 0.25, 1)
    if shape == "right":
        return 0.15 + 0.95 * smoothstep(column, 0.25, 1)
    return np.float32(1)


@dataclasses.dataclass
class Surface:
    """What is visible in each pixel: arrays height x width; where `sky` is true, the others have no
    meaning."""
    sky: np.ndarray
    z: np.ndarray                                # inf in the sky
    x: np.ndarray
    height: np.ndarray
    shore: np.ndarray
    forest: np.ndarray
    light: np.ndarray                            # cosine between the sun and the ground's normal, at least 0
    owner: np.ndarray                            # label of the bare ground
    water_label: np.ndarray

    def below(self, row: int) -> Surface:
        """The same from `row` down, as views."""
        return Surface(**{name: field[row:] for name, field in vars(self).items()})


def _sunlight(height, view, sun):
    """Cosine between the sun's direction and the normals of the height map."""
    z = view.depths[:, None]
    across = np.zeros_like(height)
    across[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * (0.5 * view.focal / z)
    along = np.zeros_like(height)
    along[1:-1] = (height[2:] - height[:-2]) / (z[2:] - z[:-2])
    cosine = (sun[1] - sun[0] * across - sun[2] * along) / np.sqrt(1 + across ** 2 + along ** 2)
    return np.maximum(cosine, 0).astype(np.float32)


def render(ground: Ground, sun: np.ndarray) -> Surface:
    """The surface that `ground` shows; `sun` is the unit vector towards the sun (right, up, away)."""
    view = ground.view
    rows, columns = view.height, view.width
    height = np.maximum(ground.height, 0)
    screen = view.horizon + view.focal * (1 - height) / ground.z          # row of every point of the map
    lowest = np.minimum.accumulate(screen, axis=0)
    first = np.clip(np.ceil(lowest - 0.5), 0, rows).astype(np.int32)      # pixel centres covered from here
    index: np.ndarray = first * columns + np.arange(columns, dtype=np.int32)
    counts = np.bincount(index.ravel(), minlength=(rows + 1) * columns).reshape(rows + 1, columns)
    nearest = len(view.depths) - np.cumsum(counts, axis=0)[:rows]         # first slice that covers the pixel
    return _gather(ground, height, screen, nearest.astype(np.int32), sun)


def _gather(ground, height, screen, nearest, sun):
    """Look the map up at the pixels, between the slice `nearest` that covers each and the one before it."""
    view = ground.view
    sky = nearest == len(view.depths)
    after = np.minimum(nearest, len(view.depths) - 1)
    before = np.maximum(after - 1, 0)
    columns = np.arange(view.width, dtype=np.int32)[None]
    low, high = np.take(screen, before * view.width + columns), np.take(screen, after * view.width + columns)
    row = (np.arange(view.height, dtype=np.float32) + 0.5)[:, None]
    part = np.clip((low - row) / np.maximum(low - high, 1e-6), 0, 1).astype(np.float32)
    place = before.astype(np.float32) + part
    across = np.broadcast_to(columns.astype(np.float32), place.shape)

    def look_up(field):
        return cv2.remap(field.astype(np.float32, copy=False), across, place, cv2.INTER_LINEAR)

    closeness = 1 / view.depths
    z = 1 / (closeness[before] + (closeness[after] - closeness[before]) * part)
    chosen = np.where(part > 0.5, after, before) * view.width + columns
    bank = (np.take(ground.shore, before * view.width + columns) < 0)   # a wall out of the water is what it
    bank &= np.take(ground.shore, after * view.width + columns) > 0     # is farther up, down to its foot
    owner = np.take(ground.owner, np.where(bank, after * view.width + columns, chosen))
    base = owner == ground.base                  # patches are decided at the pixels: smooth outlines
    for label, field in ground.patches:
        owner[base & (look_up(field) > 0)] = LABEL[label]
    light = cv2.GaussianBlur(_sunlight(height, view, sun), (0, 0), 0.7)
    x = (view.slopes[None] * z).astype(np.float32)
    z = np.where(sky, np.float32(np.inf), z).astype(np.float32)
    return Surface(sky, z, x, look_up(height), look_up(ground.shore), look_up(ground.forest), look_up(light),
                   owner, np.take(ground.water_label, chosen))
