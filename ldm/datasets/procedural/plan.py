"""Compositions: what stands where in a scene, as data, before any pixel is made."""
from __future__ import annotations

import dataclasses
import typing

import numpy as np

from ldm.datasets.procedural.terrain import Basin, Cliff, Forest, Layer, Way


@dataclasses.dataclass
class Thing:
    """`count` objects between two depths (as `fall`: 0 horizon, 1 lower edge) and two columns (0..1)."""
    kind: str
    count: int
    near: float
    far: float
    columns: tuple = (0.0, 1.0)


@dataclasses.dataclass
class Plan:
    """One scene; lengths are explained in terrain.py."""
    horizon: float
    metres: float                                # height of the camera
    ground: str = "grass"
    clouds: str = "fair"
    swell: float = 0.12                          # undulation of the land
    relief: list = dataclasses.field(default_factory=list)
    patches: list = dataclasses.field(default_factory=list)
    basins: list = dataclasses.field(default_factory=list)
    ways: list = dataclasses.field(default_factory=list)
    forests: list = dataclasses.field(default_factory=list)
    things: list = dataclasses.field(default_factory=list)
    cliff: typing.Optional[Cliff] = None
    fields: typing.Optional[tuple] = None                  # nearest and farthest depth of ploughed land
    shore: tuple = ("sand", 0.0)                 # what lies along water, and how wide


def _pick(rng, *options):
    return options[int(rng.integers(len(options)))]


def _chance(rng, probability):
    return bool(rng.random() < probability)


def _some(rng, kind, least, most, near, far, columns=(0.0, 1.0)):
    return Thing(kind, int(rng.integers(least, most + 1)), near, far, columns)


def _mountains(rng, rise=(0.2, 0.38), shape=None):
    """One to three ranges, the farther the higher, and often hills before them."""
    shape = shape or _pick(rng, "flat", "valley", "peak", "left", "right")
    tall = rng.uniform(*rise)
    layers = [Layer("mountain", 260, tall, rng.uniform(1.6, 3), 0.3, shape)]
    if _chance(rng, 0.7):
        layers.append(Layer("mountain", 150, tall * rng.uniform(0.35, 0.6), rng.uniform(2, 4), 0.3,
                            _pick(rng, "flat", "left", "right", "valley")))
    if _chance(rng, 0.5):
        layers.append(Layer("hill", 75, tall * rng.uniform(0.12, 0.3), rng.uniform(1.5, 3), 0.35,
                            _pick(rng, "left", "right", "valley")))
    return layers


def _hills(rng, count=2, rise=(0.05, 0.13)):
    return [Layer("hill", d, rng.uniform(*rise) * (0.6 + d / 150), rng.uniform(1.2, 3), 0.4,
                  _pick(rng, "flat", "left", "right", "valley")) for d in (190, 90, 50)[:count]]


def _way(rng, label, width, **options):
    return Way(label, rng.uniform(0.2, 0.8), rng.uniform(0.35, 0.65), width, rng.uniform(0.03, 0.13),
               rng.uniform(0.35, 0.75), rng.uniform(0, 6.28), **options)


def mountain_lake(rng: np.random.Generator) -> Plan:
    near, far = rng.uniform(0.62, 0.95), rng.uniform(0.03, 0.07)
    kind = _pick(rng, "lake", "lake", "lake", "water")
    plan = Plan(rng.uniform(0.38, 0.52), rng.uniform(6, 12), "grass", relief=_mountains(rng),
                basins=[Basin(kind, near, far, rng.uniform(-0.25, 0.25))],
                forests=[Forest(rng.uniform(0.4, 0.8), 12, 120)],
                shore=(_pick(rng, "sand", "rock", "grass", "earth"), rng.uniform(0.1, 0.3)))
    plan.patches = [(_pick(rng, "earth", "plant", "rock"), 0.25, 1.5)]
    plan.things = [_some(rng, "tree", 1, 5, 0.62, 0.3, _pick(rng, (0, 0.3), (0.7, 1))),
                   _some(rng, "stone", 0, 6, 0.95, 0.5), _some(rng, "boat", 0, 2, near * 0.85, 0.2)]
    if _chance(rng, 0.4):
        plan.things.append(Thing("pier", 1, near * 0.97, near * 0.8))
    if _chance(rng, 0.3):
        plan.things.append(Thing("person", 2, 0.95, near))
    return plan


