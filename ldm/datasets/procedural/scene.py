"""One scene from two numbers: plan, ground, sky, things, mirror, tone."""
from __future__ import annotations

import cv2
import numpy as np

from ldm.datasets.procedural import figures, objects, structures
from ldm.datasets.procedural.objects import Canvas
from ldm.datasets.procedural.palette import NAMES, grade, make_palette
from ldm.datasets.procedural.plan import make_plan
from ldm.datasets.procedural.shade import label_ground, paint_ground
from ldm.datasets.procedural.sky import paint_sky
from ldm.datasets.procedural.stamps import TREES
from ldm.datasets.procedural.terrain import LABEL, Ground, View, render
from ldm.datasets.procedural.water import WATERS, paint_water

SIZE = 512, 384                                  # width, height
DRAWING = 4                                      # to count up whenever the same numbers give other pictures

WOODS = 130                                      # trees drawn one by one in the woods
ON_WATER = ("boat", "ship")
ALONG_GROUND = {"fence": structures.fence, "railing": structures.railing, "wall": structures.wall}
UPRIGHT = {"shrub": objects.shrub, "stone": objects.stone, "house": structures.house,
           "building": structures.building, "tower": structures.tower, "pier": structures.pier,
           "boat": figures.boat, "ship": figures.ship, "person": figures.person, "bale": figures.bale,
           "turbine": figures.turbine, "balloon": figures.balloon, "tent": figures.tent}
AFLOAT_OR_LAND = ("bridge", "pier", "balloon")   # may stand anywhere


def _generator(seed, index, stream):
    return np.random.default_rng([seed, index, stream])


def palette_name(seed: int, index: int) -> str:
    """Name of the palette of scene (seed, index); drawn apart from what the scene shows."""
    return NAMES[int(_generator(seed, index, 0).integers(len(NAMES)))]


