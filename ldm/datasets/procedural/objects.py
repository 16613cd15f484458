"""The canvas that things are drawn on with their label, hidden by nearer ground; trees, bushes and stones."""
from __future__ import annotations

from typing import Optional, Sequence

import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.datasets.procedural.palette import Palette
from ldm.datasets.procedural.shade import haze_share, illuminate
from ldm.datasets.procedural.stamps import COUNT, SIDES, stamps
from ldm.datasets.procedural.terrain import LABEL, Surface, View

SHIFT = 4                                        # bits after the point in OpenCV's coordinates
THINNEST = 2.2                                   # pixels: the least width of posts, rails, masts


Point = Sequence[float]           # (column, row) in pixels, or (x, y) or (x, y, z) in the world


class Canvas:
    """Picture and label map together: whatever is drawn goes into both through one mask."""

    def __init__(self, image: np.ndarray, labels: np.ndarray, surface: Surface, view: View, palette: Palette,
                 sun: np.ndarray, sunny: float) -> None:
        """`sun`: unit vector towards it; `sunny`: 0..1, how dark the shadows are."""
        self.image, self.labels, self.surface = image, labels, surface
        self.view, self.palette, self.sun, self.sunny = view, palette, sun, sunny
        self.scale = view.width / 512
        self.depth = surface.z.copy()
        self.thin = max(THINNEST * self.scale, 1.0)

    def color(self, base: str | np.ndarray, light: float, z: float) -> np.ndarray:
        """A face of albedo `base` (a palette field or RGB) under `light` 0..1, seen through the air."""
        albedo = self.palette[base] if isinstance(base, str) else np.asarray(base, np.float32)
        lit = albedo * illuminate(self.palette, np.float32(light))
        return lit + haze_share(np.float32(z), self.palette) * (self.palette["haze"] - lit)

    def size(self, metres: float, z: float) -> float:
        """Metres at depth z in pixels."""
        return self.view.focal * metres * self.view.metre / z

    def stamp(self, cover: np.ndarray, color: np.ndarray, label: str, top: int, left: int, z: float) -> None:
        """Lay `color` (RGB, or height x width x 3) over the picture by `cover` (float 0..1), its corner at
        (top, left), but not where the ground is nearer than z; pixels half covered take the label."""
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + cover.shape[0], self.view.height), min(left + cover.shape[1], self.view.width)
        if y0 >= y1 or x0 >= x1:
            return
        inner = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        here = slice(y0, y1), slice(x0, x1)
        cover = cover[inner] * (self.surface.z[here] > 0.97 * z)
        if np.ndim(color) == 3:
            color = color[inner]
        self.image[here] += cover[..., None] * (color - self.image[here])
        solid = cover >= 0.5
        self.labels[here][solid] = LABEL[label]
        self.depth[here][solid] = z

    def polygon(self, points: Sequence[Point], color: np.ndarray, label: str, z: float, grain: float = 0.04,
                sink: float = 0.0, side: float = 0.0, courses: float = 0.0) -> None:
        """Fill a polygon of (column, row) points, edges smoothed.

        `grain` is the strength of its unevenness, `sink` how much darker its lower edge is, `side` how much
        brighter the side towards the sun is, `courses` the height of rows of bricks or tiles in pixels (rows
        of fewer than 2.5 pixels are not drawn).
        """
        mask, low = self._fill(points)
        if mask is None:
            return
        tall, wide = mask.shape
        tone = 1 + grain * noise.crop("rough", tall, wide, low * 7)
        if sink:
            tone *= (1 - sink * np.linspace(0, 1, tall, dtype=np.float32) ** 2)[:, None]
        if side:
            tone *= 1 + side * float(np.sign(self.sun[0])) * np.linspace(-1, 1, wide, dtype=np.float32)
        if courses >= 2.5:
            rows = np.cos(np.arange(tall, dtype=np.float32) * np.float32(2 * np.pi / courses))
            tone *= (1 - 0.10 * np.maximum(rows, 0))[:, None]
        self.stamp(mask, np.asarray(color, np.float32) * tone[..., None], label, low[1], low[0], z)

    def _fill(self, points):
        """Cover 0..1 of a polygon and its corner (column, row) in the picture; (None, None) outside."""
        points = np.asarray(points, np.float64)
        low = np.maximum(np.floor(points.min(0)).astype(int) - 2, -2)
        high = np.minimum(np.ceil(points.max(0)).astype(int) + 3, [self.view.width + 2, self.view.height + 2])
        if (low >= high).any():
            return None, None
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        fixed = np.round((points - low - 0.5) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, SHIFT)
        return mask.astype(np.float32) / 255, low

    def shadow(self, x: float, y: float, z: float, wide: float, tall: float) -> None:
        """Darken the bare ground under the shadow of something that is `wide` and `tall` (in the world's
        unit) and has its foot at (x, y, z)."""
        sun = self.sun.tolist()
        reach = min(tall / max(sun[1], 0.1), 2.5 * tall)
        tip_x, tip_z = x - sun[0] * reach, max(z - sun[2] * reach, 0.5 * z)
        turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        ring = [self.view.project(cx + half * np.cos(t), y, cz + 0.5 * half * np.sin(t))
                for cx, cz, half in ((x, z, 0.5 * wide), (tip_x, tip_z, 0.4 * wide)) for t in turn]
        mask, low = self._fill(cv2.convexHull(np.array(ring, np.float32))[:, 0])
        if mask is None:
            return
        mask = cv2.GaussianBlur(mask, (0, 0), 0.6 + 0.04 * min(mask.shape))
        y0, x0 = max(low[1], 0), max(low[0], 0)
        y1, x1 = max(low[1] + mask.shape[0], 0), max(low[0] + mask.shape[1], 0)
        here = slice(y0, y1), slice(x0, x1)             # empty for a shadow beside the picture
        ground = self.surface.z[here]
        bare = (self.depth[here] == ground) & (ground < 2 * z) & (ground > 0.4 * z)
        part = mask[y0 - low[1]:, x0 - low[0]:][:ground.shape[0], :ground.shape[1]] * bare
        self.image[here] *= (1 - 0.55 * self.sunny * part)[..., None]

    def bar(self, start: Point, end: Point, width: float, color: np.ndarray, label: str, z: float) -> None:
        """A straight beam between two (column, row) points, at least as wide as a label can be read."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        along = b - a
        length = max(np.hypot(*along), 1e-6)
        side = np.array([-along[1], along[0]]) / length * max(width, self.thin) / 2
        self.polygon([a + side, b + side, b - side, a - side], color, label, z)

    def place(self, column: float, fall: float) -> Optional[tuple[float, float]]:
        """(x, z) at a column of the picture (0..1) and a depth given as fall."""
        z = self.view.depth_of(fall)
        x = (column * self.view.width - self.view.centre) / self.view.focal * z
        return x, z


class Pen:
    """Draws the parts of one thing of a label at depth z; points are (x, y) at that depth, or (x, y, z).

    Further options are those of Canvas.polygon."""

    def __init__(self, canvas: Canvas, label: str, z: float) -> None:
        self.canvas, self.label, self.z = canvas, label, z

    def project(self, point: Point) -> tuple[float, float]:
        """World point -> (column, row)."""
        return self.canvas.view.project(point[0], point[1], point[2] if len(point) == 3 else self.z)

    def face(self, points: Sequence[Point], base: str | np.ndarray, light: float, **surface: float) -> None:
        """A face of world points."""
        self.flat([self.project(p) for p in points], base, light, **surface)

    def bar(self, start: Point, end: Point, metres: float, base: np.ndarray, light: float) -> None:
        """A beam `metres` thick."""
        color = self.canvas.color(base, light, self.z)
        width = self.canvas.size(metres, self.z)
        self.canvas.bar(self.project(start), self.project(end), width, color, self.label, self.z)

    def flat(self, points: Sequence[Point], base: str | np.ndarray, light: float, **surface: float) -> None:
        """A face given in pixels."""
        self.canvas.polygon(points, self.canvas.color(base, light, self.z), self.label, self.z, **surface)


def draw_stamp(canvas: Canvas, rng: np.random.Generator, kind: str, label: str, base: np.ndarray, x: float,
               y: float, z: float, metres: float, wide: float = 1.0) -> None:
    """Draw a stamp of a height in metres with its foot at (x, y, z)."""
    tall = int(round(canvas.size(metres, z)))
    if tall < 4 or tall > 1.2 * canvas.view.height:
        return
    size = (max(int(tall * wide), 4), tall)
    level = int(np.clip(np.log2(SIDES[0] / tall), 0, len(SIDES) - 1))
    cover, shade = (cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
                    for part in stamps(kind)[int(rng.integers(COUNT))][level])
    if tall > SIDES[0]:
        cover, shade = _sharpened(rng, cover, shade)
    if canvas.sun[0] > 0:                        # stamps are lit from the left
        cover, shade = cover[:, ::-1], shade[:, ::-1]
    column, row = canvas.view.project(x, y, z)
    dark, bright = canvas.color(base, 0.0, z), canvas.color(base, 1.0, z)
    color = dark + shade[..., None] * (bright - dark)
    color *= np.minimum(0.55 + 0.75 * shade, 1)[..., None]  # little light comes in between leaves
    canvas.stamp(cover, color, label, int(round(row)) - tall + 1, int(round(column)) - size[0] // 2, z)


def _sharpened(rng, cover, shade):
    """A stamp that was enlarged, with the leaves that it lacks."""
    leaves = noise.crop("leaves", *cover.shape, rng.uniform(0, noise.SIDE, 2))
    return np.clip(2.5 * (cover - 0.5 + 0.16 * leaves) + 0.5, 0, 1) * (cover > 0.02), shade + 0.10 * leaves


def tree(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float, kind: str,
         metres: float) -> None:
    """A tree of one of the kinds stamps.TREES, with its shadow."""
    canvas.shadow(x, y, z, 0.42 * metres * canvas.view.metre, 0.8 * metres * canvas.view.metre)
    crown(canvas, rng, x, y, z, kind, metres)


def crown(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float, kind: str,
          metres: float) -> None:
    """A tree among others, without a shadow of its own."""
    share = rng.uniform(0, 0.7)
    base = (canvas.palette["foliage"] * (1 - share) + canvas.palette["bloom"] * share) * rng.uniform(0.85,
                                                                                                     1.15)
    if canvas.palette.snow == 1:
        base = base * 0.7 + 0.3 * canvas.palette["bright"]
    draw_stamp(canvas, rng, kind, "tree", base, x, y, z, metres, rng.uniform(0.85, 1.2))


def shrub(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A bush as wide as it is tall, or wider."""
    share, metres, wide = rng.uniform(0, 0.6), rng.uniform(0.7, 1.8), rng.uniform(1.2, 1.8)
    base = canvas.palette["grass"] * (1 - share) + canvas.palette["bloom"] * share
    canvas.shadow(x, y, z, wide * 0.8 * metres * canvas.view.metre, 0.6 * metres * canvas.view.metre)
    draw_stamp(canvas, rng, "bush", "plant", base, x, y, z, metres, wide)


def stone(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A boulder."""
    metres, wide = rng.uniform(0.5, 2.2), rng.uniform(1.1, 1.7)
    canvas.shadow(x, y, z, wide * 0.8 * metres * canvas.view.metre, 0.4 * metres * canvas.view.metre)
    draw_stamp(canvas, rng, "stone", "rock", canvas.palette["rock"] * rng.uniform(0.85, 1.1), x, y, z,
               metres, wide)
