"""Stamps of trees, bushes and stones: cover and brightness, made once, lit from the upper left."""
from __future__ import annotations

import functools

import cv2
import numpy as np

from ldm.datasets.procedural import noise

SIDES = 256, 128, 64, 32, 16                     # of the stamps, in pixels
COUNT = 10                                       # stamps of a kind
TREES = ("conifer", "broad", "poplar", "pine", "birch")
KINDS = (*TREES, "bush", "stone")


class _Sheet:
    """Cover and brightness in work, `side` x `side`; coordinates are shares of the side, y downwards."""

    def __init__(self, rng, side):
        self.rng, self.side = rng, side
        self.cover = np.zeros((side, side), np.float32)
        self.shade = np.zeros((side, side), np.float32)
        self.leaves = noise.crop("leaves", side, side, rng.uniform(0, 700, 2))
        self.rough = noise.crop("rough", side, side, rng.uniform(0, 700, 2))

    def limb(self, start, end, thick, light):
        """A tapering branch or trunk from `start` to `end`, (x, y) each, `thick` wide at its start."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        along = end - start
        side = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6) * thick / 2
        points = np.array([start + side, end + 0.45 * side, end - 0.45 * side, start - side]) * self.side
        mask = np.zeros((self.side, self.side), np.uint8)
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        self._lay(mask.astype(np.float32) / 255, light + 0.08 * self.rough, slice(None), slice(None))

    def clump(self, x, y, radius, light, ragged=0.55, flat=1.0):
        """A tuft of leaves: an ellipse with a torn edge, bright above and to the left."""
        # Plain numbers do not widen float32 arrays, as numpy 2 has numpy's own do.
        x, y, radius, light, ragged, flat = map(float, (x, y, radius, light, ragged, flat))
        reach = int(np.ceil(radius * 1.5 * self.side))
        cx, cy = int(x * self.side), int(y * self.side)
        rows = slice(max(cy - reach, 0), min(cy + reach + 1, self.side))
        columns = slice(max(cx - reach, 0), min(cx + reach + 1, self.side))
        dy, dx = np.mgrid[rows, columns].astype(np.float32) / self.side
        dx, dy = (dx - x) / radius, (dy - y) / radius * flat
        inside = 1 - np.hypot(dx, dy) + ragged * 0.45 * self.leaves[rows, columns]
        cover = np.clip(inside * radius * self.side * 0.7 + 0.5, 0, 1)
        shade = light - 0.24 * dy - 0.14 * dx + 0.10 * self.leaves[rows, columns]
        self._lay(cover, shade, rows, columns)

    def _lay(self, cover, shade, rows, columns):
        part = self.shade[rows, columns]
        part += cover * (shade - part)
        self.cover[rows, columns] = np.maximum(self.cover[rows, columns], cover)

    def result(self):
        return self.cover, np.clip(0.08 + 0.86 * self.shade, 0.06, 1.15)


def _crown(sheet, boughs, tufts, centre, spread, radius, ragged=0.55):
    """Tufts around boughs, those behind and below first; `centre`, `spread` and `radius` are of the crown."""
    rng = sheet.rng
    angle, reach = rng.uniform(0, 2 * np.pi, boughs), np.sqrt(rng.uniform(0, 1, boughs))
    bx = centre[0] + spread[0] * reach * np.cos(angle)
    by = centre[1] + spread[1] * reach * np.sin(angle)
    order = np.argsort(-by + rng.normal(0, 0.3 * spread[1], boughs))
    for back in (True, False):
        for k in order:
            x, y = bx[k], by[k]
            out = 0.22 * (centre[1] - y) / spread[1] + 0.14 * (centre[0] - x) / spread[0]
            for _ in range(tufts):
                tx, ty = x + rng.normal(0, 0.55 * radius), y + rng.normal(0, 0.5 * radius)
                light = (0.34 if back else 0.54) + out + rng.normal(0, 0.06)
                sheet.clump(tx, ty, radius * rng.uniform(0.35, 0.7), light, ragged, 1.15)


def _branches(sheet, foot, fork, thick, reach, count):
    """A trunk from `foot` to `fork` (x, y) and boughs up and aside from it."""
    rng = sheet.rng
    sheet.limb(foot, fork, thick, 0.40)
    for _ in range(count):
        t = rng.uniform(0.55, 1)
        start = np.array(foot) + t * (np.array(fork) - foot)
        end = start + [rng.uniform(-1, 1) * reach[0], -rng.uniform(0.5, 1) * reach[1]]
        sheet.limb(start, end, thick * rng.uniform(0.25, 0.45), 0.34)


def _broad(sheet):
    rng = sheet.rng
    x, fork = 0.5 + rng.normal(0, 0.02), rng.uniform(0.62, 0.76)
    _branches(sheet, (0.5, 1.0), (x, fork), 0.055, (0.22, 0.3), 6)
    tall, wide = rng.uniform(0.23, 0.31), rng.uniform(0.22, 0.33)
    _crown(sheet, 13, 9, (x, 0.06 + tall * 1.25), (wide, tall), 0.105)
    return sheet.result()


def _birch(sheet):
    rng = sheet.rng
    x = 0.5 + rng.normal(0, 0.04)
    _branches(sheet, (0.5, 1.0), (x, 0.3), 0.028, (0.2, 0.25), 9)
    _crown(sheet, 12, 6, (x, 0.38), (0.17, 0.29), 0.075, 0.9)
    return sheet.result()


def _poplar(sheet):
    rng = sheet.rng
    sheet.limb((0.5, 1.0), (0.5, 0.3), 0.035, 0.36)
    lean = rng.normal(0, 0.01)
    for t in np.sort(rng.uniform(0, 1, 150))[::-1]:
        half = rng.uniform(0.09, 0.14) * np.sin(np.pi * (0.03 + 0.90 * t)) ** 0.8
        dx = rng.uniform(-1, 1)
        sheet.clump(0.5 + lean + dx * half, 0.04 + 0.86 * t, rng.uniform(0.025, 0.05),
                    0.56 - 0.26 * dx + rng.normal(0, 0.09), 0.7, 0.7)
    return sheet.result()


def _pine(sheet):
    rng = sheet.rng
    top = 0.5 + rng.normal(0, 0.06)
    _branches(sheet, (0.5, 1.0), (top, 0.22), 0.04, (0.2, 0.1), 8)
    for y in np.sort(rng.uniform(0.1, 0.5, int(rng.integers(5, 9))))[::-1]:
        x, reach = top + rng.uniform(-0.2, 0.2) * (0.4 + y), rng.uniform(0.1, 0.2)
        for light in (0.32, 0.66):
            for t in rng.uniform(-1, 1, 7):
                sheet.clump(x + t * reach, y + 0.03 * t * t - 0.02 * (light > 0.5), rng.uniform(0.035, 0.055),
                            light - 0.12 * t + rng.normal(0, 0.06), 0.8, 1.5)
    return sheet.result()


def _conifer(sheet):
    rng, side = sheet.rng, sheet.side
    sheet.limb((0.5, 1.0), (0.5, 0.05), 0.035, 0.3)
    wide, droop, low = rng.uniform(0.23, 0.34), rng.uniform(0.25, 0.6), rng.uniform(0.86, 0.97)
    power = rng.uniform(0.75, 1.1)
    for t in np.sort(rng.uniform(0, 1, 170))[::-1]:
        y, turn = float(0.03 + t * (low - 0.03)), rng.uniform(-1, 1)      # turn: towards which side it grows
        long = wide * t ** power * rng.uniform(0.75, 1.15) * np.sign(turn) * (0.35 + 0.65 * abs(turn))
        light = 0.55 - 0.25 * turn + rng.normal(0, 0.10) - 0.1 * (abs(turn) > 0.8)
        thick = float(0.012 + 0.035 * t ** 0.5)
        sag = float(droop * abs(long) * 0.5)
        points = np.array([(0.5, y - thick), (0.5 + 0.6 * long, y + 0.3 * sag - 0.4 * thick),
                           (0.5 + long, y + sag), (0.5 + 0.8 * long, y + sag + 0.4 * thick),
                           (0.5 + 0.4 * long, y + 0.6 * sag + thick), (0.5, y + 0.6 * thick)])
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [np.round(points * side * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        rows = slice(max(int((y - 0.06) * side), 0), min(int((y + 0.16) * side), side))
        down = (np.arange(side, dtype=np.float32)[rows, None] / side - y) / (thick + sag)
        sheet._lay(mask[rows].astype(np.float32) / 255, light - 0.28 * down + 0.08 * sheet.leaves[rows],
                   rows, slice(None))
    cover, shade = sheet.result()
    grid = np.mgrid[0:side, 0:side].astype(np.float32)            # needles: the outline is torn by noise
    x, y = grid[1] + 0.010 * side * sheet.leaves, grid[0] + 0.008 * side * sheet.leaves[::-1]
    return cv2.remap(cover, x, y, cv2.INTER_LINEAR), cv2.remap(shade, x, y, cv2.INTER_LINEAR)


def _bush(sheet):
    rng = sheet.rng
    for back in (True, False):
        for _ in range(26):
            x = np.clip(rng.normal(0.5, 0.16), 0.2, 0.8)
            high = 0.62 * (1 - ((x - 0.5) / 0.4) ** 2)
            y, radius = 1 - high * rng.uniform(0.1, 0.9), rng.uniform(0.07, 0.13)
            light = (0.34 if back else 0.56) + 0.3 * (0.7 - y) - 0.25 * (x - 0.5) + rng.normal(0, 0.08)
            sheet.clump(x, min(y, 1 - 0.6 * radius), radius, light, 0.75)
    return sheet.result()


def _stone(sheet):
    """A boulder: the upper side of a few planes, worn and cracked."""
    rng, side = sheet.rng, sheet.side
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    x, y = x - 0.5, y - 0.82
    angle = np.arctan2(y, x)
    wobble = sum(rng.uniform(0.02, 0.05) * np.sin(n * angle + rng.uniform(0, 6)) for n in (2, 3, 5))
    body = 0.42 + wobble - np.hypot(x, y * rng.uniform(0.75, 1.3)) + 0.012 * sheet.rough
    normals = rng.normal(0, 1, (7, 2))
    normals[:, 1] = -np.abs(normals[:, 1]) - 0.2
    normals /= np.hypot(*normals.T)[:, None]
    planes = np.stack([n[0] * x + n[1] * (y + 0.15) + rng.uniform(-0.12, 0.0) for n in normals.tolist()])
    facing = np.argmax(planes + 0.02 * sheet.rough, axis=0)
    facet = np.take(0.55 - 0.35 * normals[:, 1] * 0.9 - 0.33 * normals[:, 0], facing).astype(np.float32)
    facet = cv2.GaussianBlur(facet, (0, 0), 0.012 * side)
    crack = np.abs(noise.crop("rough", side, side, rng.uniform(0, 700, 2))) < 0.05
    shade = facet - 0.35 * np.clip(y + 0.2, 0, 1) + 0.10 * sheet.rough + 0.07 * sheet.leaves - 0.12 * crack
    cover = np.clip(body * side * 0.5 + 0.5, 0, 1) * (y < 0.15 + 0.015 * sheet.leaves)
    return cover.astype(np.float32), np.clip(shade, 0.1, 1.2)


MAKERS = dict(zip(KINDS, (_conifer, _broad, _poplar, _pine, _birch, _bush, _stone)))


@functools.lru_cache(maxsize=None)
def stamps(kind: str) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """COUNT stamps of a kind, the same in every process: each a list of (cover, brightness) pairs of float32
    arrays, one pair for each of SIDES, to resize from the nearest. A tree's foot is the middle of the lower
    edge."""
    rng = np.random.default_rng([KINDS.index(kind), SIDES[0]])
    return [_pyramid(*MAKERS[kind](_Sheet(rng, SIDES[0]))) for _ in range(COUNT)]


def _pyramid(cover, shade):
    """A stamp at all SIDES; the brightness is averaged over what is covered alone."""
    levels = []
    for side in SIDES:
        small = cv2.resize(cover.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        light = cv2.resize((cover * shade).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        levels.append((small, (light / np.maximum(small, 1e-3)).astype(np.float32)))
    return levels
