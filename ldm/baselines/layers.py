"""Layers that the four GANs share. Names in state dicts and arithmetic are PyTorch's."""
from __future__ import annotations

import contextlib
from typing import Any, Iterator

import numpy as np

from ldm.backend import Var, jt, nn, tanh
from ldm.networks.blocks import normalize

EPS = 1e-5                  # of batch and instance normalisation
MOMENTUM = 0.1              # of running statistics
SLOPE = 0.2                 # of LeakyReLU
GAIN = 0.02                 # of the initial weights


def xavier(shape: tuple[int, ...]) -> Var:
    """Initial weights: Xavier normal with gain 0.02, as in SPADE. shape: two or more numbers."""
    fans = (shape[0] + shape[1]) * int(np.prod(shape[2:]))
    return jt.init.gauss(shape, "float32", 0, GAIN * (2 / fans) ** 0.5)


def unit(vector: Var) -> Var:
    """A row vector 1 x n of length 1."""
    return vector / jt.sqrt((vector * vector).sum()).maximum(1e-12)


def buffer(numbers: Var) -> Var:
    """A Var that is saved with the weights but gets no gradient."""
    return numbers.stop_grad()


def activate(x: Var) -> Var:
    """LeakyReLU with slope 0.2."""
    return nn.leaky_relu(x, SLOPE)


class Activation(nn.Module):
    """LeakyReLU as a layer of a Sequential; it takes the place that it has in the published names."""

    def execute(self, x: Var) -> Var:
        return activate(x)


class Tanh(nn.Module):
    """The hyperbolic tangent as a layer of a Sequential."""

    def execute(self, x: Var) -> Var:
        return tanh(x)


class Conv(nn.Module):
    """A convolution. spectral: its weight is divided by its largest singular value (Miyato et al. 2018).

    With `spectral` there are `weight_orig` and the singular vectors `weight_u`, `weight_v`. In training mode
    every pass takes one step of the power iteration. The gradient flows through weight and singular value,
    not through the vectors.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0,
                 bias: bool = True, spectral: bool = False) -> None:
        self.stride, self.padding, self.spectral = stride, padding, spectral
        weight = xavier((outputs, inputs, kernel, kernel))
        if spectral:
            self.weight_orig = weight
            self.weight_u = buffer(unit(jt.randn((1, outputs))).reshape(-1))
            self.weight_v = buffer(unit(jt.randn((1, inputs * kernel ** 2))).reshape(-1))
        else:
            self.weight = weight
        self.bias = jt.zeros(outputs) if bias else None

    def execute(self, x: Var) -> Var:
        weight = self.normalized() if self.spectral else self.weight
        return nn.conv2d(x, weight, self.bias, self.stride, self.padding)

    def normalized(self) -> Var:
        """The weight divided by u . W v."""
        matrix = self.weight_orig.reshape(self.weight_orig.shape[0], -1)
        if self.is_training():
            with jt.no_grad():
                fixed = matrix.detach()
                v = unit(jt.matmul(self.weight_u.reshape(1, -1), fixed))
                u = unit(jt.matmul(v, fixed.transpose(1, 0)))
            self.weight_u.assign(u.reshape(-1).detach())
            self.weight_v.assign(v.reshape(-1).detach())
        row = jt.matmul(self.weight_u.detach().reshape(1, -1), matrix)
        return self.weight_orig / (row * self.weight_v.detach().reshape(1, -1)).sum()


class ConvTranspose(nn.Module):
    """A transposed 3 x 3 convolution that doubles the sides. weight: inputs x outputs x 3 x 3."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.weight = xavier((inputs, outputs, 3, 3))
        self.bias = jt.zeros(outputs)

    def execute(self, x: Var) -> Var:
        return nn.conv_transpose(x, self.weight, self.bias, stride=2, padding=1, output_padding=1)


class Linear(nn.Module):
    """A linear layer, N x inputs -> N x outputs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.weight = xavier((outputs, inputs))
        self.bias = jt.zeros(outputs)

    def execute(self, x: Var) -> Var:
        return jt.matmul(x, self.weight.transpose(1, 0)) + self.bias


class ReflectionPad(nn.Module):
    """One row and column more on each side, the neighbours of the outermost ones."""

    def execute(self, x: Var) -> Var:
        x = jt.concat([x[:, :, 1:2], x, x[:, :, -2:-1]], dim=2)
        return jt.concat([x[:, :, :, 1:2], x, x[:, :, :, -2:-1]], dim=3)


class InstanceNorm(nn.Module):
    """Each channel of each image to mean 0 and variance 1; no parameters."""

    def execute(self, x: Var) -> Var:
        return normalize(x, x.shape[1], EPS)


class BatchNorm(nn.Module):
    """Each channel to mean 0 and variance 1; no learned scale or shift.

    In training mode over the batch, which moves the running statistics; otherwise by these. As in PyTorch the
    running variance is the unbiased one.
    """

    def __init__(self, channels: int) -> None:
        self.running_mean = buffer(jt.zeros(channels))
        self.running_var = buffer(jt.ones(channels))

    def execute(self, x: Var) -> Var:
        if not self.is_training():
            scale = jt.rsqrt(self.running_var.detach() + EPS)
            return (x - _channel(self.running_mean.detach())) * _channel(scale)
        count = x.shape[0] * x.shape[2] * x.shape[3]
        mean = _mean(x)
        centred = x - mean
        variance = _mean(centred * centred)
        unbiased = variance.detach() * (count / max(count - 1, 1))
        for running, new in ((self.running_mean, mean.detach()), (self.running_var, unbiased)):
            running.assign((running * (1 - MOMENTUM) + new.reshape(-1) * MOMENTUM).detach())
        return centred * jt.rsqrt(variance + EPS)


def _channel(numbers: Var) -> Var:
    return numbers.reshape(1, -1, 1, 1)


def _mean(x: Var) -> Var:
    """Over images and positions, 1 x C x 1 x 1. In steps: one sum of 100,000 numbers loses digits."""
    return x.mean(-1, keepdims=True).mean(-2, keepdims=True).mean(0, keepdims=True)


class Maps:
    """A map N x C x H x W at the sizes that layers need, by nearest neighbour. Each size is made once."""

    def __init__(self, full: Var) -> None:
        self.full = full
        self._made: dict[tuple[int, int], Var] = {(full.shape[2], full.shape[3]): full}

    def at(self, height: int, width: int) -> Var:
        """The map at this size, which divides the full one."""
        size = height, width
        if size not in self._made:
            rows, columns = self.full.shape[2] // height, self.full.shape[3] // width
            if (height * rows, width * columns) != (self.full.shape[2], self.full.shape[3]):
                raise ValueError(f"{height} x {width} does not divide {self.full.shape[2:]}")
            self._made[size] = self.full[:, :, ::rows, ::columns]
        return self._made[size]

    def like(self, x: Var) -> Var:
        """The map at the size of x."""
        return self.at(x.shape[2], x.shape[3])


@contextlib.contextmanager
def evaluating(network: Any) -> Iterator[Any]:
    """A context in which a network uses its stored statistics. Jittor's eval() would stop gradients too."""
    modules = network.modules()
    before = [module.is_training() for module in modules]
    for module in modules:
        module.is_train = False
    try:
        yield network
    finally:
        for module, training in zip(modules, before):
            module.is_train = training
