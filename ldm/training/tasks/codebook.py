"""Keeping a codebook in use: how much of it is, reviving what is not, a first fit."""
import cv2
import numpy as np

from ldm.backend import jt
from ldm.training import parallel
from ldm.training.batch_order import generator

SAMPLE = 50_000             # latents that k-means looks at


def usage(codes, size):
    """(share of the `size` codes that occur in `codes`, their perplexity: exp of the entropy, 1..size)."""
    counts = np.bincount(codes.reshape(-1), minlength=size)
    p = counts[counts > 0] / codes.size
    return len(p) / size, float(np.exp(-(p * np.log(p)).sum()))


class Codebook:
    """The entries of a Quantizer, and how often each was chosen of late."""

    def __init__(self, quantizer, seed):
        self.entries, self.seed = quantizer.embedding.weight, seed
        self.used = np.zeros(self.entries.shape[0], np.int64)

    def count(self, codes):
        self.used += np.bincount(codes.reshape(-1), minlength=len(self.used))

    def revive(self, step, latents):
        """Move the codes that no latent chose since the last time to random ones of `latents` (M x dim)."""
        used = parallel.total([jt.array(self.used.astype(np.float32))])[0].numpy()
        dead = np.flatnonzero(used == 0)
        entries = self.entries.numpy()
        entries[dead] = latents[generator(step, self.seed, 1).integers(len(latents), size=len(dead))]
        self.entries.assign(jt.array(entries))
        parallel.broadcast([self.entries])             # each process has latents of its own
        self.used[:] = 0

    def fit(self, latents):
        """Set the entries to the k-means centres of a sample of `latents` (M x dim)."""
        sample = latents[generator(0, self.seed, 2).permutation(len(latents))[:SAMPLE]]
        cv2.setRNGSeed(self.seed)
        criteria = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0)
        _, _, centres = cv2.kmeans(sample, min(len(self.used), len(sample)), None, criteria, 1,
                                   cv2.KMEANS_RANDOM_CENTERS)
        entries = self.entries.numpy()
        entries[:len(centres)] = centres
        self.entries.assign(jt.array(entries))
