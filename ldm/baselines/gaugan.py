"""GauGAN's generator (Park et al. 2019, "Semantic image synthesis with spatially-adaptive normalization")."""
from __future__ import annotations

from typing import Optional

from ldm.backend import Var, nn, tanh
from ldm.baselines.generator import Generator, residual
from ldm.baselines.layers import BatchNorm, Conv, Maps


class SPADE(nn.Module):
    """norm(x) (1 + gamma) + beta, gamma and beta from two layers of convolutions over the label map."""

    def __init__(self, channels: int, semantic_channels: int, hidden: int) -> None:
        self.param_free_norm = BatchNorm(channels)
        self.mlp_shared = nn.Sequential(Conv(semantic_channels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = Conv(hidden, channels, 3, padding=1)
        self.mlp_beta = Conv(hidden, channels, 3, padding=1)

    def modulation(self, one_hot: Var) -> tuple[Var, Var]:
        """(gamma, beta) of a label map."""
        h = self.mlp_shared(one_hot)
        return self.mlp_gamma(h), self.mlp_beta(h)

    def execute(self, x: Var, maps: Maps) -> Var:
        gamma, beta = self.modulation(maps.like(x))
        return self.param_free_norm(x) * (1 + gamma) + beta


class Block(nn.Module):
    """A residual block with SPADE."""

    def __init__(self, inputs: int, outputs: int, semantic_channels: int, hidden: int,
                 spectral: bool) -> None:
        middle = min(inputs, outputs)
        self.conv_0 = Conv(inputs, middle, 3, padding=1, spectral=spectral)
        self.conv_1 = Conv(middle, outputs, 3, padding=1, spectral=spectral)
        self.norm_0 = SPADE(inputs, semantic_channels, hidden)
        self.norm_1 = SPADE(middle, semantic_channels, hidden)
        self.learned = inputs != outputs
        if self.learned:
            self.conv_s = Conv(inputs, outputs, 1, bias=False, spectral=spectral)
            self.norm_s = SPADE(inputs, semantic_channels, hidden)

    def execute(self, x: Var, maps: Maps) -> Var:
        return residual(x, lambda h: self.norm_0(h, maps), self.conv_0,
                        lambda h: self.norm_1(h, maps), self.conv_1,
                        lambda h: self.conv_s(self.norm_s(h, maps)) if self.learned else h)


class GauGAN(Generator):
    """Label map, and a style vector with VAE -> picture N x 3 x H x W in -1..1."""

    def __init__(self, size: tuple[int, int], semantic_channels: int, channels: int = 64,
                 upsampling: str = "normal", z_dim: int = 256, hidden: int = 128,
                 spectral: bool = True) -> None:
        super().__init__(
            lambda inputs, outputs, _: Block(inputs, outputs, semantic_channels, hidden, spectral),
            size, semantic_channels, channels, upsampling, z_dim)

    def execute(self, one_hot: Var, z: Optional[Var] = None) -> Var:
        maps = Maps(one_hot)
        return tanh(self.grow(maps, z, maps))
