"""Things that stand on the ground, drawn as polygons or stamps with their label, hidden by nearer ground."""
import functools

import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.datasets.procedural.shade import haze_share, illuminate
from ldm.datasets.procedural.terrain import LABEL

SIDES = 160, 80, 40, 20                          # of the stamps, in pixels
SHIFT = 4                                        # bits after the point in OpenCV's coordinates
THINNEST = 3.2                                   # pixels: the least width of posts, rails, masts


class Canvas:
    """Picture and label map together: whatever is drawn goes into both through one mask."""

    def __init__(self, image, labels, surface, view, palette, sun):
        self.image, self.labels, self.surface = image, labels, surface
        self.view, self.palette, self.sun = view, palette, sun
        self.scale = view.width / 512
        self.depth = surface.z.copy()
        self.thin = max(THINNEST * self.scale, 1.0)

    def color(self, base, light, z):
        """A face of albedo `base` (a palette field or RGB) under `light` 0..1, seen through the air."""
        albedo = self.palette[base] if isinstance(base, str) else np.asarray(base, np.float32)
        lit = albedo * illuminate(self.palette, np.float32(light))
        return lit + haze_share(np.float32(z), self.palette) * (self.palette["haze"] - lit)

    def size(self, metres, z):
        """Metres at depth z in pixels."""
        return self.view.focal * metres * self.view.metre / z

    def stamp(self, cover, color, label, top, left, z):
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

    def polygon(self, points, color, label, z):
        """Fill a polygon of (column, row) points, edges smoothed."""
        points = np.asarray(points, np.float64)
        low = np.floor(points.min(0)).astype(int) - 2
        high = np.ceil(points.max(0)).astype(int) + 3
        low = np.maximum(low, -2)
        high = np.minimum(high, [self.view.width + 2, self.view.height + 2])
        if (low >= high).any():
            return
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        fixed = np.round((points - low - 0.5) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, SHIFT)
        self.stamp(mask.astype(np.float32) / 255, color, label, low[1], low[0], z)

    def bar(self, start, end, width, color, label, z):
        """A straight beam between two (column, row) points, at least as wide as a label can be read."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        along = end - start
        length = max(np.hypot(*along), 1e-6)
        side = np.array([-along[1], along[0]]) / length * max(width, self.thin) / 2
        self.polygon([start + side, end + side, end - side, start - side], color, label, z)

    def place(self, column, fall):
        """(x, z) at a column of the picture (0..1) and a depth given as fall."""
        z = self.view.depth_of(fall)
        x = (column * self.view.width - self.view.centre) / self.view.focal * z
        return x, z


def _crown(kind, rng, side):
    """Cover and brightness of a tree, side x side; its foot is the middle of the lower edge."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    x = x - 0.5 + 0.5 / side
    rough = noise.crop("rough", side, side, rng.uniform(0, 700, 2))
    if kind == "conifer":
        level = np.clip(y / 0.93, 0, 1)
        tier = (level * rng.uniform(6, 9)) % 1
        half = 0.03 + 0.25 * level ** 0.9 * (0.7 + 0.45 * tier)
        body = half - np.abs(x) + 0.012 * rough
        shade = 0.62 + 0.5 * (1 - tier) * 0.5 - 0.9 * x
    elif kind == "poplar":
        half = 0.13 * np.sqrt(np.clip(1 - ((y - 0.46) / 0.46) ** 2, 0, 1))
        body = np.where(y < 0.92, half - np.abs(x) + 0.02 * rough, -1)
        shade = 0.75 - 2.2 * x + 0.12 * rough
    else:
        body = np.full((side, side), -1, np.float32)
        shade = np.zeros((side, side), np.float32)
        for _ in range(16):
            cx = np.clip(rng.normal(0, 0.16), -0.3, 0.3)
            cy, r = rng.uniform(0.18, 0.56), rng.uniform(0.08, 0.17)
            inside = r - np.hypot(x - cx, (y - cy) * 1.05) + 0.022 * rough
            here = 0.72 - 1.5 * (y - cy) - 1.2 * (x - cx)
            shade = np.where(inside > body, here, shade)
            body = np.maximum(body, inside)
    shade = shade + 0.11 * rough + 0.07 * noise.crop("fine", side, side, rng.uniform(0, 700, 2))
    trunk = (np.abs(x) < 0.028 + 0.02 * (y > 0.97)) & (y > 0.45)
    cover = np.clip(body * side * 0.5 + 0.5, 0, 1)
    shade = np.where(cover > 0.5, shade, 0.35)
    return np.maximum(cover, trunk).astype(np.float32), np.clip(shade, 0.15, 1.25).astype(np.float32)


