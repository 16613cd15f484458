"""The discriminators: patches at two scales (GauGAN, CLADE, SEAN), and a pyramid of features (SCGAN).

Both return a list of `Judgement`s, one for each scale.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ldm.backend import Var, jt, nn
from ldm.baselines.layers import Activation, Conv, InstanceNorm
from ldm.networks.resizing import resize

WIDEST = 512


class Judgement(NamedTuple):
    """The result of one scale. features: compared with the features of the real picture. prediction:
    logits."""

    features: list[Var]
    prediction: Var


def half(x: Var) -> Var:
    """Means of 3 x 3 with stride 2; positions outside the map do not count."""
    for side in (2, 3):
        x = _half(x, side)
    return x


def _half(x, side):
    """Means of three neighbours along one side, 2 or 3, at every second place."""
    length = x.shape[side]
    zeros = [1 if d == side else n for d, n in enumerate(x.shape)]
    padded = jt.concat([jt.zeros(zeros), x, jt.zeros(zeros)], dim=side)
    count = (length + 1) // 2
    windows = [padded[(slice(None),) * side + (slice(k, k + 2 * count - 1, 2),)] for k in range(3)]
    inside = [sum(0 <= 2 * i + k < length for k in (-1, 0, 1)) for i in range(count)]
    shape = [count if d == side else 1 for d in range(4)]
    return (windows[0] + windows[1] + windows[2]) / jt.array(np.float32(inside)).reshape(shape)


class Patches(nn.Module):
    """The discriminator of one scale: label map and picture together -> activations, the last one the logits.

    all_halved: every layer but the last halves the sides, as in SEAN; otherwise the last two keep them.
    """

    def __init__(self, inputs: int, channels: int, layers: int, all_halved: bool, spectral: bool) -> None:
        self.model0 = nn.Sequential(Conv(inputs, channels, 4, 2, 2), Activation())
        self.count = layers + 1
        for i in range(1, layers):
            before, channels = channels, min(2 * channels, WIDEST)
            stride = 1 if i == layers - 1 and not all_halved else 2
            conv = Conv(before, channels, 4, stride, 2, bias=False, spectral=spectral)
            setattr(self, f"model{i}", nn.Sequential(nn.Sequential(conv, InstanceNorm()), Activation()))
        setattr(self, f"model{layers}", nn.Sequential(Conv(channels, 1, 4, 1, 2)))

    def execute(self, x: Var) -> Judgement:
        found = [x]
        for i in range(self.count):
            found.append(getattr(self, f"model{i}")(found[-1]))
        return Judgement(found[1:-1], found[-1])


class MultiScale(nn.Module):
    """`scales` patch discriminators; each after the first sees half the sides of the one before."""

    def __init__(self, semantic_channels: int, channels: int = 64, layers: int = 4, scales: int = 2,
                 all_halved: bool = False, spectral: bool = True) -> None:
        self.scales = scales
        for i in range(scales):
            setattr(self, f"discriminator_{i}",
                    Patches(semantic_channels + 3, channels, layers, all_halved, spectral))

    def execute(self, one_hot: Var, pictures: Var) -> list[Judgement]:
        x, found = jt.concat([one_hot, pictures], dim=1), []
        for i in range(self.scales):
            x = half(x) if i else x
            found.append(getattr(self, f"discriminator_{i}")(x))
        return found


def normal(inputs: int, outputs: int, kernel: int, stride: int, spectral: bool) -> nn.Sequential:
    """Convolution, instance norm, activation."""
    conv = Conv(inputs, outputs, kernel, stride, kernel // 2, bias=False, spectral=spectral)
    return nn.Sequential(nn.Sequential(conv, InstanceNorm()), Activation())


class FeaturePyramid(nn.Module):
    """SCGAN's discriminator: it sees the picture alone, and compares its features with embedded labels at
    1/4, 1/8 and 1/16 of the sides."""

    def __init__(self, semantic_channels: int, channels: int = 64, spectral: bool = True) -> None:
        widths = [3] + [channels * m for m in (1, 2, 4, 8, 8)]
        for i in range(1, 6):
            setattr(self, f"enc{i}", normal(widths[i - 1], widths[i], 3, 2, spectral))
        for i in range(2, 6):
            setattr(self, f"lat{i}", normal(widths[i], 4 * channels, 1, 1, spectral))
        for i in range(2, 5):
            setattr(self, f"final{i}", normal(4 * channels, 2 * channels, 3, 1, spectral))
        self.tf = Conv(2 * channels, 1, 1)
        self.seg = Conv(2 * channels, 2 * channels, 1)
        self.embedding = Conv(semantic_channels, 2 * channels, 1)

    def execute(self, one_hot: Var, pictures: Var) -> list[Judgement]:
        features, x = [], pictures
        for i in range(1, 6):
            x = getattr(self, f"enc{i}")(x)
            features.append(x)
        features = features[1:]
        x, sums = self.lat5(features[3]), []
        for i in (4, 3, 2):
            x = resize(x, (2 * x.shape[2], 2 * x.shape[3])) + getattr(self, f"lat{i}")(features[i - 2])
            sums.append(x)
        maps, found = one_hot, []
        for i, x in zip((2, 3, 4), sums[::-1]):
            x = getattr(self, f"final{i}")(x)
            maps = shrunk(maps, x)
            match = (self.seg(x) * self.embedding(maps)).sum(1, keepdims=True)
            found.append(Judgement(features if i == 2 else [], self.tf(x) + match))
        return found


def shrunk(maps: Var, x: Var) -> Var:
    """The means of a map over the pixels of x. Embedding afterwards is the same, as both are linear."""
    N, C, H, W = maps.shape
    _, _, h, w = x.shape
    return maps.reshape(N, C, h, H // h, w, W // w).mean(5).mean(3)
