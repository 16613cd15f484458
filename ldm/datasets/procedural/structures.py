"""What people build and ride, and people: boxes and polygons in the world, projected and drawn far faces first."""
import numpy as np

SKIN = (0.72, 0.55, 0.45)


def _box(canvas, x, y, z, wide, tall, deep, base, label, lights=(0.75, 0.45)):
    """Front and one side of a box whose front's lower middle is (x, y, z)."""
    project, left, right = canvas.view.project, x - wide / 2, x + wide / 2
    side = right if x < 0 else left                              # the side that the camera sees
    if canvas.sun[0] * (1 if side == right else -1) > 0:
        lights = lights[::-1]
    canvas.polygon([project(side, y, z), project(side, y + tall, z), project(side, y + tall, z + deep),
                    project(side, y, z + deep)], canvas.color(base, lights[1], z), label, z)
    canvas.polygon([project(left, y, z), project(left, y + tall, z), project(right, y + tall, z), project(right, y, z)],
                   canvas.color(base, lights[0], z), label, z)
    return left, right


def _windows(canvas, left, right, y, tall, z, across, up, label, lit):
    """A grid of windows on a front; they are part of the building."""
    base = canvas.palette["glow"] * 0.9 if lit else canvas.palette["dark"] * 0.8 + 0.1 * canvas.palette["horizon"]
    color = base if lit else canvas.color(base, 0.6, z)
    step_x, step_y = (right - left) / across, tall / up
    for i in range(across):
        for j in range(up):
            a, b = left + (i + 0.28) * step_x, left + (i + 0.72) * step_x
            low, high = y + (j + 0.3) * step_y, y + (j + 0.78) * step_y
            points = [canvas.view.project(px, py, z) for px, py in ((a, low), (a, high), (b, high), (b, low))]
            if points[2][0] - points[0][0] > 1.2:
                canvas.polygon(points, color, label, z)


def house(canvas, rng, x, y, z):
    m, project = canvas.view.metre, canvas.view.project
    wide, tall, deep = rng.uniform(8, 12) * m, rng.uniform(3.5, 5.5) * m, rng.uniform(6, 9) * m
    tint = canvas.palette["wall"] * rng.uniform(0.88, 1.08)
    y = y - 0.4 * m
    left, right = _box(canvas, x, y, z, wide, tall, deep, tint, "house")
    roof, over, top = rng.uniform(2.5, 4.0) * m, 0.6 * m, y + tall
    if rng.random() < 0.5:                                       # the gable to the front
        side = right + over if x < 0 else left - over
        ridge = project(x, top + roof, z), project(x, top + roof, z + deep)
        canvas.polygon([ridge[0], project(side, top - over / 2, z - over), project(side, top - over / 2, z + deep), ridge[1]],
                       canvas.color("roof", 0.75, z), "house", z)
        canvas.polygon([project(left, top, z), ridge[0], project(right, top, z)], canvas.color(tint, 0.7, z), "house", z)
        for end in (left - over, right + over):
            canvas.bar(project(end, top - over / 2, z), ridge[0], canvas.size(0.5, z), canvas.color("roof", 0.5, z), "house", z)
    else:
        canvas.polygon([project(left - over, top - over / 3, z - over), project(right + over, top - over / 3, z - over),
                        project(right - over, top + roof, z + deep / 2), project(left + over, top + roof, z + deep / 2)],
                       canvas.color("roof", 0.8, z), "house", z)
    chimney = x + rng.choice([-0.2, 0.25]) * wide
    canvas.bar(project(chimney, top + 0.4 * roof, z), project(chimney, top + 1.25 * roof, z), canvas.size(0.9, z),
               canvas.color("roof", 0.35, z), "house", z)
    lit = canvas.palette.stars > 0 and rng.random() < 0.8
    _windows(canvas, left, right, y + 0.12 * tall, tall * 0.9, z, int(rng.integers(2, 5)), 1, "house", lit)


