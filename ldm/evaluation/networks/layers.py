"""Layers that several networks of the metrics use. These networks are not trained here, so their batch
normalisation is frozen."""
from __future__ import annotations

from typing import Any, Optional, Sequence, Union

import numpy as np

from ldm.backend import Var, jt, nn


def image_batch(images: np.ndarray, mean: Union[float, Sequence[float]] = (0.485, 0.456, 0.406),
                std: Union[float, Sequence[float]] = (0.229, 0.224, 0.225)) -> Var:
    """N x H x W x 3 of 0..255, uint8 or float -> normalised N x 3 x H x W float32 (default: the
    mean and deviation of ImageNet)."""
    x = jt.array(images).float32() / 255
    return ((x - jt.array(mean)) / jt.array(std)).transpose(0, 3, 1, 2)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, in two passes (E[x^2] - E[x]^2 would lose precision)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        self._eps = eps
        self.weight, self.bias = jt.ones(channels), jt.zeros(channels)

    def execute(self, x: Var) -> Var:
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return centred * jt.rsqrt(variance + self._eps) * self.weight + self.bias


class ConvNorm(nn.Module):
    """Convolution without bias, frozen batch normalisation (eps 0.001), ReLU: the layer of both Inceptions.

    The default padding keeps the size.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Union[int, tuple[int, int]] = 1,
                 stride: int = 1, padding: Optional[int] = None) -> None:
        around: Any = padding
        if padding is None:
            around = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
        self.conv = nn.Conv(in_channels, out_channels, kernel, stride, around, bias=False)
        self.bn = nn.BatchNorm(out_channels, eps=0.001, is_train=False)

    def execute(self, x: Var) -> Var:
        return nn.relu(self.bn(self.conv(x)))


def mean_pool(x: Var) -> Var:
    """Mean of the 3 x 3 neighbours that are inside the map; N x C x H x W keeps its size."""
    N, C, H, W = x.shape
    window = ["i0", "i1", "i2+i4-1", "i3+i5-1"]
    total = x.reindex([N, C, H, W, 3, 3], window).sum([4, 5])
    return total / jt.ones([1, 1, H, W]).reindex([1, 1, H, W, 3, 3], window).sum([4, 5])
