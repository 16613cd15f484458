"""SEAN's generator (Zhu et al. 2020, "SEAN: Image synthesis with semantic region-adaptive normalization")."""
from __future__ import annotations

from typing import Callable, NamedTuple

from ldm.backend import Var, jt, nn, tanh
from ldm.baselines.gaugan import SPADE
from ldm.baselines.generator import Generator, residual
from ldm.baselines.layers import (
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    InstanceNorm,
    Linear,
    Maps,
    ReflectionPad,
    Tanh,
)

Noise = Callable[[str, tuple], Var]         # (name of a norm, shape) -> standard normal numbers
PLAIN = 6                                   # the number of the block whose norms take no style


class Condition(NamedTuple):
    """The inputs of SEAN's norms. codes: N x classes x length."""

    maps: Maps
    codes: Var
    noise: Noise


class StyleEncoder(nn.Module):
    """A picture and its label map -> a code for each class, N x classes x length: the mean of the features
    inside the class's region, 0 for a class that the map lacks."""

    def __init__(self, length: int = 512, channels: int = 32) -> None:
        c = channels
        self.model = nn.Sequential(
            ReflectionPad(), Conv(3, c, 3), InstanceNorm(), Activation(),
            Conv(c, 2 * c, 3, 2, 1), InstanceNorm(), Activation(),
            Conv(2 * c, 4 * c, 3, 2, 1), InstanceNorm(), Activation(),
            ConvTranspose(4 * c, 8 * c), InstanceNorm(), Activation(),
            ReflectionPad(), Conv(8 * c, length, 3), Tanh())

    def execute(self, picture: Var, one_hot: Var) -> Var:
        features = self.model(picture)
        mask = Maps(one_hot).like(features)
        pixels = mask.sum(-1).sum(-1)
        sums = [jt.matmul(m.reshape(m.shape[0], -1), f.reshape(f.shape[0], -1).transpose(1, 0))
                for m, f in zip(mask, features)]
        return jt.stack(sums) / pixels.maximum(1).unsqueeze(-1)


class ACE(nn.Module):
    """norm(x + noise) (1 + gamma) + beta; gamma and beta are mixtures of SPADE's, from the label map, and of
    those from the style codes painted over their regions.

    The codes' convolutions run over the one-hot map: painting is linear, so their weights are multiplied with
    the codes first. For 29 classes instead of 512 features that is a seventeenth of the work.
    """

    def __init__(self, name: str, channels: int, classes: int, hidden: int, length: int,
                 styled: bool) -> None:
        self.name, self.classes, self.styled = name, classes, styled
        self.blending_gamma, self.blending_beta = jt.zeros(1), jt.zeros(1)
        self.noise_var = jt.zeros(channels)
        self.Spade = SPADE(channels, classes, hidden)
        self.param_free_norm = BatchNorm(channels)
        if styled:
            for j in range(classes):
                setattr(self, f"fc_mu{j}", Linear(length, length))
            self.conv_gamma = Conv(length, channels, 3, padding=1)
            self.conv_beta = Conv(length, channels, 3, padding=1)

    def execute(self, x: Var, condition: Condition) -> Var:
        N, _, H, W = x.shape
        noise = condition.noise(self.name, (N, 1, H, W))
        normal = self.param_free_norm(x + self.noise_var.reshape(1, -1, 1, 1) * noise)
        one_hot = condition.maps.like(x)
        gamma, beta = self.Spade.modulation(one_hot)
        if self.styled:
            of_style = self.style(one_hot, condition.codes)
            gamma, beta = (mixed(a, style, spade) for a, style, spade in
                           zip((self.blending_gamma, self.blending_beta), of_style, (gamma, beta)))
        return normal * (1 + gamma) + beta

    def style(self, one_hot: Var, codes: Var) -> list[Var]:
        """[gamma, beta] of the style codes."""
        layers = [getattr(self, f"fc_mu{j}") for j in range(self.classes)]
        painted = jt.stack([nn.relu(layer(codes[:, j])) for j, layer in enumerate(layers)], dim=2)
        both = jt.concat([self.conv_gamma.weight, self.conv_beta.weight])
        bias = jt.concat([self.conv_gamma.bias, self.conv_beta.bias])
        outputs, length = both.shape[:2]
        rows = both.transpose(0, 2, 3, 1).reshape(-1, length)
        made = []
        for n in range(codes.shape[0]):
            weight = jt.matmul(rows, painted[n]).reshape(outputs, 3, 3, self.classes).transpose(0, 3, 1, 2)
            made.append(nn.conv2d(one_hot[n:n + 1], weight, bias, 1, 1))
        return jt.concat(made).chunk(2, dim=1)


def mixed(share: Var, one: Var, other: Var) -> Var:
    """one and other in the proportion a : 1 - a, a the sigmoid of a learned number."""
    a = jt.sigmoid(share).reshape(1, 1, 1, 1)
    return one * a + other * (1 - a)


class Block(nn.Module):
    """A residual block with ACE norms."""

    def __init__(self, name: str, inputs: int, outputs: int, classes: int, hidden: int, length: int,
                 styled: bool, spectral: bool) -> None:
        middle = min(inputs, outputs)
        self.conv_0 = Conv(inputs, middle, 3, padding=1, spectral=spectral)
        self.conv_1 = Conv(middle, outputs, 3, padding=1, spectral=spectral)
        self.ace_0 = ACE(f"{name}.ace_0", inputs, classes, hidden, length, styled)
        self.ace_1 = ACE(f"{name}.ace_1", middle, classes, hidden, length, styled)
        self.learned = inputs != outputs
        if self.learned:
            self.conv_s = Conv(inputs, outputs, 1, bias=False, spectral=spectral)
            self.ace_s = ACE(f"{name}.ace_s", inputs, classes, hidden, length, styled)

    def execute(self, x: Var, condition: Condition) -> Var:
        return residual(x, lambda h: self.ace_0(h, condition), self.conv_0,
                        lambda h: self.ace_1(h, condition), self.conv_1,
                        lambda h: self.conv_s(self.ace_s(h, condition)) if self.learned else h)


NAMES = ("head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3", "up_4")


class SEAN(Generator):
    """Label map, a style code for each class, noise -> picture N x 3 x H x W in -1..1.

    `Zencoder` makes the codes of a picture. noise(name, shape) gives each norm its noise, also after
    training.
    """

    def __init__(self, size: tuple[int, int], semantic_channels: int, channels: int = 64,
                 upsampling: str = "normal", hidden: int = 128, length: int = 512, style_channels: int = 32,
                 spectral: bool = True) -> None:
        self.Zencoder = StyleEncoder(length, style_channels)
        super().__init__(
            lambda inputs, outputs, i: Block(NAMES[i], inputs, outputs, semantic_channels, hidden, length,
                                             i != PLAIN, spectral),
            size, semantic_channels, channels, upsampling)

    def execute(self, one_hot: Var, codes: Var, noise: Noise) -> Var:
        maps = Maps(one_hot)
        return tanh(self.grow(maps, None, Condition(maps, codes, noise)))
