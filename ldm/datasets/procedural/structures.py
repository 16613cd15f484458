"""Buildings, fences and bridges: polygons in the world, projected and drawn from far to near."""
from __future__ import annotations

from typing import Callable

import numpy as np

from ldm.datasets.procedural.objects import Canvas, Pen


def _box(pen, x, y, wide, tall, deep, base, courses=0.0):
    """Front and visible side of a box whose front's lower middle is (x, y); the front's left and right x.

    `courses`: height of the rows of bricks in metres, 0 for plaster."""
    z, left, right = pen.z, x - wide / 2, x + wide / 2
    side = right if x < 0 else left
    front_light, side_light = 0.80, 0.38
    if (pen.canvas.sun[0] > 0) == (side == right):
        front_light, side_light = 0.52, 0.85
    look = {"grain": 0.06, "sink": 0.18, "courses": pen.canvas.size(courses, z)}
    pen.face([(side, y), (side, y + tall), (side, y + tall, z + deep), (side, y, z + deep)], base, side_light,
             **look)
    pen.face([(left, y), (left, y + tall), (right, y + tall), (right, y)], base, front_light, **look)
    return left, right


def _pane(pen, left, right, low, high, color):
    """One window between two columns and two rows: frame, glass, bars where there is room."""
    canvas = pen.canvas
    wide, tall = right - left, low - high
    if wide < 1.2:
        return

    def rectangle(left, right, top, bottom, tone, **look):
        corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
        canvas.polygon(corners, tone, pen.label, pen.z, **look)

    if wide > 5:
        edge = max(0.14 * wide, 1.0)
        frame = canvas.color("bright", 0.5, pen.z)
        rectangle(left - edge, right + edge, high - edge, low + 1.4 * edge, frame)
    rectangle(left, right, high, low, color, sink=-0.35)
    if wide > 9:
        middle, bar = (left + right) / 2, max(0.05 * wide, 0.8)
        rectangle(middle - bar, middle + bar, high, low, frame)
        rectangle(left, right, high + 0.4 * tall - bar, high + 0.4 * tall + bar, frame)


def _windows(pen, left, right, y, tall, across, up, lit, rng):
    """A grid of windows on a front; they are part of the building. At night (`lit`) most are lit."""
    palette, canvas = pen.canvas.palette, pen.canvas
    glass = canvas.color(palette["dark"] * 0.75 + 0.14 * palette["horizon"], 0.6, pen.z)
    step_x, step_y = (right - left) / across, tall / up
    for i in range(across):
        for j in range(up):
            low = canvas.view.project(left + (i + 0.3) * step_x, y + (j + 0.3) * step_y, pen.z)
            high = canvas.view.project(left + (i + 0.7) * step_x, y + (j + 0.78) * step_y, pen.z)
            color = palette["glow"] * 0.9 if lit and rng.random() < 0.75 else glass * rng.uniform(0.8, 1.2)
            _pane(pen, low[0], high[0], low[1], high[1], color)


def _lit(canvas, rng):
    return canvas.palette.stars > 0 and rng.random() < 0.8


