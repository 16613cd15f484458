"""Procedural landscapes: pictures with exactly aligned label maps, made of nothing but numbers.

`make_scene` is the whole interface. The rooms behind it: `plan` (what stands where, as data), `terrain` (a
map of heights, and what each pixel sees of it), `palette` (light and colours), `sky`, `shade` (materials,
haze, water), `objects` and `structures` (what is drawn on top), `scene` (all of them in order).
"""
from ldm.datasets.procedural.palette import NAMES as PALETTES
from ldm.datasets.procedural.scene import SIZE, make_scene, palette_name

__all__ = ["PALETTES", "SIZE", "make_scene", "palette_name"]