def sea_coast(rng: np.random.Generator) -> Plan:
    near = rng.uniform(0.35, 0.75)
    plan = Plan(rng.uniform(0.35, 0.5), rng.uniform(5, 10),
                _pick(rng, "sand", "sand", "sand", "grass", "rock", "land"),
                _pick(rng, "clear", "fair", "streaks", "heaped"),
                basins=[Basin("sea", near, 0, rng.uniform(-0.8, 0.8), 0.06)],
                shore=(_pick(rng, "sand", "sand", "rock"), rng.uniform(0.3, 0.9)))
    if _chance(rng, 0.7):
        plan.relief = [Layer(_pick(rng, "hill", "mountain", "rock"), rng.uniform(40, 160),
                             rng.uniform(0.05, 0.16), rng.uniform(1.5, 3), 0.25, _pick(rng, "left", "right"))]
    plan.patches = [(_pick(rng, "grass", "rock", "plant"), 0.3, 1.2)]
    plan.things = [_some(rng, "ship", 0, 2, near * 0.3, 0.05), _some(rng, "boat", 0, 2, near * 0.8, 0.15),
                   _some(rng, "person", 0, 4, 0.9, near), _some(rng, "stone", 0, 5, 1.0, 0.2),
                   _some(rng, "tree", 0, 3, 0.7, 0.3, _pick(rng, (0, 0.25), (0.75, 1)))]
    return plan


def river_valley(rng: np.random.Generator) -> Plan:
    plan = Plan(rng.uniform(0.35, 0.5), rng.uniform(6, 12), _pick(rng, "grass", "grass", "land", "field"),
                relief=_mountains(rng, shape="valley"),
                ways=[_way(rng, "river", rng.uniform(0.5, 1.2), start=0.02)],
                forests=[Forest(rng.uniform(0.3, 0.65), 6, 110)],
                patches=[(_pick(rng, "earth", "plant", "grass"), 0.3, 1.5)],
                shore=(_pick(rng, "sand", "rock", "earth", "plant"), rng.uniform(0.05, 0.2)))
    plan.things = [_some(rng, "tree", 3, 11, 0.5, 0.12), _some(rng, "stone", 0, 7, 1, 0.3)]
    if _chance(rng, 0.55):
        plan.things.append(Thing("bridge", 1, 0.6, 0.25))
    if _chance(rng, 0.3):
        plan.things.append(Thing("house", 2, 0.4, 0.1))
    return plan


def farmland(rng: np.random.Generator) -> Plan:
    plan = Plan(rng.uniform(0.32, 0.5), rng.uniform(4, 9), "grass", relief=_hills(rng, 3),
                fields=(rng.uniform(1.5, 5), 60), ways=[_way(rng, "road", rng.uniform(0.5, 0.9))],
                forests=[Forest(rng.uniform(0.1, 0.3), 9, 120)], swell=rng.uniform(0.1, 0.3))
    if _chance(rng, 0.4):
        plan.relief = _mountains(rng, (0.06, 0.16)) + plan.relief[1:]
    plan.things = [_some(rng, "tree", 3, 9, 0.4, 0.08), _some(rng, "house", 0, 2, 0.4, 0.1),
                   _some(rng, "fence", 0, 2, 0.9, 0.4), _some(rng, "bale", 0, 5, 0.6, 0.1),
                   _some(rng, "turbine", 0, 2, 0.12, 0.04)]
    return plan


def village(rng: np.random.Generator) -> Plan:
    plan = Plan(rng.uniform(0.36, 0.5), rng.uniform(4, 8), _pick(rng, "grass", "land", "earth"),
                relief=_mountains(rng, (0.1, 0.25)),
                ways=[_way(rng, _pick(rng, "path", "road"), rng.uniform(0.5, 0.8))],
                forests=[Forest(0.3, 14, 110)], patches=[("plant", 0.2, 2)])
    plan.things = [_some(rng, "house", 3, 7, 0.5, 0.1), _some(rng, "tower", 0, 1, 0.25, 0.12),
                   _some(rng, "tree", 3, 8, 0.45, 0.1), _some(rng, "wall", 0, 1, 0.85, 0.4),
                   _some(rng, "fence", 0, 1, 0.85, 0.4), _some(rng, "person", 0, 3, 0.8, 0.3)]
    return plan