def building(canvas, rng, x, y, z):
    """A block of flats or offices, flat-topped, some with a smaller storey on top."""
    m = canvas.view.metre
    far = max(1.0, 18 / canvas.size(18, z))                      # a town beyond the water stays visible
    wide, tall, deep = rng.uniform(14, 30) * m * far, rng.uniform(15, 55) * m * far, 15 * m * far
    tint = canvas.palette["wall"] * rng.uniform(0.8, 1.05)
    left, right = _box(canvas, x, y - 2 * m, z, wide, tall, deep, tint, "building")
    if rng.random() < 0.4:
        _box(canvas, x, y - 2 * m + tall, z, wide * 0.6, tall * 0.15, deep, tint * 0.92, "building")
    floors = int(np.clip(tall / (4.5 * m * far), 2, 9))
    lit = canvas.palette.stars > 0 and rng.random() < 0.8
    _windows(canvas, left, right, y, tall * 0.95, z, int(rng.integers(3, 6)), floors, "building", lit)


def tower(canvas, rng, x, y, z):
    """A church: nave, tower and spire."""
    m, project = canvas.view.metre, canvas.view.project
    tint = canvas.palette["wall"] * rng.uniform(0.95, 1.08)
    _box(canvas, x + 9 * m, y - m, z, 16 * m, 9 * m, 10 * m, tint * 0.95, "building")
    canvas.polygon([project(x + dx * m, y + h * m, z) for dx, h in ((0, 8), (18, 8), (16, 14), (2, 14))],
                   canvas.color("roof", 0.7, z), "building", z)
    _box(canvas, x, y - m, z, 6 * m, 20 * m, 6 * m, tint, "building")
    canvas.polygon([project(x + dx * m, y + h * m, z) for dx, h in ((-3.6, 19), (3.6, 19), (0, 34))],
                   canvas.color("roof", 0.6, z), "building", z)
    _windows(canvas, x - 2 * m, x + 2 * m, y + 10 * m, 7 * m, z, 1, 2, "building", canvas.palette.stars > 0)


def _line(canvas, rng, x, z, length_px):
    """Two ends of something straight that runs across the picture, a little askew: ((x0, z0), (x1, z1))."""
    half = length_px / 2 / canvas.view.focal * z
    askew = rng.uniform(-0.12, 0.12) * z
    return (x - half, z - askew / 2), (x + half, z + askew / 2)


