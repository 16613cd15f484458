"""Compares pictures pixel by pixel: how close and how sharp they are. Pictures are H x W x 3 uint8."""
from __future__ import annotations

import cv2
import numpy as np


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """The peak signal-to-noise ratio in dB; infinite for equal pictures."""
    square = np.mean((image.astype(np.float64) - truth) ** 2)
    return float("inf") if square == 0 else float(10 * np.log10(255 ** 2 / square))


def detail(image: np.ndarray) -> float:
    """The mean absolute Laplacian of a picture's luminance (0..255)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def sharpness(image: np.ndarray, truth: np.ndarray) -> float:
    """`detail` of a picture divided by that of a real one of the same size: 1 is equally sharp, below 1 is
    softer. A real picture of one colour counts as having a `detail` of one grey level."""
    return detail(image) / max(detail(truth), 1.0)
