"""Parts of a study's pictures, enlarged, as in the paper's Figure 6."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from ldm import images
from ldm.ablation.study import Pair, Study


def busiest(labels: np.ndarray, share: float = 0.4) -> tuple[slice, slice]:
    """(rows, columns) of the window, with this share of the sides, that contains the most class borders."""
    borders = np.zeros(labels.shape)
    borders[1:] += labels[1:] != labels[:-1]
    borders[:, 1:] += labels[:, 1:] != labels[:, :-1]
    sums = np.pad(borders, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    height, width = (max(1, int(side * share)) for side in labels.shape)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return slice(int(y), int(y) + height), slice(int(x), int(x) + width)


def crops(study: Study, pairs: Sequence[Pair], lines: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Of each line of pictures (as study.gallery gives them) the busiest part, enlarged to the full size."""
    found = []
    for (mask, _), line in zip(pairs, lines):
        size = line[0].shape[1::-1]
        window = busiest(images.read_labels(mask, size, study.reading))
        found.append([images.resize(picture[window], size) for picture in line])
    return found
