"""What people build and ride, and people: polygons in the world, projected and drawn far faces first."""
import numpy as np

SKIN = (0.72, 0.55, 0.45)


class Pen:
    """Draws the parts of one thing of a label at depth z; points are (x, y) at that depth, or (x, y, z)."""

    def __init__(self, canvas, label, z):
        self.canvas, self.label, self.z = canvas, label, z

    def _project(self, point):
        return self.canvas.view.project(point[0], point[1], point[2] if len(point) == 3 else self.z)

    def face(self, points, base, light):
        color = self.canvas.color(base, light, self.z)
        self.canvas.polygon([self._project(p) for p in points], color, self.label, self.z)

    def bar(self, start, end, metres, base, light):
        color = self.canvas.color(base, light, self.z)
        width = self.canvas.size(metres, self.z)
        self.canvas.bar(self._project(start), self._project(end), width, color, self.label, self.z)

    def flat(self, points, base, light):
        """A face given in pixels."""
        self.canvas.polygon(points, self.canvas.color(base, light, self.z), self.label, self.z)


def _box(pen, x, y, wide, tall, deep, base):
    """Front and visible side of a box whose front's lower middle is (x, y); the front's left and right x."""
    z, left, right = pen.z, x - wide / 2, x + wide / 2
    side = right if x < 0 else left
    front_light, side_light = 0.75, 0.45
    if (pen.canvas.sun[0] > 0) == (side == right):
        front_light, side_light = side_light, front_light
    pen.face([(side, y), (side, y + tall), (side, y + tall, z + deep), (side, y, z + deep)], base, side_light)
    pen.face([(left, y), (left, y + tall), (right, y + tall), (right, y)], base, front_light)
    return left, right


def _windows(pen, left, right, y, tall, across, up, lit):
    """A grid of windows on a front; they are part of the building."""
    palette, canvas = pen.canvas.palette, pen.canvas
    if lit:
        color = palette["glow"] * 0.9
    else:
        color = canvas.color(palette["dark"] * 0.8 + 0.1 * palette["horizon"], 0.6, pen.z)
    step_x, step_y = (right - left) / across, tall / up
    for i in range(across):
        for j in range(up):
            low = canvas.view.project(left + (i + 0.28) * step_x, y + (j + 0.3) * step_y, pen.z)
            high = canvas.view.project(left + (i + 0.72) * step_x, y + (j + 0.78) * step_y, pen.z)
            if high[0] - low[0] > 1.2:
                canvas.polygon([low, (low[0], high[1]), high, (high[0], low[1])], color, pen.label, pen.z)


def _lit(canvas, rng):
    return canvas.palette.stars > 0 and rng.random() < 0.8


def house(canvas, rng, x, y, z):
    """A cottage with a pitched roof and a chimney."""
    m, pen = canvas.view.metre, Pen(canvas, "house", z)
    wide, tall, deep = rng.uniform(8, 12) * m, rng.uniform(3.5, 5.5) * m, rng.uniform(6, 9) * m
    tint = canvas.palette["wall"] * rng.uniform(0.88, 1.08)
    y = y - 0.4 * m
    left, right = _box(pen, x, y, wide, tall, deep, tint)
    roof, over, top = rng.uniform(2.5, 4.0) * m, 0.6 * m, y + tall
    if rng.random() < 0.5:
        _gable_to_front(pen, x, left, right, top, roof, over, deep, tint)
    else:
        eaves, ridge = top - over / 3, top + roof
        pen.face([(left - over, eaves, z - over), (right + over, eaves, z - over),
                  (right - over, ridge, z + deep / 2), (left + over, ridge, z + deep / 2)], "roof", 0.8)
    chimney = x + rng.choice([-0.2, 0.25]) * wide
    pen.bar((chimney, top + 0.4 * roof), (chimney, top + 1.25 * roof), 0.9, "roof", 0.35)
    _windows(pen, left, right, y + 0.12 * tall, tall * 0.9, int(rng.integers(2, 5)), 1, _lit(canvas, rng))


def _gable_to_front(pen, x, left, right, top, roof, over, deep, tint):
    z, eaves, ridge = pen.z, top - over / 2, top + roof
    side = right + over if x < 0 else left - over
    back = z + deep
    pen.face([(x, ridge), (side, eaves, z - over), (side, eaves, back), (x, ridge, back)], "roof", 0.75)
    pen.face([(left, top), (x, ridge), (right, top)], tint, 0.7)
    for end in (left - over, right + over):
        pen.bar((end, eaves), (x, ridge), 0.5, "roof", 0.5)


