"""What moves: boats, ships, people, and what belongs to none of the contest's classes."""
from __future__ import annotations

import numpy as np

from ldm.datasets.procedural.objects import Canvas, Pen

SKIN = (0.72, 0.55, 0.45)


def _parts(pen, column, row, tall, turn=1):
    """A function that draws a polygon in shares of `tall` pixels over (column, row); turn -1 mirrors it."""

    def part(points, base, light, **surface):
        pen.flat([(column + turn * a * tall, row - b * tall) for a, b in points], base, light, **surface)
    return part


def boat(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A rowing boat or a small yacht."""
    pen = Pen(canvas, "boat", z)
    long = canvas.size(rng.uniform(5, 9), z)
    column, row = canvas.view.project(x, y, z)
    part = _parts(pen, column, row, long, 1 if rng.random() < 0.5 else -1)
    hull = ("wall", "roof", "bright")[int(rng.integers(3))]
    if rng.random() < 0.55:
        _sails(part, rng)
    else:
        part([(-0.44, 0.15), (-0.3, 0.15), (-0.3, 0.12), (-0.44, 0.12)], "roof", 0.55)       # thwart
        part([(0.0, 0.15), (0.12, 0.15), (0.12, 0.12), (0.0, 0.12)], "roof", 0.55)
    part([(-0.5, 0.14), (-0.1, 0.11), (0.25, 0.12), (0.53, 0.18), (0.3, 0.08), (-0.48, 0.08)], "dark", 0.3)
    part([(-0.5, 0.13), (-0.46, 0.03), (-0.40, -0.01), (0.36, -0.01), (0.44, 0.05), (0.53, 0.17), (0.25,
                                                                                                   0.105),
          (-0.1, 0.095)], hull, 0.75, side=0.12, sink=0.3)
    part([(-0.5, 0.145), (-0.1, 0.11), (0.25, 0.12), (0.53, 0.185), (0.53, 0.16), (0.25, 0.095), (-0.1,
                                                                                                  0.085),
          (-0.495, 0.12)], "roof", 0.6)


def _sails(part, rng):
    """A mast with a main sail and a jib, both filled by the wind."""
    tall = rng.uniform(1.1, 1.4)
    sail = "cloud" if rng.random() < 0.7 else "roof"
    part([(0.045, 0.1), (0.045, tall), (0.065, tall), (0.065, 0.1)], "roof", 0.35)
    part([(0.04, 0.2), (0.04, 0.98 * tall), (-0.12, 0.66 * tall), (-0.27, 0.42 * tall), (-0.43, 0.22),
          (-0.2, 0.19)], sail, 0.95, side=0.08, sink=0.08)
    part([(0.04, 0.2), (0.04, 0.98 * tall), (-0.02, 0.6 * tall), (-0.1, 0.21)], sail, 0.75)
    part([(0.075, 0.2), (0.07, 0.86 * tall), (0.26, 0.5 * tall), (0.47, 0.2), (0.25, 0.23)], sail, 0.72,
         side=0.1)
    part([(0.05, 0.2), (0.05, 0.18), (-0.44, 0.2), (-0.44, 0.22)], "roof", 0.5)


def ship(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A steamer with decks and funnels, or a three-master."""
    pen, view = Pen(canvas, "ship", z), canvas.view
    long = np.clip(canvas.size(rng.uniform(55, 85), z), 0.13 * view.width, 0.42 * view.width)
    column, row = view.project(x, y, z)
    part = _parts(pen, column, row, long, 1 if rng.random() < 0.5 else -1)
    dark = canvas.palette["dark"] * 0.6 + 0.4 * canvas.palette["roof"]
    hull = dark if rng.random() < 0.6 else "wall"
    steam = rng.random() < 0.6
    if steam:
        _decks(part, rng, long)
    else:
        _rigging(part, rng)
    part([(-0.5, 0.105), (-0.49, 0.03), (-0.46, -0.005), (0.42, -0.005), (0.47, 0.04), (0.53, 0.12), (0.3,
                                                                                                      0.085),
          (-0.35, 0.085)], hull, 0.65, side=0.10, sink=0.25)
    part([(-0.47, 0.01), (-0.46, -0.005), (0.42, -0.005), (0.435, 0.01)], "roof", 0.4)  # at the water line
    part([(-0.5, 0.107), (-0.35, 0.088), (0.3, 0.088), (0.53, 0.123), (0.53, 0.112), (0.3, 0.076), (-0.35,
                                                                                                    0.076),
          (-0.5, 0.096)], "bright", 0.7)
    if steam and long > 90:
        for a in np.linspace(-0.4, 0.36, 16):
            part([(a, 0.045), (a, 0.06), (a + 0.014, 0.06), (a + 0.014, 0.045)], "dark", 0.4)


def _decks(part, rng, long):
    """Two or three storeys with rows of windows, funnels and a mast."""
    for left, right, low, high in ((-0.36, 0.24, 0.08, 0.125), (-0.31, 0.19, 0.125, 0.165),
                                   (-0.22, 0.14, 0.165, 0.205)):
        part([(left, low), (left, high), (right, high), (right + 0.02, low)], "wall", 0.85, side=0.08)
        part([(left, high), (left, high - 0.007), (right + 0.005, high - 0.007), (right, high)], "bright",
             0.9)
        steps = np.arange(left + 0.02, right - 0.02, 0.03) if long > 90 else ()
        for a in steps:
            part([(a, low + 0.012), (a, high - 0.014), (a + 0.016, high - 0.014), (a + 0.016, low + 0.012)],
                 "dark", 0.5)
    part([(0.14, 0.2), (0.137, 0.36), (0.145, 0.36), (0.152, 0.2)], "dark", 0.5)
    for k in range(int(rng.integers(1, 3))):
        a = -0.14 + 0.13 * k
        part([(a, 0.2), (a - 0.012, 0.32), (a + 0.048, 0.32), (a + 0.06, 0.2)], "roof", 0.75, side=0.25)
        part([(a - 0.01, 0.30), (a - 0.012, 0.325), (a + 0.048, 0.325), (a + 0.05, 0.30)], "dark", 0.4)


def _rigging(part, rng):
    """Three masts with square sails, bellied out, on yards; a bowsprit with a jib."""
    sail = "cloud" if rng.random() < 0.8 else "sand"
    part([(0.45, 0.11), (0.66, 0.2), (0.665, 0.19), (0.47, 0.09)], "roof", 0.35)
    part([(0.3, 0.42), (0.45, 0.22), (0.64, 0.19), (0.42, 0.16)], sail, 0.7)
    for a, tall in ((-0.28, 0.5), (0.0, 0.58), (0.25, 0.48)):
        part([(a - 0.008, 0.05), (a - 0.005, tall), (a + 0.005, tall), (a + 0.008, 0.05)], "roof", 0.3)
        for low, high, w in ((0.12, 0.27, 0.105), (0.285, 0.4, 0.085), (0.415, 0.5, 0.06)):
            if high <= tall:
                part([(a - w, low), (a - 0.86 * w, (low + high) / 2), (a - 0.88 * w, high), (a + 0.88 * w,
                                                                                             high),
                      (a + 1.04 * w, (low + high) / 2), (a + 1.06 * w, low), (a, low + 0.018)], sail, 0.85,
                     side=0.14, sink=0.14)
                part([(a - 0.95 * w, high + 0.006), (a + 0.95 * w, high + 0.006), (a + 0.95 * w,
                                                                                   high - 0.004),
                      (a - 0.95 * w, high - 0.004)], "roof", 0.3)


def person(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """Somebody who stands or walks: shoes, trousers or skirt, coat, arms, head and hair."""
    palette, pen = canvas.palette, Pen(canvas, "person", z)
    tall = max(canvas.size(rng.uniform(1.6, 1.85), z), 22 * canvas.scale)
    canvas.shadow(x, y, z, 0.35 * tall * z / canvas.view.focal, 0.8 * tall * z / canvas.view.focal)
    column, row = canvas.view.project(x, y, z)
    part = _parts(pen, column, row, tall, 1 if rng.random() < 0.5 else -1)
    coats = palette["roof"], palette["wall"], palette["dark"] + 0.1, palette["bloom"]
    coat, trousers = coats[int(rng.integers(4))], palette["dark"] * rng.uniform(0.7, 1.4) + 0.04
    step = rng.uniform(0.02, 0.12)
    look = {"side": 0.22, "grain": 0.03}
    for side, light in ((-1, 0.4), (1, 0.6)):    # the far leg first
        foot = side * step
        part([(0.01 + 0.05 * side - 0.055, 0.5), (foot - 0.045, 0.03), (foot + 0.045, 0.03),
              (0.01 + 0.05 * side + 0.06, 0.5)], trousers, light, **look)
        part([(foot - 0.05, 0.045), (foot - 0.05, 0), (foot + 0.085, 0), (foot + 0.04, 0.045)],
             palette["dark"] * 0.7, 0.4)
    if rng.random() < 0.15:
        part([(-0.09, 0.55), (-0.15, 0.22), (0.15, 0.22), (0.09, 0.55)], coat * 0.8, 0.7, **look)
    swing = step * 0.9
    part([(-0.13, 0.80), (-0.19 - swing, 0.48), (-0.14 - swing, 0.46), (-0.07, 0.78)], coat * 0.85, 0.55)
    part([(-0.12, 0.46), (-0.11, 0.64), (-0.145, 0.79), (-0.06, 0.845), (0.06, 0.845), (0.145, 0.79), (0.11,
                                                                                                       0.64),
          (0.12, 0.46)], coat, 0.8, sink=0.1, **look)
    part([(0.08, 0.80), (0.13 + swing, 0.47), (0.185 + swing, 0.48), (0.15, 0.79)], coat * 0.92, 0.75)
    circle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    part([(0.064 * np.cos(a), 0.915 + 0.082 * np.sin(a)) for a in circle], SKIN, 0.8, **look)
    hair = palette["dark"] * rng.uniform(0.6, 1.6) + rng.uniform(0, 0.1)
    part([(0.07 * np.cos(a), 0.93 + 0.077 * np.sin(a)) for a in np.linspace(-0.1, np.pi + 0.7, 12)], hair,
         0.6)


def bale(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A round bale of straw."""
    pen = Pen(canvas, "other", z)
    radius = max(canvas.size(0.9, z), 7 * canvas.scale)
    canvas.shadow(x, y, z, 2.5 * radius * z / canvas.view.focal, 1.6 * radius * z / canvas.view.focal)
    part = _parts(pen, *canvas.view.project(x, y, z), radius)
    circle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    straw = canvas.palette["crop"] * 0.85
    hull = [(0.9 + np.cos(a), 0.95 + np.sin(a)) for a in np.linspace(-np.pi / 2, np.pi / 2, 12)]
    part(hull + [(0, 1.95), (0, -0.05)], straw, 0.6, grain=0.2, sink=0.5)
    for size, light in ((1.0, 0.85), (0.72, 0.7), (0.45, 0.85), (0.2, 0.65)):
        part([(size * np.cos(a), 0.95 + size * np.sin(a)) for a in circle], straw, light, grain=0.2,
             sink=0.15)


def turbine(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A wind turbine, as tall as it looks from afar."""
    pen, tall = Pen(canvas, "other", z), canvas.view.height * rng.uniform(0.2, 0.32)
    thin = 0.55 * canvas.thin / tall
    part = _parts(pen, *canvas.view.project(x, y, z), tall)
    foot, top = max(0.022, thin), max(0.012, thin)
    part([(-foot, 0), (-top, 1), (top, 1), (foot, 0)], "wall", 0.95, side=0.15)
    for angle in rng.uniform(0, 2) + np.arange(3) * (2 * np.pi / 3):
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]]) * max(0.02, thin)
        hub = np.array([0, 1.0])
        part([hub + 0.3 * across, hub + 0.12 * along + across, hub + 0.56 * along + 0.5 * across,
              hub + 0.56 * along, hub + 0.1 * along - 0.5 * across], "wall", 0.95)
    part([(-1.6 * top, 0.985), (-1.6 * top, 1.015), (1.6 * top, 1.015), (1.6 * top, 0.985)], "wall", 0.8)


