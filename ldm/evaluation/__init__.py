"""The contest's five metrics for folders of images: mask accuracy M, aesthetics A, FID, style S, score T.

This package does not import Jittor. The networks, in `ldm.evaluation.networks`, do.
"""
from ldm.evaluation.aesthetics import mean_score
from ldm.evaluation.fid import Moments, frechet_distance
from ldm.evaluation.score import total_score
from ldm.evaluation.segmentation import MaskAccuracy
from ldm.evaluation.style import style_similarity

__all__ = ["MaskAccuracy", "Moments", "frechet_distance", "mean_score", "style_similarity", "total_score"]
