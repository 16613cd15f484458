"""SCGAN's generator (Wang et al. 2021, "Image synthesis via semantic composition").

A routing network makes, for every pixel of every level, the proportions in which a block's convolutions and
norms are mixed.
"""
from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from ldm.backend import Var, jt, nn
from ldm.baselines.gaugan import SPADE
from ldm.baselines.generator import Generator, residual
from ldm.baselines.layers import Activation, BatchNorm, Conv, Maps
from ldm.networks.blocks import downsample, upsample

KERNEL, SIGMA = 7, 1.5      # of the Gaussian of `position`


class Condition(NamedTuple):
    """The inputs of SCGAN's blocks. convolutions, norms: a level's proportions, N x experts x h x w each."""

    maps: Maps
    convolutions: list[Var]
    norms: list[Var]


def averaged(x: Var, groups: int) -> Var:
    """N x C x H x W -> N x groups x H x W: means over groups of channels, as adaptive pooling forms them. The
    groups overlap where C is not a multiple of their number."""
    C = x.shape[1]
    table = np.zeros((groups, C, 1, 1), np.float32)
    for i in range(groups):
        first, end = i * C // groups, -(-(i + 1) * C // groups)
        table[i, first:end] = 1 / (end - first)
    return nn.conv2d(x, jt.array(table))


class MixedConv(nn.Module):
    """A pixel's mixture of 3 x 3 convolutions."""

    def __init__(self, inputs: int, outputs: int, experts: int, spectral: bool) -> None:
        self.conv_bases = nn.ModuleList([Conv(inputs, outputs, 3, padding=1, bias=False, spectral=spectral)
                                         for _ in range(experts)])

    def execute(self, x: Var, proportions: Var) -> Var:
        total = 0
        for i, conv in enumerate(self.conv_bases):
            total = total + proportions[:, i:i + 1] * conv(x)
        return total


class MixedNorm(nn.Module):
    """norm(x) (1 + gamma) + beta, gamma and beta a pixel's mixture of learned vectors."""

    def __init__(self, channels: int, experts: int) -> None:
        self.affine_params_groups = jt.zeros((experts, 2 * channels))
        self.param_free_norm = BatchNorm(channels)

    def execute(self, x: Var, proportions: Var) -> Var:
        weight = self.affine_params_groups.transpose(1, 0).unsqueeze(-1).unsqueeze(-1)
        gamma, beta = nn.conv2d(proportions, weight).chunk(2, dim=1)
        return self.param_free_norm(x) * (1 + gamma) + beta


class Block(nn.Module):
    """A residual block of mixtures. level: the number of the routing level that it reads."""

    def __init__(self, inputs: int, outputs: int, level: int, semantic_channels: int, hidden: int,
                 experts: tuple[int, int], spectral: bool) -> None:
        middle, self.level = min(inputs, outputs), level
        self.conv_0 = MixedConv(inputs, middle, experts[0], spectral)
        self.conv_1 = MixedConv(middle, outputs, experts[0], spectral)
        self.norm_0 = MixedNorm(inputs, experts[1])
        self.norm_1 = MixedNorm(middle, experts[1])
        self.learned = inputs != outputs
        if self.learned:
            self.conv_s = Conv(inputs, outputs, 3, padding=1, spectral=spectral)
            self.norm_s = SPADE(inputs, semantic_channels, hidden)

    def execute(self, x: Var, condition: Condition) -> Var:
        convolutions, norms = condition.convolutions[self.level], condition.norms[self.level]
        return residual(x, lambda h: self.norm_0(h, norms), lambda h: self.conv_0(h, convolutions),
                        lambda h: self.norm_1(h, norms), lambda h: self.conv_1(h, convolutions),
                        lambda h: self.conv_s(self.norm_s(h, condition.maps)) if self.learned else h)