def balloon(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A striped hot-air balloon in the sky."""
    pen = Pen(canvas, "other", z)
    radius = canvas.view.width * rng.uniform(0.022, 0.05)
    column, row = canvas.view.project(x, y, z)[0], canvas.view.horizon * rng.uniform(0.25, 0.6)
    part = _parts(pen, column, row, radius)
    angle = np.linspace(-np.pi * 0.25, np.pi * 1.25, 30)
    for k, wide in enumerate((1.0, 0.84, 0.62, 0.38, 0.14)):
        points = [(wide * np.cos(a), np.sin(a)) for a in angle]
        base = ("roof", "bright", "bloom", "bright", "roof")[k]
        part([(0.16 * wide, -1.45), *points, (-0.16 * wide, -1.45)], base, 0.85, side=0.22, sink=0.3,
             grain=0.02)
    part([(-0.15, -1.6), (-0.13, -1.9), (0.13, -1.9), (0.15, -1.6)], "roof", 0.4)
    for side in (-1, 1):
        part([(0.15 * side, -1.44), (0.15 * side, -1.62), (0.11 * side, -1.62), (0.11 * side, -1.44)],
             "dark", 0.4)


def tent(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A ridge tent, its entrance towards the camera."""
    pen = Pen(canvas, "other", z)
    size = max(canvas.size(2.2, z), 16 * canvas.scale)
    canvas.shadow(x, y, z, 2 * size * z / canvas.view.focal, 0.8 * size * z / canvas.view.focal)
    part = _parts(pen, *canvas.view.project(x, y, z), size)
    base = "roof" if rng.random() < 0.5 else "bloom"
    part([(-0.2, 1), (0.3, 0), (1.1, 0.15), (0.5, 0.95), (0.15, 0.94)], base, 0.5, sink=0.2, grain=0.05)
    part([(-1, 0), (-0.65, 0.46), (-0.2, 1), (0.3, 0)], base, 0.9, sink=0.15, grain=0.05)
    part([(-0.52, 0.01), (-0.22, 0.8), (-0.05, 0.01)], "dark", 0.3)
    part([(-0.22, 0.8), (-0.05, 0.01), (-0.16, 0.02)], base, 0.55)
