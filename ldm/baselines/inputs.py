"""The networks' inputs made from a label map, as numpy arrays. Needs no Jittor."""
from __future__ import annotations

from typing import Optional

import cv2
import numpy as np

from ldm.errors import UserError

DONTCARE = 255              # the label of pixels without a class
TINY = 1e-5                 # keeps a component of one row or column from a division by 0


def edges(instances: np.ndarray) -> np.ndarray:
    """Numbers of instances N x H x W -> N x H x W float32: 1 where a pixel's neighbour above, below, left or
    right is of another instance."""
    found = np.zeros(instances.shape, bool)
    rows = instances[:, 1:] != instances[:, :-1]
    columns = instances[:, :, 1:] != instances[:, :, :-1]
    found[:, 1:] |= rows
    found[:, :-1] |= rows
    found[:, :, 1:] |= columns
    found[:, :, :-1] |= columns
    return found.astype(np.float32)


def semantics(labels: np.ndarray, classes: int, dontcare: bool = False,
              instances: Optional[np.ndarray] = None) -> np.ndarray:
    """Label maps N x H x W -> N x channels x H x W float32: a channel for each class.

    dontcare: one channel more, for the label 255 (or `classes`). instances: one more, for their edges. Other
    labels are a UserError.
    """
    labels = np.where(labels == DONTCARE, classes, labels).astype(int)
    count = classes + int(dontcare)
    if labels.max(initial=0) >= count:
        raise UserError("label map", f"holds label {labels.max()}", f"use labels 0..{count - 1}")
    parts = [np.moveaxis(np.eye(count, dtype=np.float32)[labels], -1, 1)]
    if instances is not None:
        parts.append(edges(instances)[:, None])
    return np.concatenate(parts, axis=1)


def distances(labels: np.ndarray, skip: Optional[int] = None) -> np.ndarray:
    """CLADE's positions (ICPE): label maps N x H x W -> N x 2 x H x W float32 in -1..1.

    Row and column relative to the centre of the pixel's component (one class, connected over 8 neighbours),
    each divided by its largest magnitude there. skip: a class whose pixels keep 0.
    """
    return np.stack([_distances(np.asarray(one), skip) for one in labels])


def _distances(labels, skip):
    found = np.zeros((2, *labels.shape), np.float32)
    for label in np.unique(labels):
        if label == skip:
            continue
        count, components = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=8)
        for i in range(1, count):
            places = np.nonzero(components == i)
            for axis, place in enumerate(places):
                offset = place - place.mean()
                found[axis][places] = offset / (np.abs(offset).max() + TINY)
    return found


def mirrored(distance: np.ndarray) -> np.ndarray:
    """The distance map of a mirrored label map, from that of the map itself, 2 x H x W."""
    return np.stack([distance[0, :, ::-1], -distance[1, :, ::-1]])