def building(canvas, rng, x, y, z):
    """A block of flats or offices, flat-topped, some with a smaller storey on top."""
    m, pen = canvas.view.metre, Pen(canvas, "building", z)
    far = max(1.0, 18 / canvas.size(18, z))                      # a town beyond the water stays visible
    wide, tall, deep = rng.uniform(14, 30) * m * far, rng.uniform(15, 55) * m * far, 15 * m * far
    tint = canvas.palette["wall"] * rng.uniform(0.8, 1.05)
    left, right = _box(pen, x, y - 2 * m, wide, tall, deep, tint)
    if rng.random() < 0.4:
        _box(pen, x, y - 2 * m + tall, wide * 0.6, tall * 0.15, deep, tint * 0.92)
    floors = int(np.clip(tall / (4.5 * m * far), 2, 9))
    lit = _lit(canvas, rng)
    _windows(pen, left, right, y, tall * 0.95, int(rng.integers(3, 6)), floors, lit)


def tower(canvas, rng, x, y, z):
    """A church: nave, tower and spire."""
    m, pen = canvas.view.metre, Pen(canvas, "building", z)
    tint = canvas.palette["wall"] * rng.uniform(0.95, 1.08)
    _box(pen, x + 9 * m, y - m, 16 * m, 9 * m, 10 * m, tint * 0.95)
    pen.face([(x + a * m, y + h * m) for a, h in ((0, 8), (18, 8), (16, 14), (2, 14))], "roof", 0.7)
    _box(pen, x, y - m, 6 * m, 20 * m, 6 * m, tint)
    pen.face([(x + a * m, y + h * m) for a, h in ((-3.6, 19), (3.6, 19), (0, 34))], "roof", 0.6)
    _windows(pen, x - 2 * m, x + 2 * m, y + 10 * m, 7 * m, 1, 2, canvas.palette.stars > 0)


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


def fence(canvas, rng, x, z, ground):
    """A wooden fence of two rails; `ground` gives the height at (x, z)."""
    stations = _stations(canvas.view, rng, x, z, rng.uniform(0.5, 1.1) * canvas.view.width, 2.2)
    base = canvas.palette["roof"] * 0.5 + canvas.palette["wall"] * 0.5
    _rails(canvas, ground, "fence", stations, (0.55, 1.15), 0.22, base, 1.45)


def railing(canvas, rng, x, z, ground):
    """An iron or white railing across the whole picture."""
    stations = _stations(canvas.view, rng, 0, z, 2.2 * canvas.view.focal, 0.9)
    base = canvas.palette["wall"] if rng.random() < 0.5 else canvas.palette["dark"] + 0.08
    _rails(canvas, ground, "railing", stations, (0.2, 0.65, 1.15), 0.12, base, 1.2)


def wall(canvas, rng, x, z, ground):
    """A wall of stone with a coping; every stretch of it follows the ground."""
    m = canvas.view.metre
    tall = rng.uniform(1.0, 1.7) * m
    base = canvas.palette["rock"] * 0.55 + canvas.palette["wall"] * 0.45
    stations = _stations(canvas.view, rng, x, z, rng.uniform(0.6, 1.4) * canvas.view.width, 1.1)
    for (x0, z0), (x1, z1) in zip(stations, stations[1:]):
        y0, y1 = ground(x0, z0) - 0.2 * m, ground(x1, z1) - 0.2 * m
        pen = Pen(canvas, "wall", min(z0, z1) * 0.97)
        front = [(x0, y0, z0), (x0, y0 + tall, z0), (x1, y1 + tall, z1), (x1, y1, z1)]
        pen.face(front, base * rng.uniform(0.9, 1.1), 0.6)
        pen.bar(front[1], front[2], 0.2, base, 1.0)


def pier(canvas, rng, x, y, z):
    """A deck on posts that runs from the near shore out over the water."""
    m = canvas.view.metre
    half, high = rng.uniform(1.25, 2.0) * m, 0.75 * m
    end = z * rng.uniform(2.0, 3.6)
    lean = rng.uniform(-0.15, 0.15) - 0.6 * x / z                # towards the middle of the picture
    base = canvas.palette["roof"] * 0.35 + canvas.palette["sand"] * 0.45
    steps = np.geomspace(end, z * 0.85, 16)
    for k, (far, near) in enumerate(zip(steps, steps[1:])):
        pen = Pen(canvas, "pier", near * 0.9)
        fx, nx = x + lean * (far - z), x + lean * (near - z)
        for side in (nx - half, nx + half):
            pen.bar((side, -0.2 * m, near), (side, high, near), 0.25, base, 0.15)
        pen.face([(fx - half, high, far), (fx + half, high, far),
                  (nx + half, high, near), (nx - half, high, near)], base, 0.95 if k % 2 else 0.8)
        pen.bar((nx - half, high * 0.8, near), (nx + half, high * 0.8, near), 0.3, base, 0.35)