def house(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A cottage with a pitched roof, a door and a chimney."""
    m, pen = canvas.view.metre, Pen(canvas, "house", z)
    wide, tall, deep = rng.uniform(8, 12) * m, rng.uniform(3.5, 5.5) * m, rng.uniform(6, 9) * m
    tint = canvas.palette["wall"] * rng.uniform(0.88, 1.08)
    canvas.shadow(x, y, z + deep / 2, 1.1 * wide, 1.2 * tall)
    y = y - 0.4 * m
    left, right = _box(pen, x, y, wide, tall, deep, tint, 0.35 if rng.random() < 0.4 else 0.0)
    roof, over, top = rng.uniform(2.5, 4.0) * m, 0.6 * m, y + tall
    tiles = {"grain": 0.09, "sink": -0.12, "courses": canvas.size(0.42, z)}
    chimney, stack = x + rng.choice([-0.2, 0.25]) * wide, rng.random() < 0.5
    shade = [(left, top), (right, top), (right, top - 0.4 * m), (left, top - 0.4 * m)]
    pen.face(shade, tint, 0.15)                  # under the eaves
    if stack:
        _gable_to_front(pen, x, left, right, top, roof, over, deep, tint, tiles)
    else:
        eaves, ridge = top - over / 3, top + roof
        pen.face([(left - over, eaves, z - over), (right + over, eaves, z - over),
                  (right - over, ridge, z + deep / 2), (left + over, ridge, z + deep / 2)], "roof", 0.85,
                 **tiles)
    low, high = top + (0.45 if stack else 0.6) * roof, top + 1.25 * roof
    pen.face([(chimney - 0.5 * m, low), (chimney - 0.5 * m, high), (chimney + 0.5 * m, high),
              (chimney + 0.5 * m, low)], "roof", 0.4, side=0.2, courses=canvas.size(0.35, z))
    across = int(rng.integers(2, 5))
    _windows(pen, left, right, y + 0.12 * tall, tall * 0.85, across, 1, _lit(canvas, rng), rng)
    _door(pen, left + (right - left) * rng.integers(1, across) / across, y, min(2.6 * m, 0.62 * tall))


def _door(pen, x, y, tall):
    wide = 0.22 * tall
    pen.face([(x - 1.3 * wide, y), (x - 1.3 * wide, 1.08 * tall + y), (x + 1.3 * wide, 1.08 * tall + y),
              (x + 1.3 * wide, y)], "bright", 0.45)
    pen.face([(x - wide, y), (x - wide, tall + y), (x + wide, tall + y), (x + wide, y)], "roof", 0.3,
             sink=0.3)


def _gable_to_front(pen, x, left, right, top, roof, over, deep, tint, tiles):
    z, eaves, ridge = pen.z, top - over / 2, top + roof
    side = right + over if x < 0 else left - over
    back = z + deep
    pen.face([(x, ridge), (side, eaves, z - over), (side, eaves, back), (x, ridge, back)], "roof", 0.75,
             **tiles)
    pen.face([(left, top), (x, ridge), (right, top)], tint, 0.7, grain=0.06)
    middle = pen.project((x, top + 0.3 * roof))
    half = pen.canvas.size(0.45, z)
    _pane(pen, middle[0] - half, middle[0] + half, middle[1] + half, middle[1] - half,
          pen.canvas.color(pen.canvas.palette["dark"] * 0.8, 0.6, z))
    for end in (left - over, right + over):
        pen.bar((end, eaves), (x, ridge), 0.5, "roof", 0.5)


def building(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A block of flats or offices, flat-topped, some with a smaller storey on top."""
    m, pen = canvas.view.metre, Pen(canvas, "building", z)
    far = max(1.0, 18 / canvas.size(18, z))                      # a town beyond the water stays visible
    wide, tall, deep = rng.uniform(14, 30) * m * far, rng.uniform(15, 55) * m * far, 15 * m * far
    tint = canvas.palette["wall"] * rng.uniform(0.65, 1.05)
    left, right = _box(pen, x, y - 2 * m, wide, tall, deep, tint)
    roof = y - 2 * m + tall
    if rng.random() < 0.5:
        _box(pen, x + rng.uniform(-0.2, 0.2) * wide, roof, wide * rng.uniform(0.25, 0.6), tall * 0.12, deep,
             tint * 0.92)
    floors = int(np.clip(min(tall / (4.0 * m * far), canvas.size(tall / m, z) / 5), 1, 14))
    across = int(np.clip(rng.integers(3, 8), 1, max(canvas.size(wide / m, z) / 4.5, 1)))
    lit = _lit(canvas, rng)
    _windows(pen, left, right, y, tall * 0.95, across, floors, lit, rng)
    pen.bar((left, roof), (right, roof), 0.9 * far, tint, 1.0)


def tower(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A church: nave, tower and spire."""
    m, pen = canvas.view.metre, Pen(canvas, "building", z)
    tint = canvas.palette["wall"] * rng.uniform(0.95, 1.08)
    canvas.shadow(x + 4 * m, y, z, 16 * m, 16 * m)
    _box(pen, x + 9 * m, y - m, 16 * m, 9 * m, 10 * m, tint * 0.95, 0.5)
    pen.face([(x + a * m, y + h * m) for a, h in ((0, 8), (18, 8), (16, 14), (2, 14))], "roof", 0.7,
             grain=0.09, courses=canvas.size(0.5, z))
    _box(pen, x, y - m, 6 * m, 20 * m, 6 * m, tint, 0.5)
    pen.face([(x + a * m, y + h * m) for a, h in ((-3.6, 19), (3.6, 19), (0, 34))], "roof", 0.6, side=0.3)
    _windows(pen, x - 2 * m, x + 2 * m, y + 10 * m, 7 * m, 1, 2, canvas.palette.stars > 0, rng)
    _windows(pen, x + 4 * m, x + 16 * m, y + 1.5 * m, 6 * m, 4, 1, canvas.palette.stars > 0, rng)


def _stations(view, rng, x, z, pixels, metres):
    """Points (x, z), `metres` apart, of something straight across the picture, askew, `pixels` long."""
    half, askew = pixels / 2 / view.focal * z, rng.uniform(-0.06, 0.06) * z
    count = max(int(2 * np.hypot(half, askew) / (metres * view.metre)), 1)
    return [(x + half * t, z + askew * t) for t in np.linspace(-1, 1, count + 1)]


def _rails(canvas, ground, label, stations, heights, thick, base, tall):
    """Posts `tall` at the stations, and rails between them at `heights`; all in metres."""
    m = canvas.view.metre
    feet = [(x, ground(x, z), z) for x, z in stations]
    for (x0, y0, z0), (x1, y1, z1) in zip(feet, feet[1:]):
        pen = Pen(canvas, label, min(z0, z1) * 0.97)
        for h in heights:
            pen.bar((x0, y0 + h * m, z0), (x1, y1 + h * m, z1), thick, base, 0.75)
    for x, y, z in feet:
        Pen(canvas, label, z * 0.97).bar((x, y - 0.05 * m, z), (x, y + tall * m, z), thick * 1.3, base, 0.5)


def fence(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
          ground: Callable[[float, float], float]) -> None:
    """A wooden fence of two rails; `ground` gives the height at (x, z)."""
    stations = _stations(canvas.view, rng, x, z, rng.uniform(0.5, 1.1) * canvas.view.width, 2.2)
    base = canvas.palette["roof"] * 0.5 + canvas.palette["wall"] * 0.5
    _rails(canvas, ground, "fence", stations, (0.55, 1.15), 0.22, base, 1.45)


def railing(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
            ground: Callable[[float, float], float]) -> None:
    """An iron or white railing across the whole picture."""
    stations = _stations(canvas.view, rng, 0, z, 2.2 * canvas.view.focal, 0.9)
    base = canvas.palette["wall"] if rng.random() < 0.5 else canvas.palette["dark"] + 0.08
    _rails(canvas, ground, "railing", stations, (0.2, 0.65, 1.15), 0.12, base, 1.2)


def wall(canvas: Canvas, rng: np.random.Generator, x: float, z: float,
         ground: Callable[[float, float], float]) -> None:
    """A wall of stone with a coping; every stretch of it follows the ground."""
    m = canvas.view.metre
    tall = rng.uniform(1.0, 1.7) * m
    base = canvas.palette["rock"] * 0.55 + canvas.palette["wall"] * 0.45
    stations = _stations(canvas.view, rng, x, z, rng.uniform(0.6, 1.4) * canvas.view.width, 1.1)
    for (x0, z0), (x1, z1) in zip(stations, stations[1:]):
        y0, y1 = ground(x0, z0) - 0.2 * m, ground(x1, z1) - 0.2 * m
        pen = Pen(canvas, "wall", min(z0, z1) * 0.97)
        front = [(x0, y0, z0), (x0, y0 + tall, z0), (x1, y1 + tall, z1), (x1, y1, z1)]
        pen.face(front, base * rng.uniform(0.97, 1.03), 0.6, grain=0.14, sink=0.2, courses=canvas.size(0.3,
                                                                                                       z0))
        pen.bar(front[1], front[2], 0.2, base, 1.0)


def pier(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    """A deck on posts that runs from the near shore out over the water."""
    m = canvas.view.metre
    half, high = rng.uniform(1.25, 2.0) * m, 0.75 * m
    end = z * rng.uniform(2.0, 3.6)
    lean = rng.uniform(-0.15, 0.15) - 0.6 * x / z                # towards the middle of the picture
    base = canvas.palette["roof"] * 0.35 + canvas.palette["sand"] * 0.45
    steps = np.geomspace(end, z * 0.85, 16)
    for far, near in zip(steps, steps[1:]):
        pen = Pen(canvas, "pier", near * 0.9)
        fx, nx = x + lean * (far - z), x + lean * (near - z)
        for side in (nx - half, nx + half):
            pen.bar((side, -0.2 * m, near), (side, high, near), 0.25, base, 0.15)
        pen.face([(fx - half, high, far), (fx + half, high, far),
                  (nx + half, high, near), (nx - half, high, near)], base * rng.uniform(0.88, 1.08), 0.9,
                  grain=0.1,
                 courses=canvas.size(0.9, near) * 0.3)
        pen.bar((nx - half, high * 0.8, near), (nx + half, high * 0.8, near), 0.3, base, 0.35)


def bridge(canvas: Canvas, rng: np.random.Generator, x: float, z: float, width: float) -> None:
    """One to three arches of stone across a river at depth z; x is its middle, `width` the river's."""
    m, pen = canvas.view.metre, Pen(canvas, "bridge", z * 0.98)
    half = width / 2 * 1.25 + 5 * m
    tall, deck, foot = rng.uniform(0.06, 0.10) * z + 1.5 * m, 1.4 * m, -0.1 * m
    base = canvas.palette["rock"] * 0.4 + canvas.palette["wall"] * 0.6
    arches = int(rng.integers(1, 4))
    camber = rng.uniform(0, 0.3) * tall
    top: list[tuple[float, ...]] = [(x + half * s, tall + deck + camber * (1 - s * s), z)
                                    for s in np.linspace(-1, 1, 41)]
    span = 2 * half / arches
    hollow = (span - max(0.16 * span, 1.2 * m)) / 2
    under: list[tuple[float, ...]] = [(x + half, foot, z)]
    for k in reversed(range(arches)):
        middle = x - half + (k + 0.5) * span
        angles = np.linspace(0, np.pi, 24)
        under += [(middle + hollow * np.cos(a), foot + tall * 0.9 * np.sin(a), z) for a in angles]
    under.append((x - half, foot, z))
    pen.face([(px, py, z + 4 * m) for px, py, _ in top + under], base, 0.1)      # the far side
    pen.face(top + under, base, 0.65, grain=0.12, sink=0.15, courses=canvas.size(0.6, z))
    for k in range(arches if canvas.size(0.5, z) > 1.5 else 0):    # the ring of each arch
        middle = x - half + (k + 0.5) * span
        thick = min(0.7 * m, 0.8 * (span / 2 - hollow))
        ring = [(middle + r * hollow * np.cos(a), foot + r * tall * 0.9 * np.sin(a), z)
                for r, turn in ((1.0, 1), (1 + thick / hollow, -1)) for a in np.linspace(0, np.pi,
                                                                                         24)[::turn]]
        pen.face(ring, base, 0.8, grain=0.15)
    for a, b in zip(top, top[1:]):
        pen.bar(a, b, 0.7, base, 1.0)
