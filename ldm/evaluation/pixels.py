"""Numbers of pictures against pictures, pixel by pixel: how near and how sharp. H x W x 3 uint8 each."""
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
    """`detail` of a picture over that of a true one of the same size: 1 is as sharp, below is softer. A true
    picture of one colour counts as one of a grey level of detail."""
    return detail(image) / max(detail(truth), 1.0)