def _stations(start, end, step):
    count = max(int(np.hypot(end[0] - start[0], end[1] - start[1]) / step), 1)
    return [(start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in np.linspace(0, 1, count + 1)]


def _rails(canvas, ground, stations, heights, thick, base, label, posts):
    """Posts at the stations, and rails between them at the given heights in metres."""
    m, project = canvas.view.metre, canvas.view.project
    feet = [(x, ground(x, z), z) for x, z in stations]
    for (x0, y0, z0), (x1, y1, z1) in zip(feet, feet[1:]):
        for h in heights:
            canvas.bar(project(x0, y0 + h * m, z0), project(x1, y1 + h * m, z1), canvas.size(thick, z0),
                       canvas.color(base, 0.75, z0), label, min(z0, z1) * 0.97)
    for x, y, z in feet:
        canvas.bar(project(x, y - 0.05 * m, z), project(x, y + posts * m, z), canvas.size(thick * 1.3, z),
                   canvas.color(base, 0.5, z), label, z * 0.97)


def fence(canvas, rng, x, y, z, ground):
    start, end = _line(canvas, rng, x, z, rng.uniform(0.5, 1.1) * canvas.view.width)
    _rails(canvas, ground, _stations(start, end, 2.2 * canvas.view.metre), (0.55, 1.15), 0.22,
           canvas.palette["roof"] * 0.5 + canvas.palette["wall"] * 0.5, "fence", 1.45)


def railing(canvas, rng, x, y, z, ground):
    start, end = (-1.1 * z, z), (1.1 * z, z)
    base = canvas.palette["wall"] if rng.random() < 0.5 else canvas.palette["dark"] + 0.08
    _rails(canvas, ground, _stations(start, end, 0.9 * canvas.view.metre), (0.2, 0.65, 1.15), 0.12, base, "railing", 1.2)


def wall(canvas, rng, x, y, z, ground):
    """A wall of stone with a coping; every stretch of it follows the ground."""
    m, project = canvas.view.metre, canvas.view.project
    start, end = _line(canvas, rng, x, z, rng.uniform(0.6, 1.4) * canvas.view.width)
    tall = rng.uniform(1.0, 1.7) * m
    base = canvas.palette["rock"] * 0.55 + canvas.palette["wall"] * 0.45
    stations = _stations(start, end, 1.1 * m)
    for (x0, z0), (x1, z1) in zip(stations, stations[1:]):
        y0, y1 = ground(x0, z0) - 0.2 * m, ground(x1, z1) - 0.2 * m
        canvas.polygon([project(x0, y0, z0), project(x0, y0 + tall, z0), project(x1, y1 + tall, z1), project(x1, y1, z1)],
                       canvas.color(base * rng.uniform(0.9, 1.1), 0.6, z0), "wall", min(z0, z1) * 0.97)
        canvas.bar(project(x0, y0 + tall, z0), project(x1, y1 + tall, z1), canvas.size(0.2, z0),
                   canvas.color(base, 1.0, z0), "wall", min(z0, z1) * 0.97)


def pier(canvas, rng, x, y, z):
    """A deck on posts that runs from the near shore out over the water."""
    m, project = canvas.view.metre, canvas.view.project
    wide, high = rng.uniform(2.5, 4.0) * m, 0.75 * m
    ends = z * rng.uniform(2.0, 3.6)
    lean = rng.uniform(-0.15, 0.15) - 0.6 * x / z
    base = canvas.palette["roof"] * 0.35 + canvas.palette["sand"] * 0.45
    steps = np.geomspace(ends, z * 0.85, 16)
    for k, (far, near) in enumerate(zip(steps, steps[1:])):
        fx, nx = x + lean * (far - z), x + lean * (near - z)
        for side in (-wide / 2, wide / 2):
            canvas.bar(project(nx + side, -0.2 * m, near), project(nx + side, high, near), canvas.size(0.25, near),
                       canvas.color(base, 0.15, near), "pier", near * 0.9)
        canvas.polygon([project(fx - wide / 2, high, far), project(fx + wide / 2, high, far),
                        project(nx + wide / 2, high, near), project(nx - wide / 2, high, near)],
                       canvas.color(base, 0.95 if k % 2 else 0.8, near), "pier", near * 0.9)
        canvas.bar(project(nx - wide / 2, high * 0.8, near), project(nx + wide / 2, high * 0.8, near), canvas.size(0.3, near),
                   canvas.color(base, 0.35, near), "pier", near * 0.9)


def bridge(canvas, rng, x, y, z, width):
    """Arches of stone across the river at depth z, `width` the river's."""
    m, project = canvas.view.metre, canvas.view.project
    half = width / 2 * 1.25 + 5 * m
    tall, deck = rng.uniform(0.10, 0.17) * z * 0.6 + 1.5 * m, 1.4 * m
    base = canvas.palette["rock"] * 0.4 + canvas.palette["wall"] * 0.6
    arches = int(rng.integers(1, 4))
    camber = rng.uniform(0, 0.3) * tall
    t = np.linspace(-1, 1, 41)
    top = [(x + half * s, tall + deck + camber * (1 - s * s)) for s in t]
    span, pier_wide = 2 * half / arches, max(0.16 * 2 * half / arches, 1.2 * m)
    under = [(x + half, -0.1 * m)]
    for k in reversed(range(arches)):
        left, right = x - half + k * span + pier_wide / 2, x - half + (k + 1) * span - pier_wide / 2
        angle = np.linspace(0, np.pi, 24)
        under += [((left + right) / 2 + (right - left) / 2 * np.cos(a), -0.1 * m + (tall * 0.9) * np.sin(a)) for a in angle]
    under.append((x - half, -0.1 * m))
    canvas.polygon([project(px, py, z + 4 * m) for px, py in top + under], canvas.color(base, 0.1, z), "bridge", z * 0.98)
    canvas.polygon([project(px, py, z) for px, py in top + under], canvas.color(base, 0.65, z), "bridge", z * 0.98)
    for a, b in zip(top, top[1:]):
        canvas.bar(project(*a, z), project(*b, z), canvas.size(0.7, z), canvas.color(base, 1.0, z), "bridge", z * 0.98)


def boat(canvas, rng, x, y, z):
    """A rowing boat or a small yacht."""
    m, project = canvas.view.metre, canvas.view.project
    long = rng.uniform(5, 9) * m * (1 if rng.random() < 0.5 else -1)
    hull = canvas.palette[["wall", "roof", "bright"][int(rng.integers(3))]]
    outline = [(-0.5, 0.13), (-0.42, -0.01), (0.36, -0.01), (0.52, 0.17), (0.3, 0.12)]
    canvas.polygon([project(x + a * long, b * abs(long), z) for a, b in outline], canvas.color(hull, 0.7, z), "boat", z)
    rim = [(-0.5, 0.13), (0.3, 0.12), (0.52, 0.17), (0.3, 0.09), (-0.48, 0.09)]
    canvas.polygon([project(x + a * long, b * abs(long), z) for a, b in rim], canvas.color("roof", 0.4, z), "boat", z)
    if rng.random() < 0.55:
        tall = abs(long) * rng.uniform(1.1, 1.4)
        sail = canvas.palette["cloud"] if rng.random() < 0.7 else canvas.palette["roof"]
        canvas.polygon([project(x + a * long, b * tall, z) for a, b in ((0.03, 0.2), (0.03, 1.0), (-0.45, 0.2))],
                       canvas.color(sail, 0.95, z), "boat", z)
        canvas.polygon([project(x + a * long, b * tall, z) for a, b in ((0.07, 0.18), (0.07, 0.9), (0.44, 0.2))],
                       canvas.color(sail, 0.7, z), "boat", z)
        canvas.bar(project(x + 0.05 * long, 0.1 * tall, z), project(x + 0.05 * long, tall, z), 0,
                   canvas.color("roof", 0.3, z), "boat", z)


def ship(canvas, rng, x, y, z):
    """A steamer with decks and a funnel, or a three-master."""
    project = canvas.view.project
    pixels = np.clip(canvas.size(rng.uniform(55, 85), z), 0.13 * canvas.view.width, 0.42 * canvas.view.width)
    long, turn = pixels * z / canvas.view.focal, 1 if rng.random() < 0.5 else -1

    def part(points, base, light):
        canvas.polygon([project(x + turn * a * long, b * long, z) for a, b in points], canvas.color(base, light, z), "ship", z)

    hull = canvas.palette["dark"] * 0.6 + 0.4 * canvas.palette["roof"] if rng.random() < 0.6 else canvas.palette["wall"]
    if rng.random() < 0.6:
        part([(-0.3, 0.08), (-0.3, 0.17), (0.22, 0.17), (0.26, 0.08)], "wall", 0.8)
        part([(-0.22, 0.16), (-0.22, 0.22), (0.12, 0.22), (0.14, 0.16)], "wall", 0.95)
        for k in range(int(rng.integers(1, 3))):
            part([(-0.14 + 0.14 * k, 0.2), (-0.15 + 0.14 * k, 0.33), (-0.07 + 0.14 * k, 0.33), (-0.06 + 0.14 * k, 0.2)], "roof", 0.7)
    else:
        for k, tall in ((-0.28, 0.5), (0.0, 0.58), (0.25, 0.48)):
            for low, high, wide in ((0.12, 0.3, 0.11), (0.31, 0.45, 0.085), (0.46, 0.56, 0.06)):
                if high <= tall:
                    part([(k - wide, low), (k - wide * 0.85, high), (k + wide * 0.85, high), (k + wide * 1.1, low)], "cloud", 0.85)
            canvas.bar(project(x + turn * k * long, 0.05 * long, z), project(x + turn * k * long, tall * long, z), 0,
                       canvas.color("roof", 0.3, z), "ship", z)
    part([(-0.5, 0.1), (-0.46, -0.005), (0.42, -0.005), (0.53, 0.12), (0.3, 0.085), (-0.35, 0.085)], hull, 0.6)


def person(canvas, rng, x, y, z):
    """Somebody standing: legs, coat, head."""
    tall = max(canvas.size(1.75, z), 22 * canvas.scale)
    column, row = canvas.view.project(x, y, z)
    coat = [canvas.palette["roof"], canvas.palette["wall"], canvas.palette["dark"] + 0.1, canvas.palette["bloom"]][int(rng.integers(4))]

    def part(points, base, light):
        canvas.polygon([(column + a * tall, row - b * tall) for a, b in points], canvas.color(base, light, z), "person", z)

    trousers = canvas.palette["dark"] * 0.8 + 0.04
    part([(-0.12, 0), (-0.115, 0.52), (0.115, 0.52), (0.12, 0), (0.03, 0), (0, 0.4), (-0.03, 0)], trousers, 0.5)
    part([(-0.13, 0.42), (-0.17, 0.78), (-0.1, 0.84), (0.1, 0.84), (0.17, 0.78), (0.13, 0.42)], coat, 0.75)
    circle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    part([(0.075 * np.cos(a), 0.92 + 0.085 * np.sin(a)) for a in circle], SKIN, 0.8)


def bale(canvas, rng, x, y, z):
    radius = max(canvas.size(0.9, z), 7 * canvas.scale)
    column, row = canvas.view.project(x, y, z)
    circle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for shift, light in ((0.7, 0.45), (0.0, 0.85)):
        canvas.polygon([(column + radius * (shift + np.cos(a)), row - radius * (0.95 + np.sin(a))) for a in circle],
                       canvas.color(canvas.palette["crop"] * 0.85, light, z), "other", z)


def turbine(canvas, rng, x, y, z):
    tall = canvas.view.height * rng.uniform(0.2, 0.32)
    column, row = canvas.view.project(x, y, z)
    hub = np.array([column, row - tall])
    color = canvas.color("wall", 0.95, z)
    canvas.bar((column, row), hub, tall * 0.05, color, "other", z)
    turn = rng.uniform(0, 2)
    for k in range(3):
        angle = turn + 2 * np.pi * k / 3
        canvas.bar(hub, hub + tall * 0.55 * np.array([np.cos(angle), np.sin(angle)]), tall * 0.04, color, "other", z)


def balloon(canvas, rng, x, y, z):
    radius = canvas.view.width * rng.uniform(0.03, 0.055)
    column = canvas.view.project(x, y, z)[0]
    row = canvas.view.horizon * rng.uniform(0.25, 0.6)
    bases = [canvas.palette["roof"], canvas.palette["bright"], canvas.palette["bloom"]]
    angle = np.linspace(-np.pi * 1.25, np.pi * 0.25, 30)
    for k, wide in enumerate((1.0, 0.72, 0.4)):
        points = [(column + wide * radius * np.cos(a), row + radius * np.sin(a)) for a in angle]
        points += [(column + 0.16 * radius * wide, row + 1.45 * radius), (column - 0.16 * radius * wide, row + 1.45 * radius)]
        canvas.polygon(points, canvas.color(bases[k], 0.9, z), "other", z)
    canvas.bar((column, row + 1.4 * radius), (column, row + 1.9 * radius), 0.3 * radius, canvas.color("roof", 0.4, z), "other", z)


def tent(canvas, rng, x, y, z):
    size = max(canvas.size(2.2, z), 16 * canvas.scale)
    column, row = canvas.view.project(x, y, z)
    base = canvas.palette["roof"] if rng.random() < 0.5 else canvas.palette["bloom"]
    canvas.polygon([(column - size, row), (column - 0.2 * size, row - size), (column + 0.3 * size, row)],
                   canvas.color(base, 0.85, z), "other", z)
    canvas.polygon([(column - 0.2 * size, row - size), (column + 0.3 * size, row), (column + 1.1 * size, row - 0.15 * size),
                    (column + 0.5 * size, row - 0.95 * size)], canvas.color(base, 0.5, z), "other", z)