def forest_path(rng: np.random.Generator) -> Plan:
    plan = Plan(rng.uniform(0.4, 0.55), rng.uniform(2.2, 4), _pick(rng, "grass", "earth", "plant"),
                ways=[_way(rng, "path", rng.uniform(0.6, 1.1))], forests=[Forest(0.97, 9, 120, 16)],
                patches=[(_pick(rng, "plant", "earth", "grass"), 0.4, 1.8)], swell=0.1)
    if _chance(rng, 0.5):
        plan.relief = _mountains(rng, (0.1, 0.25))
        plan.forests = [Forest(0.85, 12, 80, 12)]
    plan.things = [_some(rng, "tree", 8, 15, 0.42, 0.1, (-0.05, 0.36)),
                   _some(rng, "tree", 8, 15, 0.42, 0.1, (0.64, 1.05)),
                   _some(rng, "shrub", 4, 13, 1.0, 0.3), _some(rng, "stone", 0, 4, 1.0, 0.3),
                   _some(rng, "person", 0, 2, 0.6, 0.25)]
    return plan


def gorge(rng: np.random.Generator) -> Plan:
    distance = rng.uniform(7, 14)
    column = rng.uniform(0.35, 0.65)
    plan = Plan(rng.uniform(0.45, 0.6), rng.uniform(4, 9), _pick(rng, "grass", "earth", "plant"),
                cliff=Cliff(distance, rng.uniform(0.16, 0.34), column, rng.uniform(0.06, 0.16)),
                basins=[Basin(_pick(rng, "water", "river", "lake"), rng.uniform(0.6, 1.2), 0,
                              rng.uniform(-0.3, 0.3), 0.08)],
                shore=("rock", rng.uniform(0.1, 0.35)), patches=[(_pick(rng, "plant", "grass"), 0.4, 1.6)],
                forests=[Forest(0.6, distance * 1.1, distance * 3, 10)])
    if _chance(rng, 0.5):
        plan.relief = _mountains(rng, (0.3, 0.4))
    plan.things = [_some(rng, "stone", 4, 13, 1.0, 0.2), _some(rng, "shrub", 2, 7, 1.1, 0.5),
                   _some(rng, "tree", 0, 4, 0.6, 0.3, _pick(rng, (0, 0.25), (0.75, 1)))]
    return plan


def highland(rng: np.random.Generator) -> Plan:
    ground = _pick(rng, "grass", "land", "earth", "rock", "plant")
    plan = Plan(rng.uniform(0.35, 0.5), rng.uniform(5, 12), ground,
                relief=_mountains(rng, (0.15, 0.32)) + _hills(rng, 3),
                patches=[(_pick(rng, "rock", "earth", "land"), 0.35, 1.2),
                         (_pick(rng, "plant", "grass"), 0.3, 2)],
                swell=rng.uniform(0.1, 0.35), forests=[Forest(rng.uniform(0.05, 0.4), 12, 110)])
    if _chance(rng, 0.5):
        plan.ways = [_way(rng, "path", rng.uniform(0.35, 0.6))]
    plan.things = [_some(rng, "stone", 2, 11, 1.0, 0.1), _some(rng, "tree", 0, 9, 0.7, 0.06),
                   _some(rng, "person", 0, 2, 0.7, 0.3), _some(rng, "balloon", 0, 1, 0.2, 0.05),
                   _some(rng, "tent", 0, 1, 0.6, 0.3)]
    return plan


def harbour(rng: np.random.Generator) -> Plan:
    near = rng.uniform(0.75, 1.05)
    plan = Plan(rng.uniform(0.38, 0.48), rng.uniform(6, 11), _pick(rng, "land", "earth", "grass", "sand"),
                basins=[Basin(_pick(rng, "sea", "sea", "water"), near, rng.uniform(0.035, 0.06),
                              rng.uniform(-0.1, 0.1), 0.03)],
                relief=_hills(rng, 2, (0.04, 0.12)), forests=[Forest(0.3, 30, 120)], shore=("sand", 0.05))
    plan.things = [_some(rng, "building", 2, 6, 0.05, 0.03), Thing("pier", 1, near * 0.97, near * 0.8),
                   _some(rng, "ship", 1, 2, 0.3, 0.08), _some(rng, "boat", 1, 4, 0.8, 0.2)]
    if _chance(rng, 0.5):
        plan.things.append(Thing("railing", 1, 1.0, 0.9))
    return plan


