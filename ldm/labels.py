"""The contest's 29 classes in the order of their label values, each with a display colour."""
from __future__ import annotations

import numpy as np

NAMES = ("mountain", "sky", "water", "sea", "rock", "tree", "earth", "hill", "river", "sand", "land",
         "building", "grass", "plant", "person", "boat", "waterfall", "wall", "pier", "path", "lake",
         "bridge", "field", "road", "railing", "fence", "ship", "house", "other")
NUM_CLASSES = len(NAMES)
OTHER = NAMES.index("other")

# Colours are near the thing's own colour, so that a map needs no legend; neighbours in landscapes differ.
COLORS = np.array([
    (126, 110, 130), (150, 205, 245), (60, 130, 190), (25, 80, 150), (105, 100, 95), (35, 105, 50),
    (140, 95, 60), (115, 145, 85), (80, 160, 215), (235, 215, 160), (190, 160, 110), (200, 85, 75),
    (120, 190, 70), (70, 165, 95), (255, 60, 150), (250, 145, 40), (215, 240, 250), (175, 135, 120),
    (150, 110, 75), (215, 190, 140), (45, 150, 170), (160, 60, 110), (205, 195, 75), (95, 95, 105),
    (185, 185, 195), (130, 70, 40), (225, 110, 20), (230, 120, 105), (40, 40, 40)], np.uint8)


def colorize(labels: np.ndarray) -> np.ndarray:
    """Label map H x W uint8 -> H x W x 3 uint8 RGB. Raises IndexError for values over 28."""
    return COLORS[labels]


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Label maps N x H x W uint8 -> N x 29 x H x W float32."""
    return np.moveaxis(np.eye(NUM_CLASSES, dtype=np.float32)[labels], -1, 1)