def bridge(canvas, rng, x, z, width):
    """One to three arches of stone across a river at depth z; x is its middle, `width` the river's."""
    m, pen = canvas.view.metre, Pen(canvas, "bridge", z * 0.98)
    half = width / 2 * 1.25 + 5 * m
    tall, deck, foot = rng.uniform(0.06, 0.10) * z + 1.5 * m, 1.4 * m, -0.1 * m
    base = canvas.palette["rock"] * 0.4 + canvas.palette["wall"] * 0.6
    arches = int(rng.integers(1, 4))
    camber = rng.uniform(0, 0.3) * tall
    top = [(x + half * s, tall + deck + camber * (1 - s * s), z) for s in np.linspace(-1, 1, 41)]
    span = 2 * half / arches
    hollow = (span - max(0.16 * span, 1.2 * m)) / 2
    under = [(x + half, foot, z)]
    for k in reversed(range(arches)):
        middle = x - half + (k + 0.5) * span
        angles = np.linspace(0, np.pi, 24)
        under += [(middle + hollow * np.cos(a), foot + tall * 0.9 * np.sin(a), z) for a in angles]
    under.append((x - half, foot, z))
    pen.face([(px, py, z + 4 * m) for px, py, _ in top + under], base, 0.1)      # the far side
    pen.face(top + under, base, 0.65)
    for a, b in zip(top, top[1:]):
        pen.bar(a, b, 0.7, base, 1.0)


def boat(canvas, rng, x, y, z):
    """A rowing boat or a small yacht."""
    pen = Pen(canvas, "boat", z)
    long = rng.uniform(5, 9) * canvas.view.metre
    turn = long if rng.random() < 0.5 else -long

    def part(points, tall, base, light):
        pen.face([(x + a * turn, b * tall) for a, b in points], base, light)

    hull = ("wall", "roof", "bright")[int(rng.integers(3))]
    part([(-0.5, 0.13), (-0.42, -0.01), (0.36, -0.01), (0.52, 0.17), (0.3, 0.12)], long, hull, 0.7)
    part([(-0.5, 0.13), (0.3, 0.12), (0.52, 0.17), (0.3, 0.09), (-0.48, 0.09)], long, "roof", 0.4)
    if rng.random() < 0.55:
        tall = long * rng.uniform(1.1, 1.4)
        sail = "cloud" if rng.random() < 0.7 else "roof"
        part([(0.03, 0.2), (0.03, 1.0), (-0.45, 0.2)], tall, sail, 0.95)
        part([(0.07, 0.18), (0.07, 0.9), (0.44, 0.2)], tall, sail, 0.7)
        pen.bar((x + 0.05 * turn, 0.1 * tall), (x + 0.05 * turn, tall), 0, "roof", 0.3)


def ship(canvas, rng, x, y, z):
    """A steamer with decks and funnels, or a three-master."""
    pen, view = Pen(canvas, "ship", z), canvas.view
    pixels = np.clip(canvas.size(rng.uniform(55, 85), z), 0.13 * view.width, 0.42 * view.width)
    long = pixels * z / view.focal
    turn = long if rng.random() < 0.5 else -long

    def part(points, base, light):
        pen.face([(x + a * turn, b * long) for a, b in points], base, light)

    dark = canvas.palette["dark"] * 0.6 + 0.4 * canvas.palette["roof"]
    hull = dark if rng.random() < 0.6 else "wall"
    if rng.random() < 0.6:
        part([(-0.3, 0.08), (-0.3, 0.17), (0.22, 0.17), (0.26, 0.08)], "wall", 0.8)
        part([(-0.22, 0.16), (-0.22, 0.22), (0.12, 0.22), (0.14, 0.16)], "wall", 0.95)
        for k in range(int(rng.integers(1, 3))):
            a = -0.14 + 0.14 * k
            part([(a, 0.2), (a - 0.01, 0.33), (a + 0.07, 0.33), (a + 0.08, 0.2)], "roof", 0.7)
    else:
        for a, tall in ((-0.28, 0.5), (0.0, 0.58), (0.25, 0.48)):
            for low, high, w in ((0.12, 0.3, 0.11), (0.31, 0.45, 0.085), (0.46, 0.56, 0.06)):
                if high <= tall:
                    sail = [(a - w, low), (a - w * 0.85, high), (a + w * 0.85, high), (a + w * 1.1, low)]
                    part(sail, "cloud", 0.85)
            pen.bar((x + turn * a, 0.05 * long), (x + turn * a, tall * long), 0, "roof", 0.3)
    part([(-0.5, 0.1), (-0.46, -0.005), (0.42, -0.005), (0.53, 0.12), (0.3, 0.085), (-0.35, 0.085)],
         hull, 0.6)