def bridge_river(rng: np.random.Generator) -> Plan:
    plan = Plan(rng.uniform(0.36, 0.48), rng.uniform(7, 12), _pick(rng, "grass", "earth", "sand"),
                relief=_pick(rng, _mountains, _hills)(rng), ways=[_way(rng, "river", rng.uniform(1.2, 2.2))],
                forests=[Forest(rng.uniform(0.4, 0.8), 5, 120)],
                shore=(_pick(rng, "rock", "sand", "plant"), 0.15))
    plan.things = [Thing("bridge", 1, 0.5, 0.16), _some(rng, "tree", 2, 8, 0.5, 0.12),
                   _some(rng, "boat", 0, 2, 0.7, 0.3), _some(rng, "shrub", 0, 5, 1.0, 0.5)]
    return plan


def desert(rng: np.random.Generator) -> Plan:
    plan = Plan(rng.uniform(0.32, 0.48), rng.uniform(4, 9), _pick(rng, "sand", "sand", "land"), "clear",
                relief=_pick(rng, _hills(rng, 2, (0.02, 0.06)), []) + [
                    Layer("rock", rng.uniform(60, 200), rng.uniform(0.06, 0.2), rng.uniform(1.5, 4), 0.2,
                          _pick(rng, "left", "right", "peak"))],
                patches=[(_pick(rng, "land", "earth", "rock"), 0.35, 1.2), ("plant", 0.12, 3)],
                swell=rng.uniform(0.15, 0.5))
    if _chance(rng, 0.5):
        plan.ways = [_way(rng, _pick(rng, "road", "path"), rng.uniform(0.5, 0.9))]
    plan.things = [_some(rng, "stone", 2, 11, 1.0, 0.08), _some(rng, "shrub", 2, 11, 0.9, 0.15),
                   _some(rng, "person", 0, 3, 0.7, 0.3), _some(rng, "tent", 0, 2, 0.5, 0.2)]
    return plan


def terrace(rng: np.random.Generator) -> Plan:
    """A look-out: a railing or wall before water, a garden, a town on the other shore."""
    kind = _pick(rng, "lake", "sea", "water", "river")
    near = rng.uniform(0.5, 0.7)
    plan = Plan(rng.uniform(0.36, 0.48), rng.uniform(4, 7), _pick(rng, "grass", "land", "earth"),
                relief=_mountains(rng, (0.08, 0.22)),
                basins=[Basin(kind, near, rng.uniform(0.03, 0.06), 0.0, 0.01)],
                forests=[Forest(0.4, 20, 120)], patches=[("plant", 0.35, 2)], shore=("grass", 0.0))
    plan.things = [_some(rng, "building", 0, 5, 0.05, 0.03), _some(rng, "boat", 0, 3, 0.4, 0.12),
                   Thing(_pick(rng, "railing", "railing", "wall", "fence"), 1, near + 0.08, near + 0.05),
                   _some(rng, "person", 0, 3, 0.95, near + 0.1),
                   _some(rng, "tree", 1, 3, near + 0.1, near + 0.02, _pick(rng, (0, 0.25), (0.75, 1))),
                   _some(rng, "shrub", 0, 7, 1.1, 0.8)]
    return plan


COMPOSITIONS = (mountain_lake, sea_coast, river_valley, farmland, village, forest_path, gorge, highland,
                harbour, bridge_river, desert, terrace)


def make_plan(rng: np.random.Generator) -> Plan:
    """A composition drawn from COMPOSITIONS with its numbers."""
    plan = _pick(rng, *COMPOSITIONS)(rng)
    if _chance(rng, 0.06):
        plan.things.append(Thing("balloon", 1, 0.2, 0.05))
    if plan.clouds == "fair":
        plan.clouds = _pick(rng, "clear", "fair", "fair", "streaks", "heaped", "closed")
    return plan
