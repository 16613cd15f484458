"""Procedural landscapes: pictures with exactly aligned label maps, made of nothing but numbers; and pictures
with the statistics of photographs.

`make_scene` and `make_photo` are the whole interface. The rooms behind the first: `plan` (what stands where,
as data), `terrain` (a map of heights, and what each pixel sees of it), `palette` (light and colours), `sky`,
`shade` (materials and haze), `water` (mirror and waves), `stamps` (pictures of trees and stones), `objects`,
`structures` and `figures` (what is drawn on top), `scene` (all of them in order). `photo` makes the second.

Classes that a judge cannot tell apart by construction are listed in data/README.md.
"""
from ldm.datasets.procedural.palette import NAMES as PALETTES
from ldm.datasets.procedural.photo import make_photo
from ldm.datasets.procedural.scene import DRAWING, SIZE, make_scene, palette_name

__all__ = ["DRAWING", "PALETTES", "SIZE", "make_photo", "make_scene", "palette_name"]
