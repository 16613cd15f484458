"""Aesthetics A from the distributions that NIMA predicts over the scores 1..10."""
import numpy as np


def mean_score(probabilities):
    """N x 10 probabilities of the scores 1..10 -> N mean scores (float64). The contest's A is 10 times their
    mean."""
    return np.asarray(probabilities, np.float64) @ np.arange(1, 11)
