"""The Inception v3 that defines the FID, with the layer names of the file pt_inception-2015-12-05.

It differs from torchvision's Inception v3: average pooling does not count positions outside the map, the last
block uses max pooling, and the weights come from TensorFlow's graph of 2015.
"""
from __future__ import annotations

from typing import Callable

import cv2
import numpy as np

from ldm.backend import Var, jt, nn
from ldm.evaluation.networks.layers import ConvNorm, image_batch, mean_pool

SIZE = 299


def resized(images: np.ndarray) -> np.ndarray:
    """N x H x W x 3 uint8 -> N x 299 x 299 x 3 float32 of 0..255: bilinear without antialiasing, pixel
    centres aligned.

    The FID is defined with this filter; an antialiasing filter changes the features by about 1 %.
    """
    return np.stack([cv2.resize(image.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
                     for image in images])


def max_pool(x: Var, stride: int = 2, padding: int = 0) -> Var:
    return nn.max_pool2d(x, 3, stride, padding)


class MixedA(nn.Module):
    """35 x 35 positions."""

    def __init__(self, channels: int, pool_channels: int) -> None:
        self.branch1x1 = ConvNorm(channels, 64)
        self.branch5x5_1 = ConvNorm(channels, 48)
        self.branch5x5_2 = ConvNorm(48, 64, 5)
        self.branch3x3dbl_1 = ConvNorm(channels, 64)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3)
        self.branch_pool = ConvNorm(channels, pool_channels)

    def execute(self, x: Var) -> Var:
        return jt.concat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)),
                          self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
                          self.branch_pool(mean_pool(x))], 1)


class MixedB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, channels: int) -> None:
        self.branch3x3 = ConvNorm(channels, 384, 3, 2, 0)
        self.branch3x3dbl_1 = ConvNorm(channels, 64)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, 2, 0)

    def execute(self, x: Var) -> Var:
        return jt.concat([self.branch3x3(x), self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
                          max_pool(x)], 1)


class MixedC(nn.Module):
    """17 x 17 positions; each 7 x 7 window is a 1 x 7 and a 7 x 1 convolution."""

    def __init__(self, middle: int) -> None:
        self.branch1x1 = ConvNorm(768, 192)
        self.branch7x7_1 = ConvNorm(768, middle)
        self.branch7x7_2 = ConvNorm(middle, middle, (1, 7))
        self.branch7x7_3 = ConvNorm(middle, 192, (7, 1))
        self.branch7x7dbl_1 = ConvNorm(768, middle)
        self.branch7x7dbl_2 = ConvNorm(middle, middle, (7, 1))
        self.branch7x7dbl_3 = ConvNorm(middle, middle, (1, 7))
        self.branch7x7dbl_4 = ConvNorm(middle, middle, (7, 1))
        self.branch7x7dbl_5 = ConvNorm(middle, 192, (1, 7))
        self.branch_pool = ConvNorm(768, 192)

    def execute(self, x: Var) -> Var:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return jt.concat([self.branch1x1(x), self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))), double,
                          self.branch_pool(mean_pool(x))], 1)


class MixedD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self) -> None:
        self.branch3x3_1 = ConvNorm(768, 192)
        self.branch3x3_2 = ConvNorm(192, 320, 3, 2, 0)
        self.branch7x7x3_1 = ConvNorm(768, 192)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, 2, 0)

    def execute(self, x: Var) -> Var:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return jt.concat([self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), max_pool(x)], 1)


class MixedE(nn.Module):
    """8 x 8 positions. pool: the last branch's pooling (mean in the first block of this kind, max in the
    second)."""

    def __init__(self, channels: int, pool: Callable[[Var], Var]) -> None:
        self._pool = pool
        self.branch1x1 = ConvNorm(channels, 320)
        self.branch3x3_1 = ConvNorm(channels, 384)
        self.branch3x3_2a = ConvNorm(384, 384, (1, 3))
        self.branch3x3_2b = ConvNorm(384, 384, (3, 1))
        self.branch3x3dbl_1 = ConvNorm(channels, 448)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3)
        self.branch3x3dbl_3a = ConvNorm(384, 384, (1, 3))
        self.branch3x3dbl_3b = ConvNorm(384, 384, (3, 1))
        self.branch_pool = ConvNorm(channels, 192)

    def execute(self, x: Var) -> Var:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return jt.concat([self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single),
                          self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double),
                          self.branch_pool(self._pool(x))], 1)


class FIDInception(nn.Module):
    """`FIDInception()(images)`: N x H x W x 3 uint8 of any size -> N x 2048 float32, the "pool3" features."""

    def __init__(self) -> None:
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, 2, 0)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3, 1, 0)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3, 1, 0)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = MixedA(192, 32), MixedA(256, 64), MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(MixedC, (128, 160, 160, 192))
        self.Mixed_7a = MixedD()
        self.Mixed_7b = MixedE(1280, mean_pool)
        self.Mixed_7c = MixedE(2048, lambda x: max_pool(x, stride=1, padding=1))

    def execute(self, images: np.ndarray) -> Var:
        x = image_batch(resized(images), mean=0.5, std=0.5)                     # -1..1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean([2, 3])