def person(canvas, rng, x, y, z):
    """Somebody standing: legs, coat, head."""
    palette, pen = canvas.palette, Pen(canvas, "person", z)
    tall = max(canvas.size(1.75, z), 22 * canvas.scale)
    column, row = canvas.view.project(x, y, z)

    def part(points, base, light):
        pen.flat([(column + a * tall, row - b * tall) for a, b in points], base, light)

    coat = (palette["roof"], palette["wall"], palette["dark"] + 0.1, palette["bloom"])[int(rng.integers(4))]
    trousers = palette["dark"] * 0.8 + 0.04
    part([(-0.12, 0), (-0.115, 0.52), (0.115, 0.52), (0.12, 0), (0.03, 0), (0, 0.4), (-0.03, 0)],
         trousers, 0.5)
    part([(-0.13, 0.42), (-0.17, 0.78), (-0.1, 0.84), (0.1, 0.84), (0.17, 0.78), (0.13, 0.42)], coat, 0.75)
    circle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    part([(0.075 * np.cos(a), 0.92 + 0.085 * np.sin(a)) for a in circle], SKIN, 0.8)


def bale(canvas, rng, x, y, z):
    """A round bale of straw."""
    pen = Pen(canvas, "other", z)
    radius = max(canvas.size(0.9, z), 7 * canvas.scale)
    column, row = canvas.view.project(x, y, z)
    circle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for aside, light in ((0.7, 0.45), (0.0, 0.85)):
        pen.flat([(column + radius * (aside + np.cos(a)), row - radius * (0.95 + np.sin(a))) for a in circle],
                 canvas.palette["crop"] * 0.85, light)


def turbine(canvas, rng, x, y, z):
    """A wind turbine, as tall as it looks from afar."""
    tall = canvas.view.height * rng.uniform(0.2, 0.32)
    foot = np.array(canvas.view.project(x, y, z))
    hub = foot - [0, tall]
    color = canvas.color("wall", 0.95, z)
    canvas.bar(foot, hub, tall * 0.05, color, "other", z)
    for angle in rng.uniform(0, 2) + np.arange(3) * (2 * np.pi / 3):
        tip = hub + tall * 0.55 * np.array([np.cos(angle), np.sin(angle)])
        canvas.bar(hub, tip, tall * 0.04, color, "other", z)


def balloon(canvas, rng, x, y, z):
    """A striped hot-air balloon in the sky."""
    pen = Pen(canvas, "other", z)
    radius = canvas.view.width * rng.uniform(0.03, 0.055)
    column, row = canvas.view.project(x, y, z)[0], canvas.view.horizon * rng.uniform(0.25, 0.6)
    angle = np.linspace(-np.pi * 1.25, np.pi * 0.25, 30)
    for base, wide in (("roof", radius), ("bright", 0.72 * radius), ("bloom", 0.4 * radius)):
        points = [(column + wide * np.cos(a), row + radius * np.sin(a)) for a in angle]
        low = row + 1.45 * radius
        pen.flat(points + [(column + 0.16 * wide, low), (column - 0.16 * wide, low)], base, 0.9)
    basket = canvas.color("roof", 0.4, z)
    canvas.bar((column, row + 1.4 * radius), (column, row + 1.9 * radius), 0.3 * radius, basket, "other", z)


def tent(canvas, rng, x, y, z):
    """A ridge tent, its entrance towards the camera."""
    pen = Pen(canvas, "other", z)
    size = max(canvas.size(2.2, z), 16 * canvas.scale)
    column, row = canvas.view.project(x, y, z)
    base = "roof" if rng.random() < 0.5 else "bloom"
    for points, light in ((((-1, 0), (-0.2, 1), (0.3, 0)), 0.85),
                          (((-0.2, 1), (0.3, 0), (1.1, 0.15), (0.5, 0.95)), 0.5)):
        pen.flat([(column + a * size, row - b * size) for a, b in points], base, light)