def _bush(rng, side):
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    rough = noise.crop("rough", side, side, rng.uniform(0, 700, 2))
    body = np.full((side, side), -1, np.float32)
    shade = np.zeros((side, side), np.float32)
    for _ in range(7):
        cx, r = rng.uniform(0.25, 0.75), rng.uniform(0.14, 0.25)
        cy = 1 - r * rng.uniform(0.5, 1.2)
        inside = r - np.hypot(x - cx, y - cy) + 0.035 * rough
        shade = np.where(inside > body, 0.7 - 1.4 * (y - cy) - 0.9 * (x - cx), shade)
        body = np.maximum(body, inside)
    return np.clip(body * side * 0.5 + 0.5, 0, 1), np.clip(shade + 0.16 * rough, 0.15, 1.25)


def _boulder(rng, side):
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle = np.arctan2(y - 0.85, x - 0.5)
    wobble = 0.05 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.035 * np.sin(5 * angle + rng.uniform(0, 6))
    flat = rng.uniform(1.0, 1.7)
    body = 0.42 + wobble - np.hypot(x - 0.5, (y - 0.85) * flat)
    cut = rng.normal(0, 1, (4, 2))
    facets = np.max([c[0] * (x - 0.5) + c[1] * (y - 0.7) for c in cut], axis=0)
    rough = noise.crop("rough", side, side, rng.uniform(0, 700, 2))
    shade = 0.85 - 0.9 * (x - 0.5) - 0.9 * (y - 0.6) - 0.5 * facets + 0.08 * rough
    return (np.clip(body * side * 0.5 + 0.5, 0, 1) * (y < 0.985)), np.clip(shade, 0.2, 1.2)


@functools.lru_cache(maxsize=None)
def stamps(kind):
    """Eight stamps of a kind, the same in every process: each a list of (cover, brightness) pairs of float32
    arrays, one pair for each of SIDES, to resize from the nearest."""
    kinds = "broad", "bush", "conifer", "poplar", "stone"
    rng = np.random.default_rng([kinds.index(kind), SIDES[0]])
    makers = {"bush": _bush, "stone": _boulder}
    make = makers.get(kind, functools.partial(_crown, kind))
    return [[_reduced(whole, side) for side in SIDES] for whole in (make(rng, SIDES[0]) for _ in range(8))]


def _reduced(parts, side):
    return tuple(cv2.resize(np.asarray(part, np.float32), (side, side), interpolation=cv2.INTER_AREA)
                 for part in parts)


def draw_stamp(canvas, rng, kind, label, base, x, y, z, metres, wide=1.0):
    """Draw a stamp of a height in metres with its foot at (x, y, z)."""
    tall = int(round(canvas.size(metres, z)))
    if tall < 4 or tall > 1.2 * canvas.view.height:
        return
    size = (max(int(tall * wide), 4), tall)
    level = int(np.clip(np.log2(SIDES[0] / tall), 0, len(SIDES) - 1))
    cover, shade = (cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
                    for part in stamps(kind)[int(rng.integers(8))][level])
    if (rng.random() < 0.3) != (canvas.sun[0] > 0):              # stamps are lit from the left
        cover, shade = cover[:, ::-1], shade[:, ::-1]
    column, row = canvas.view.project(x, y, z)
    dark, bright = canvas.color(base, 0.0, z), canvas.color(base, 1.0, z)
    color = dark + shade[..., None] * (bright - dark)
    canvas.stamp(cover, color, label, int(round(row)) - tall + 1, int(round(column)) - size[0] // 2, z)


def tree(canvas, rng, x, y, z, kind, metres):
    share = rng.uniform(0, 0.7)
    base = canvas.palette["foliage"] * (1 - share) + canvas.palette["bloom"] * share
    if canvas.palette.snow == 1:
        base = base * 0.7 + 0.3 * canvas.palette["bright"]
    draw_stamp(canvas, rng, kind, "tree", base, x, y, z, metres)


def shrub(canvas, rng, x, y, z):
    share = rng.uniform(0, 0.6)
    base = canvas.palette["grass"] * (1 - share) + canvas.palette["bloom"] * share
    draw_stamp(canvas, rng, "bush", "plant", base, x, y, z, rng.uniform(0.7, 1.8), 1.5)


def stone(canvas, rng, x, y, z):
    draw_stamp(canvas, rng, "stone", "rock", canvas.palette["rock"] * rng.uniform(0.85, 1.1), x, y, z,
               rng.uniform(0.5, 2.2), rng.uniform(1.1, 1.7))
