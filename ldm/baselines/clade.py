"""CLADE's generator (Tan et al. 2021, "Efficient Semantic Image Synthesis via Class-Adaptive
Normalization")."""
from __future__ import annotations

from typing import NamedTuple, Optional

from ldm.backend import Var, jt, nn, tanh
from ldm.baselines.generator import Generator, residual
from ldm.baselines.layers import BatchNorm, Conv, Maps


class Condition(NamedTuple):
    """The inputs of CLADE's norms: one-hot classes, the distance map (with ICPE) and the edge map (or
    None)."""

    classes: Maps
    distance: Optional[Maps]
    edges: Optional[Maps]


class Affine(nn.Module):
    """A scale and a shift for each class and channel; with `distance` each is multiplied by 1 + a position's
    own number, which a 1 x 1 convolution makes of the distance map."""

    def __init__(self, channels: int, classes: int, distance: bool) -> None:
        self.weight = jt.random((classes, channels))
        self.bias = jt.zeros((classes, channels))
        self.distance = distance
        if distance:
            self.dist_conv_w = Conv(2, 1, 1)
            self.dist_conv_b = Conv(2, 1, 1)

    def execute(self, x: Var, condition: Condition) -> Var:
        classes = condition.classes.like(x)
        weight, bias = (nn.conv2d(classes, table.transpose(1, 0).unsqueeze(-1).unsqueeze(-1))
                        for table in (self.weight, self.bias))
        if self.distance:
            distance = condition.distance.like(x)       # type: ignore[union-attr]
            weight = weight * (1 + self.dist_conv_w(distance))
            bias = bias * (1 + self.dist_conv_b(distance))
        return x * weight + bias


class CLADENorm(nn.Module):
    """norm(x) w[class] + b[class]; with an edge map a channel more, made of it."""

    def __init__(self, channels: int, classes: int, distance: bool, edges: bool) -> None:
        self.param_free_norm = BatchNorm(channels)
        self.class_specified_affine = Affine(channels, classes, distance)
        self.edges = edges
        if edges:
            self.inst_conv = Conv(1, 1, 1)

    def execute(self, x: Var, condition: Condition) -> Var:
        out = self.class_specified_affine(self.param_free_norm(x), condition)
        if self.edges:
            out = jt.concat([out, self.inst_conv(condition.edges.like(x))], dim=1)  # type: ignore[union-attr]
        return out


class Block(nn.Module):
    """A residual block with class-adaptive norms."""

    def __init__(self, inputs: int, outputs: int, classes: int, distance: bool, edges: bool,
                 spectral: bool) -> None:
        middle, more = min(inputs, outputs), int(edges)
        self.conv_0 = Conv(inputs + more, middle, 3, padding=1, spectral=spectral)
        self.conv_1 = Conv(middle + more, outputs, 3, padding=1, spectral=spectral)
        self.norm_0 = CLADENorm(inputs, classes, distance, edges)
        self.norm_1 = CLADENorm(middle, classes, distance, edges)
        self.learned = inputs != outputs
        if self.learned:
            self.conv_s = Conv(inputs + more, outputs, 1, bias=False, spectral=spectral)
            self.norm_s = CLADENorm(inputs, classes, distance, edges)

    def execute(self, x: Var, condition: Condition) -> Var:
        return residual(x, lambda h: self.norm_0(h, condition), self.conv_0,
                        lambda h: self.norm_1(h, condition), self.conv_1,
                        lambda h: self.conv_s(self.norm_s(h, condition)) if self.learned else h)


class CLADE(Generator):
    """Label map, with VAE a style vector, with ICPE a distance map -> picture N x 3 x H x W in -1..1.

    edges: the last channel of the label map is the edge map.
    """

    def __init__(self, size: tuple[int, int], semantic_channels: int, channels: int = 64,
                 upsampling: str = "normal", z_dim: int = 256, distance: bool = False, edges: bool = False,
                 spectral: bool = True) -> None:
        self.classes, self.edges = semantic_channels - int(edges), edges
        super().__init__(
            lambda inputs, outputs, _: Block(inputs, outputs, self.classes, distance, edges, spectral),
            size, semantic_channels, channels, upsampling, z_dim)

    def execute(self, one_hot: Var, z: Optional[Var] = None, distance: Optional[Var] = None) -> Var:
        condition = Condition(Maps(one_hot_of_largest(one_hot[:, :self.classes])),
                              None if distance is None else Maps(distance),
                              Maps(one_hot[:, self.classes:]) if self.edges else None)
        return tanh(self.grow(Maps(one_hot), z, condition))


def one_hot_of_largest(one_hot: Var) -> Var:
    """The map again, with class 0 where a pixel has no class, as argmax gives it."""
    found = jt.argmax(one_hot, 1)[0]
    numbers = jt.arange(one_hot.shape[1]).reshape(1, -1, 1, 1)
    return (found.unsqueeze(1) == numbers).float32()
