"""Aesthetics A from NIMA's predicted distributions over the scores 1..10."""
from __future__ import annotations

import numpy as np


def mean_score(probabilities: np.ndarray) -> np.ndarray:
    """N x 10 probabilities of the scores 1..10 -> N mean scores, float64. The contest's A is 10 x that."""
    return np.asarray(probabilities, np.float64) @ np.arange(1, 11)