def make_scene(seed: int, index: int, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Scene `index` of the series `seed`, from these two alone: (image H x W x 3 RGB, labels H x W), uint8.

    `size` = (width, height) in pixels; the same composition is drawn at every size, small ones being faster.
    `seed` and `index` are integers of at least 0.
    """
    palette = make_palette(palette_name(seed, index), _generator(seed, index, 1))
    rng = _generator(seed, index, 2)
    plan = make_plan(rng)
    view = View(size[0], size[1], plan.horizon, rng.uniform(0.42, 0.58), 1 / plan.metres,
                focus=plan.cliff.distance if plan.cliff else None)
    clouds = palette.clouds or plan.clouds
    sun_place, shown, sun = _place_sun(view, palette, clouds, rng)
    ground = Ground(view, rng).build(plan)
    surface = render(ground, sun)
    labels = label_ground(surface, view, plan, rng)
    rows_seen = size[1] - int(np.argmax(surface.sky.any(axis=1)[::-1]))
    image, glow = paint_sky(view, palette, sun_place, shown, clouds, rows_seen, rng)
    paint_ground(image, labels, surface, view, palette, glow, sun, plan, rng)
    backdrop = image[:rows_seen].copy()
    canvas = Canvas(image, labels, surface, view, palette, sun, _sunny(palette, clouds))
    _draw_things(canvas, ground, plan, rng)
    paint_water(image, labels, surface, canvas.depth, backdrop, view, palette,
                sun_place if shown and _open(surface, sun_place) else None, rng)
    return _finish(image, labels, palette), labels


def _place_sun(view, palette, clouds, rng):
    """Where the sun or moon is (column, row), whether it is seen, and the unit vector towards it.

    A low sun and a moon are seen; a high sun is outside of the picture, to the left or right.
    """
    side = rng.uniform(-0.76, 0.76)
    shown = clouds != "closed" and (palette.sun_height < 0.16 or palette.stars > 0)
    if not shown:
        side = np.sign(side) * (1.25 + abs(side))
    column, row = (0.5 + side / 2) * view.width, view.horizon - palette.sun_height * view.height
    aside = np.clip(0.75 * side + 0.35 * np.sign(side), -1, 1)
    vector = np.array([aside, 0.35 + 1.1 * palette.sun_height, -0.1 if shown else -0.4])
    return (column, row), shown, (vector / np.linalg.norm(vector)).astype(np.float32)


def _open(surface, place):
    """Whether no land hides the sky at `place` = (column, row)."""
    return bool(surface.sky[max(int(place[1]), 0), int(place[0])])


def _sunny(palette, clouds):
    """How dark shadows are: 0 under a closed sky, 1 in plain sun."""
    if clouds == "closed" or palette.haze_density > 2:
        return 0.35
    return 0.6 if palette.stars or clouds == "heaped" else 1.0


def _height_at(ground):
    """A function (x, z) -> height of the ground, nearest point of the map, never under water."""
    view = ground.view

    def height(x, z):
        k = int(np.clip(np.searchsorted(view.depths, z), 0, len(view.depths) - 1))
        column = int(np.clip(round(view.centre + view.focal * x / z), 0, view.width - 1))
        return max(float(ground.height[k, column]), 0.0)

    return height


def _draw_things(canvas, ground, plan, rng):
    """Place the things of the plan where they can stand and draw them, the farthest first."""
    height = _height_at(ground)
    river = next((way for way in plan.ways if way.label == "river"), None)
    kind_of_tree = TREES[int(rng.integers(2))]
    places = []
    for thing in plan.things:
        for _ in range(thing.count):
            place = _find_place(canvas, thing, rng)
            if place is not None:
                places.append((place[1], len(places), thing.kind, place[0]))
    places += _woods(canvas, plan, rng, len(places))
    for z, _, kind, x in sorted(places, reverse=True):
        mine = np.random.default_rng(rng.integers(2 ** 32, size=2))
        y = 0.0 if kind in ON_WATER else height(x, z)
        if kind == "tree":
            trees = kind_of_tree if mine.random() < 0.6 else TREES[int(mine.integers(len(TREES)))]
            objects.tree(canvas, mine, x, y, z, trees, mine.uniform(6, 11))
        elif kind == "woods":
            trees = kind_of_tree if mine.random() < 0.85 else TREES[int(mine.integers(len(TREES)))]
            objects.crown(canvas, mine, x, y - 5 * canvas.view.metre, z, trees, mine.uniform(6.5, 12))
        elif kind == "bridge":
            structures.bridge(canvas, mine, river.centre(canvas.view, z), z, river.width)
        elif kind in ALONG_GROUND:
            ALONG_GROUND[kind](canvas, mine, x, z, height)
        else:
            UPRIGHT[kind](canvas, mine, x, y, z)


def _woods(canvas, plan, rng, number):
    """Single trees that give the woods on the map their outline, as places of _draw_things."""
    if not plan.forests:
        return []
    rows, columns = np.nonzero(canvas.labels[::2, ::2] == LABEL["tree"])
    if len(rows) < 20:
        return []
    chosen = rng.integers(len(rows), size=WOODS)
    z = canvas.surface.z[rows[chosen] * 2, columns[chosen] * 2]
    x = canvas.surface.x[rows[chosen] * 2, columns[chosen] * 2]
    return [(float(z[k]), number + k, "woods", float(x[k])) for k in range(WOODS) if z[k] < 70]


def _find_place(canvas, thing, rng):
    """(x, z) for one thing on ground where it can stand, or None after a few tries."""
    view = canvas.view
    for _ in range(12):
        column = rng.uniform(*thing.columns)
        fall = np.exp(rng.uniform(np.log(thing.far), np.log(thing.near)))
        x, z = canvas.place(column, fall)
        if thing.kind in AFLOAT_OR_LAND:
            return x, z
        row = int(np.clip(view.horizon + view.focal / z, 0, view.height - 1))
        label = canvas.labels[row, int(np.clip(column * view.width, 0, view.width - 1))]
        if label == LABEL["sky"] or (label in (LABEL["road"], LABEL["path"]) and thing.kind != "person"):
            continue
        if (label in WATERS) == (thing.kind in ON_WATER):
            return x, z
    return None


def _finish(image, labels, palette):
    """Smooth the stairs along the outlines, tone the picture, make bytes."""
    edges = np.zeros(labels.shape, bool)
    edges[1:] |= labels[1:] != labels[:-1]
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    image[edges] = cv2.GaussianBlur(image, (3, 3), 0.6)[edges]
    over = np.maximum(image - 0.7, 0)            # bright parts are pressed together, to keep their drawing
    image = np.clip(grade(image - over + over / (1 + 1.6 * over), palette), 0, 1)
    return (image * 255 + 0.5).astype(np.uint8)