def gaussian(one_hot: Var) -> Var:
    """Each channel filtered by a Gaussian of peak 1: how far inside its region a pixel is."""
    line = np.exp(-0.5 * ((np.arange(KERNEL) - KERNEL // 2) / SIGMA) ** 2).astype(np.float32)
    N, C, H, W = one_hot.shape
    x = one_hot.reshape(N * C, 1, H, W)
    x = nn.conv2d(x, jt.array(line.reshape(1, 1, KERNEL, 1)), None, 1, (KERNEL // 2, 0))
    x = nn.conv2d(x, jt.array(line.reshape(1, 1, 1, KERNEL)), None, 1, (0, KERNEL // 2))
    return x.reshape(N, C, H, W)


class Routing(nn.Module):
    """Label map -> the raw features of each level, from 1/32 (or 1/64) to full size.

    position: maps are multiplied by `gaussian` of themselves, at full size and at the first `position_levels`
    halvings. nearest: maps are halved by nearest neighbour instead of means of 2 x 2.
    """

    def __init__(self, semantic_channels: int, channels: int, levels: int, spectral: bool,
                 position_levels: int = 0, nearest: bool = False) -> None:
        self.levels, self.position_levels, self.nearest = levels, position_levels, nearest
        widths = [16, 8, 4, 2, 1, 1, 1][:levels]
        before = 0
        for i, multiple in enumerate(widths):
            width = multiple * channels
            layers = [Conv(before + semantic_channels, width, 3, padding=1, spectral=spectral), Activation(),
                      Conv(width, width, 3, padding=1, spectral=spectral)]
            if i:
                layers.insert(0, Activation())
            setattr(self, f"labelDec{i + 1}", nn.Sequential(*layers))
            before = width
        self.toRGB = nn.Sequential(Conv(channels, channels // 2, 3, padding=1), Activation(),
                                   Conv(channels // 2, 3, 3, padding=1))

    def pyramid(self, one_hot: Var) -> list[Var]:
        """The maps of the levels, the smallest first."""
        x, found = one_hot, [one_hot]
        for i in range(self.levels - 1):
            x = x[:, :, ::2, ::2] if self.nearest else downsample(x)
            if i < self.position_levels:
                x = x * gaussian(x)
            found.append(x)
        if self.position_levels:
            found[0] = one_hot * gaussian(one_hot)
        return found[::-1]

    def execute(self, one_hot: Var) -> list[Var]:
        raw: list[Var] = []
        for i, level in enumerate(self.pyramid(one_hot)):
            x = jt.concat([upsample(raw[-1]), level], dim=1) if raw else level
            raw.append(getattr(self, f"labelDec{i + 1}")(x))
        return raw


class SCGAN(Generator):
    """Label map, with VAE a style vector -> (picture N x 3 x H x W in -1..1, the routing network's picture).

    first: of fc / 16, "nff". routing: width of the routing network, "nrf". experts: of convolutions, norms.
    """

    def __init__(self, size: tuple[int, int], semantic_channels: int, channels: int = 32,
                 upsampling: str = "normal", z_dim: int = 0, hidden: int = 128, first: int = 32,
                 routing: int = 32, experts: tuple[int, int] = (3, 4), temperature: float = 0.05,
                 routing_spectral: bool = True, position_levels: int = 0, nearest: bool = False,
                 spectral: bool = True) -> None:
        if upsampling == "most":
            raise ValueError("SCGAN has no routing level for 'most'")
        self.experts, self.temperature = experts, temperature
        more = int(upsampling == "more")
        self.pyramid_spaital_routing = Routing(semantic_channels, routing, 6 + more, routing_spectral,
                                               position_levels, nearest)
        levels = [0, 1, 1 + more, 2 + more, 3 + more, 4 + more, 5 + more]
        super().__init__(
            lambda inputs, outputs, i: Block(inputs, outputs, levels[i], semantic_channels, hidden, experts,
                                             spectral),
            size, semantic_channels, channels, upsampling, z_dim, first)

    def execute(self, one_hot: Var, z: Optional[Var] = None) -> tuple[Var, Var]:
        raw = self.pyramid_spaital_routing(one_hot)
        convolutions, norms = ([nn.softmax(averaged(x, experts) * self.temperature, dim=1) for x in raw]
                               for experts in self.experts)
        maps = Maps(one_hot)
        picture = self.grow(maps, z, Condition(maps, convolutions, norms))
        return clipped(picture), clipped(self.pyramid_spaital_routing.toRGB(raw[-1]))


def clipped(x: Var) -> Var:
    """The hard tanh, with which SCGAN ends."""
    return jt.clamp(x, -1.0, 1.0)
