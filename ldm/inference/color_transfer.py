"""Colour transfer, Eq. 6: Reinhard's matching of each LAB channel's mean and spread. Needs no Jittor.

OpenCV is imported by the functions that use it: it takes 16 MB, and the page's web process needs only MODES.
"""
from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from ldm.errors import UserError

MODES = ("exact", "opencv8")
# The spread up to which a channel counts as constant: OpenCV's float LAB is off by up to 0.125 on greys.
CONSTANT = {"exact": 0.1, "opencv8": 0.0}


def color_transfer(image: np.ndarray, reference: np.ndarray, mode: str = "exact") -> np.ndarray:
    """`image` with the colours of `reference`: H x W x 3 uint8 RGB in and out, the two of any sizes.

    exact: LAB in floating point; only the result is rounded. opencv8: the entry's arithmetic, bit for bit:
    LAB in 8 bits, means and standard deviations rounded to two decimals, and the result rounded twice. In
    both, a channel of `image` that is constant has no spread to match and stays unchanged (the entry's
    becomes NaN).
    """
    if mode not in MODES:
        raise UserError("color_transfer", f"is {mode!r}", f"choose one of {', '.join(MODES)}")
    import cv2
    if mode == "opencv8":
        lab, target = (cv2.cvtColor(x, cv2.COLOR_RGB2LAB) for x in (image, reference))
        matched = match(lab, moments(lab, decimals=2), moments(target, decimals=2), CONSTANT[mode])
        return cv2.cvtColor(np.clip(np.round(matched), 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    lab, target = (cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for x in (image, reference))
    matched = match(lab, moments(lab), moments(target), CONSTANT[mode]).astype(np.float32)
    rgb = cv2.cvtColor(matched, cv2.COLOR_LAB2RGB)
    return np.clip(np.round(rgb * 255), 0, 255).astype(np.uint8)


Moments = Tuple[np.ndarray, np.ndarray]             # mean and standard deviation of 3 channels, float64


def moments(lab: np.ndarray, decimals: Optional[int] = None) -> Moments:
    """(mean, standard deviation) of each channel."""
    import cv2
    mean, std = (m.reshape(-1) for m in cv2.meanStdDev(lab))
    return (mean, std) if decimals is None else (np.round(mean, decimals), np.round(std, decimals))


def match(lab: np.ndarray, source: Moments, target: Moments, constant: float) -> np.ndarray:
    """(x - mean) * std' / std + mean' for each channel whose spread is more than `constant`."""
    (mean, std), (new_mean, new_std) = source, target
    varies = std > constant
    scale = np.divide(new_std, std, out=np.ones(3), where=varies)
    return np.where(varies, (lab - mean) * scale + new_mean, lab)
