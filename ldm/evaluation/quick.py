"""Metrics for validation during training, from arrays in memory."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ldm.evaluation.fid import Moments, frechet_distance
from ldm.evaluation.runner import Evaluation, Opened, Pair


def image_moments(segmenter: Any, pictures: np.ndarray, batch_size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """(mean, covariance) of the segmenter's features of N x H x W x 3 uint8 pictures, for FD-seg.

    Raises TooFew below two pictures.
    """
    moments = Moments()
    for start in range(0, len(pictures), batch_size):
        moments.add(segmenter.features(pictures[start:start + batch_size]))
    return moments.result("pictures")


def quick_metrics(results: np.ndarray, masks: np.ndarray, references: Any, segmenter: Any = None,
                  moments: Optional[tuple[np.ndarray, np.ndarray]] = None, variant: str = "contest_overflow",
                  batch_size: int = 8) -> dict[str, Optional[float]]:
    """{"M", "FD-seg", "S"}: floats, or None for metrics that lack `segmenter` or `moments`.

    results: N x H x W x 3 uint8. masks: N x H x W uint8 labels. references: N images h x w x 3 uint8.
    segmenter: from `networks.open_segmenter(weight_files.find("segformer"))`. moments: `image_moments` of
    real pictures. With fewer results than feature dimensions FD-seg can rank checkpoints on the same
    pictures, but cannot be compared with other numbers of pictures. Raises TooFew for a single result.
    """
    networks = {"segformer": segmenter and Opened(segmenter), "nima": None, "inception": None}
    evaluation = Evaluation(networks, variant)
    pairs = [Pair(str(i), *three) for i, three in enumerate(zip(results, masks, references))]
    for start in range(0, len(pairs), batch_size):
        evaluation.add(pairs[start:start + batch_size])
    distance = None
    if segmenter and moments is not None:
        mean, covariance = evaluation.moments.result("results")
        distance = frechet_distance(mean, covariance, *moments)
    return {"M": evaluation.mean("M"), "FD-seg": distance, "S": evaluation.mean("S")}
