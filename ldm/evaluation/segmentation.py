"""Mask accuracy M: how much of the given mask a segmenter finds again in the result."""
import numpy as np

from ldm.labels import NUM_CLASSES


class MaskAccuracy:
    """Counts over any number of images in constant memory; `confusion[given, predicted]` in pixels."""

    def __init__(self):
        self.confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
        self.count, self._total = 0, 0.0

    def add(self, predicted, given):
        """Count one image, both H x W label maps of values 0..28; returns its share of agreeing pixels,
        0..1."""
        if predicted.shape != given.shape:
            raise ValueError(f"prediction {predicted.shape} and mask {given.shape} differ in size")
        index = given.astype(np.int64) * NUM_CLASSES + predicted
        table = np.bincount(index.ravel(), minlength=NUM_CLASSES ** 2).reshape(NUM_CLASSES, NUM_CLASSES)
        share = float(np.trace(table) / table.sum())
        self.confusion += table
        self.count += 1
        self._total += share
        return share

    def mean(self):
        """M in percent: mean over the images, None before the first."""
        return 100 * self._total / self.count if self.count else None

    def per_class(self):
        """29 shares in percent: of the pixels given as a class, those found; None for a class that no mask
        has."""
        given = self.confusion.sum(1)
        found = np.diag(self.confusion)
        return [100 * float(f / g) if g else None for f, g in zip(found, given)]

    def iou(self):
        """29 overlaps in percent: pixels given and found as a class, of those given or found as it; None for
        a class that is neither."""
        both = np.diag(self.confusion)
        either = self.confusion.sum(1) + self.confusion.sum(0) - both
        return [100 * float(b / e) if e else None for b, e in zip(both, either)]
