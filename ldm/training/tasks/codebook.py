"""Care of a codebook: how much of it is used, reviving unused codes, a first fit."""
from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ldm.backend import jt
from ldm.training import parallel
from ldm.training.batch_order import generator

SAMPLE, PER_ENTRY = 50_000, 8       # most latents for k-means; more for a large codebook


def usage(codes: np.ndarray, size: int) -> tuple[float, float]:
    """(share of the `size` codes that occur in `codes`; their perplexity, exp of the entropy, 1..size)."""
    counts = np.bincount(codes.reshape(-1), minlength=size)
    p = counts[counts > 0] / codes.size
    return len(p) / size, float(np.exp(-(p * np.log(p)).sum()))


class Codebook:
    """The entries of a Quantizer, and how often each was chosen since the last revival."""

    def __init__(self, quantizer: Any, seed: int) -> None:
        self.entries, self.seed = quantizer.embedding.weight, seed
        self.used = np.zeros(self.entries.shape[0], np.int64)

    def count(self, codes: np.ndarray) -> None:
        """Count the codes that were chosen in a step."""
        self.used += np.bincount(codes.reshape(-1), minlength=len(self.used))

    def revive(self, step: int, latents: np.ndarray) -> None:
        """Set the codes that were not chosen since the last revival to random ones of `latents`, M x dim (of
        rank 0, if there are several processes)."""
        used = parallel.total([jt.array(self.used.astype(np.float32))])[0].numpy()
        dead = np.flatnonzero(used == 0)
        entries = self.entries.numpy()
        entries[dead] = latents[generator(step, self.seed, 1).integers(len(latents), size=len(dead))]
        self.entries.assign(jt.array(entries))
        parallel.broadcast([self.entries])             # ranks have different latents
        self.used[:] = 0

    def fit(self, latents: np.ndarray) -> None:
        """Set the entries to the k-means centres of a sample of `latents`, M x dim. k-means++ starts from
        latents far from each other, so that rare colours have entries."""
        most = max(SAMPLE, PER_ENTRY * len(self.used))
        sample = latents[generator(0, self.seed, 2).permutation(len(latents))[:most]].astype(np.float32)
        cv2.setRNGSeed(self.seed)
        criteria = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0)
        count = min(len(self.used), len(sample))
        _, _, centres = cv2.kmeans(sample, count, None, criteria, 1,    # type: ignore[call-overload]
                                   cv2.KMEANS_PP_CENTERS)
        entries = self.entries.numpy()
        entries[:len(centres)] = centres
        self.entries.assign(jt.array(entries))
