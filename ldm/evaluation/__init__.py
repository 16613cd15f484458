"""The contest's five numbers from folders of images: mask accuracy M, aesthetics A, FID, style S, score T.

This package imports no Jittor; the networks do, and live in `ldm.evaluation.networks`.
"""
from ldm.evaluation.aesthetics import mean_score
from ldm.evaluation.fid import Moments, frechet_distance
from ldm.evaluation.score import total_score
from ldm.evaluation.segmentation import MaskAccuracy
from ldm.evaluation.style import style_similarity

__all__ = ["MaskAccuracy", "Moments", "frechet_distance", "mean_score", "style_similarity", "total_score"]
