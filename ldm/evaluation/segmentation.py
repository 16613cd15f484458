"""Mask accuracy M: the share of the mask that a segmenter finds in the result."""
from __future__ import annotations

from typing import Optional

import numpy as np

from ldm.labels import NUM_CLASSES


class MaskAccuracy:
    """Counts over any number of images, in constant memory. confusion[given, predicted]: pixels."""

    def __init__(self) -> None:
        self.confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
        self.count, self._total = 0, 0.0

    def add(self, predicted: np.ndarray, given: np.ndarray) -> float:
        """Count one image. Both are H x W label maps with values 0..28. Returns the share of equal pixels."""
        if predicted.shape != given.shape:
            raise ValueError(f"prediction {predicted.shape} and mask {given.shape} differ in size")
        index = given.astype(np.int64) * NUM_CLASSES + predicted
        table = np.bincount(index.ravel(), minlength=NUM_CLASSES ** 2).reshape(NUM_CLASSES, NUM_CLASSES)
        share = float(np.trace(table) / table.sum())
        self.confusion += table
        self.count += 1
        self._total += share
        return share

    def mean(self) -> Optional[float]:
        """M in percent, the mean over the images; None without images."""
        return 100 * self._total / self.count if self.count else None

    def per_class(self) -> list[Optional[float]]:
        """The recall of each of the 29 classes in percent; None for a class that is in no mask."""
        given = self.confusion.sum(1)
        found = np.diag(self.confusion)
        return [100 * float(f / g) if g else None for f, g in zip(found, given)]

    def iou(self) -> list[Optional[float]]:
        """Intersection over union of the 29 classes in percent; None for a class that never occurs."""
        both = np.diag(self.confusion)
        either = self.confusion.sum(1) + self.confusion.sum(0) - both
        return [100 * float(b / e) if e else None for b, e in zip(both, either)]
