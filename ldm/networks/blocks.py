"""Layers that both networks use."""
from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from ldm.backend import Module, Var, jt, nn
from ldm.networks import cuda
from ldm.networks.dropout import Dropout


def _mean(x):
    """The mean over the last two axes, row by row: one sum of 100,000 numbers has an error of 1e-5."""
    return x.mean(-1, keepdims=True).mean(-2, keepdims=True)


def normalize(x: Var, groups: int, eps: float) -> Var:
    """Group-normalise N x C x H x W without an affine map: each group of channels to mean 0 and variance 1.

    Jittor's E[x^2] - E[x]^2 loses all digits where |mean| >> std (an error of 2.6 at a ratio of 1000). Here
    a first pass finds the mean and subtracts it. The second pass takes both moments of the rest, which also
    corrects the first pass' rounding error. The result does not depend on what was subtracted, so no
    gradient passes through it. All is computed in fp32, whatever the dtype of x. The result is fp32.
    """
    N, C, H, W = x.shape
    grouped = x.float32().reshape(N, groups, -1, W)
    centred = grouped - _mean(grouped).detach()
    mean = _mean(centred)
    variance = _mean(centred * centred) - mean * mean
    return ((centred - mean) * jt.rsqrt(variance + eps)).reshape(N, C, H, W)


def modulated(x: Var, groups: int, eps: float, gain: Var, offset: Var, emb: Optional[Var] = None,
              silu: bool = False) -> Var:
    """act((norm(x) gain + offset) (1 + scale) + shift), everything between two convolutions, in fp32.

    gain and offset are maps of x's shape, or of size 1 along axes where they are constant. emb is N x 2C, the
    timestep's scale and shift of each channel. act is SiLU, or nothing.
    """
    if cuda.usable():
        return cuda.modulated(x, groups, eps, gain, offset, emb, silu)
    h = normalize(x, groups, eps) * gain.float32() + offset.float32()     # so that gradients of half are half
    if emb is not None:
        scale, shift = emb[:, :, None, None].chunk(2, dim=1)
        h = h * (1 + scale) + shift
    return h * jt.sigmoid(h) if silu else h


class GroupNorm(nn.Module):
    """Group normalisation with a learned scale and shift a channel, and what follows it (see `modulated`)."""

    def __init__(self, channels: int, groups: int, eps: float = 1e-5) -> None:
        self.groups, self.eps = groups, eps
        self.weight = jt.ones(channels)
        self.bias = jt.zeros(channels)

    def execute(self, x: Var, emb: Optional[Var] = None, silu: bool = False) -> Var:
        channel = (1, -1, 1, 1)
        return modulated(x, self.groups, self.eps, self.weight.reshape(channel), self.bias.reshape(channel),
                         emb, silu)


class SiLU(nn.Module):
    def execute(self, x: Var) -> Var:
        return x * jt.sigmoid(x)


def zero(module: Module) -> Module:
    """Zero `module`'s parameters in place and return it (`p.detach().zero_()` would not change them)."""
    for p in module.parameters():
        p.assign(jt.zeros_like(p))
    return module


def blank(module: Module) -> Module:
    """Return `module` with parameters whose numbers are what memory happens to hold, for weights that are
    read next. Jittor would draw random ones first, a network's worth of memory."""
    for p in module.state_dict().values():
        p.assign(jt.empty(p.shape, p.dtype))
    return module


def upsample(x: Var) -> Var:
    """N x C x H x W -> N x C x 2H x 2W, nearest."""
    N, C, H, W = x.shape
    return x.reindex([N, C, 2 * H, 2 * W], ["i0", "i1", "i2/2", "i3/2"])


def downsample(x: Var) -> Var:
    """N x C x H x W -> N x C x H/2 x W/2, mean of each 2 x 2."""
    N, C, H, W = x.shape
    return x.reshape(N, C, H // 2, 2, W // 2, 2).mean((3, 5))


def join(a: Var, b: Var) -> Var:
    """The channels of a, then those of b."""
    return jt.concat([a, b], dim=1)


def add(a: Var, b: Var) -> Var:
    return a + b


def twice(x: Var) -> tuple[Var, Var]:
    """x for two uses; its gradient is the sum of both (in bf16 Jittor's own sum would not do)."""
    return x, x


def timestep_embedding(t: Sequence[int], dim: int, max_period: int = 10000) -> np.ndarray:
    """Timesteps (N integers) -> N x dim float32 [cos | sin], computed by numpy in float64: Jittor's CPU
    operators are compiled with -Ofast and have errors up to 1.2e-4 here."""
    half = dim // 2
    frequencies = np.exp(-np.log(max_period) * np.arange(half) / half)
    angles = np.asarray(t, np.float64)[:, None] * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


class ResBlock(nn.Module):
    """Residual block of the encoder (guided-diffusion): plain GroupNorm, timestep by scale and shift.

    The SiLU layers only keep their places in the entry's state-dict names; the norms compute them.
    """

    def __init__(self, channels: int, out_channels: int, emb_channels: int, groups: int, dropout: float,
                 down: bool = False) -> None:
        self._resample, self._add, self._twice = downsample if down else None, add, twice
        self.in_layers = nn.Sequential(GroupNorm(channels, groups), SiLU(),
                                       nn.Conv(channels, out_channels, 3, padding=1))
        self.emb_layers = nn.Sequential(SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.out_layers = nn.Sequential(GroupNorm(out_channels, groups), SiLU(), Dropout(dropout),
                                        zero(nn.Conv(out_channels, out_channels, 3, padding=1)))
        self.skip_connection = (nn.Conv(channels, out_channels, 1) if channels != out_channels
                                else nn.Identity())

    def execute(self, x: Var, emb: Var) -> Var:
        x, kept = self._twice(x)
        h = self.in_layers[0](x, silu=True)
        if self._resample:
            h, kept = self._resample(h), self._resample(kept)
        h = self.out_layers[0](self.in_layers[2](h), self.emb_layers(emb), silu=True)
        return self._add(self.skip_connection(kept), self.out_layers[3](self.out_layers[2](h)))
