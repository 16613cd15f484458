"""One scene from two numbers: plan, ground, sky, things, mirror, tone."""
import cv2
import numpy as np

from ldm.datasets.procedural import objects, structures
from ldm.datasets.procedural.objects import Canvas
from ldm.datasets.procedural.palette import NAMES, grade, make_palette
from ldm.datasets.procedural.plan import make_plan
from ldm.datasets.procedural.shade import WATERS, label_ground, mirror_water, paint_ground
from ldm.datasets.procedural.sky import paint_sky
from ldm.datasets.procedural.terrain import LABEL, Ground, View, render

SIZE = 512, 384                                  # width, height

WOODS = 130                                      # trees drawn one by one in the woods
TREES = ("conifer", "broad", "poplar")
ON_WATER = ("boat", "ship")
AFLOAT_OR_LAND = ("bridge", "pier", "balloon")   # may stand anywhere


def _generator(seed, index, stream):
    return np.random.default_rng([seed, index, stream])


def palette_name(seed, index):
    """Name of the palette of scene (seed, index); drawn apart from what the scene shows."""
    return NAMES[int(_generator(seed, index, 0).integers(len(NAMES)))]


def make_scene(seed, index, size=SIZE):
    """Scene `index` of the series `seed`, from these two alone: (image H x W x 3 RGB, labels H x W), uint8.

    `size` = (width, height) in pixels; the same composition is drawn at every size, small ones being faster.
    `seed` and `index` are integers of at least 0.
    """
    palette = make_palette(palette_name(seed, index), _generator(seed, index, 1))
    rng = _generator(seed, index, 2)
    plan = make_plan(rng)
    view = View(size[0], size[1], plan.horizon, rng.uniform(0.42, 0.58), 1 / plan.metres,
                focus=plan.cliff and plan.cliff.distance)
    sun_place, sun = _place_sun(view, palette, rng)
    ground = Ground(view, rng).build(plan)
    surface = render(ground, sun)
    labels = label_ground(surface, view, plan, rng)
    rows_seen = size[1] - int(np.argmax(surface.sky.any(axis=1)[::-1]))
    image, glow = paint_sky(view, palette, sun_place, palette.clouds or plan.clouds, rows_seen, rng)
    paint_ground(image, labels, surface, view, palette, glow, plan, rng)
    canvas = Canvas(image, labels, surface, view, palette, sun)
    _draw_things(canvas, ground, plan, rng)
    mirror_water(image, labels, surface, canvas.depth, view, palette, rng)
    return _finish(image, labels, palette), labels


def _place_sun(view, palette, rng):
    """Where the sun stands in the picture (column, row), and the unit vector towards it."""
    column = rng.uniform(0.12, 0.88) * view.width
    row = view.horizon - palette.sun_height * view.height
    side = (column / view.width - 0.5) * 2
    vector = np.array([0.75 * side + 0.35 * np.sign(side), 0.35 + 1.1 * palette.sun_height, -0.25])
    return (column, row), (vector / np.linalg.norm(vector)).astype(np.float32)


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
    for z, number, kind, x in sorted(places, reverse=True):
        mine = np.random.default_rng(rng.integers(2 ** 32, size=2))
        y = 0.0 if kind in ON_WATER else height(x, z)
        if kind == "tree":
            trees = kind_of_tree if mine.random() < 0.75 else TREES[int(mine.integers(3))]
            objects.tree(canvas, mine, x, y, z, trees, mine.uniform(6, 11))
        elif kind == "woods":
            objects.tree(canvas, mine, x, y - 5 * canvas.view.metre, z, kind_of_tree, mine.uniform(7, 11))
        elif kind in ("shrub", "stone"):
            getattr(objects, kind)(canvas, mine, x, y, z)
        elif kind in ("fence", "railing", "wall"):
            getattr(structures, kind)(canvas, mine, x, z, height)
        elif kind == "bridge":
            structures.bridge(canvas, mine, river.centre(canvas.view, z), z, river.width)
        else:
            getattr(structures, kind)(canvas, mine, x, y, z)


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
