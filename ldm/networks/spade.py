"""SPADE: the label map enters as a scale and a shift for each position of a normalised activation."""
from __future__ import annotations

from typing import Any, Optional

from ldm.backend import Var, jt, nn
from ldm.networks.blocks import SiLU, add, modulated, twice, upsample, zero
from ldm.networks.dropout import Dropout


def fold(tree: Any) -> Any:
    """Nested sequences of maps that are constant inside, such as the empty map's modulations -> the first, an
    inner and the last row and column of each, 3 x 3. The third axis is rows, the fourth columns."""
    if not isinstance(tree, jt.Var):
        return [fold(branch) for branch in tree]
    for dim in (2, 3):
        last = tree.shape[dim] - 1
        if last > 2:
            tree = jt.concat([tree[(slice(None),) * dim + (slice(i, i + 1),)] for i in (0, 1, last)], dim=dim)
    return tree.sync()


class SPADENorm(nn.Module):
    """SiLU of norm(x) (1 + gamma(m)) + beta(m) (Park et al. 2019). gamma and beta are convolutions of the
    label map m. The timestep's scale and shift, where given, come before the SiLU.

    `downsampling` is the factor between the map's size and that of x.
    """

    def __init__(self, channels: int, num_classes: int, downsampling: int, hidden: int, groups: int) -> None:
        self.downsampling, self.groups = downsampling, groups
        self.mlp_shared = nn.Sequential(nn.Conv(num_classes, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv(hidden, channels, 3, padding=1)

    def modulation(self, one_hot: Var) -> tuple[Var, Var]:
        """N x classes x H x W -> (1 + gamma, beta), each N x C x H/d x W/d. They depend on neither z nor
        t."""
        d = self.downsampling
        h = self.mlp_shared[0](one_hot[:, :, ::d, ::d])    # nearest: the upper left label of each d x d
        h = self.mlp_shared[1](h.float32())                # comparing bfloat16 with 0 does not compile
        return 1 + self.mlp_gamma(h), self.mlp_beta(h)

    def execute(self, x: Var, modulation: tuple[Var, Var], emb: Optional[Var] = None) -> Var:
        return modulated(x, self.groups, 1e-5, *modulation, emb, silu=True)


class SPADEResBlock(nn.Module):
    """Residual block of the middle and the decoder: both its norms are modulated by the label map."""

    def __init__(self, channels: int, out_channels: int, emb_channels: int, num_classes: int,
                 downsampling: int, hidden: int, groups: int, dropout: float, up: bool = False) -> None:
        self._resample, self._add, self._twice = upsample if up else None, add, twice
        self.in_norm = SPADENorm(channels, num_classes, downsampling, hidden, groups)
        self.in_layers = nn.Sequential(SiLU(), nn.Conv(channels, out_channels, 3, padding=1))
        self.emb_layers = nn.Sequential(SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.out_norm = SPADENorm(out_channels, num_classes, downsampling // 2 if up else downsampling,
                                  hidden, groups)
        self.out_layers = nn.Sequential(SiLU(), Dropout(dropout),
                                        zero(nn.Conv(out_channels, out_channels, 3, padding=1)))
        self.skip_connection = (nn.Conv(channels, out_channels, 1) if channels != out_channels
                                else nn.Identity())

    def modulations(self, one_hot: Var) -> tuple[Var, Var]:
        return self.in_norm.modulation(one_hot), self.out_norm.modulation(one_hot)

    def execute(self, x: Var, emb: Var, modulations: tuple[Var, Var]) -> Var:
        first, second = modulations
        x, kept = self._twice(x)
        h = self.in_norm(x, first)
        if self._resample:
            h, kept = self._resample(h), self._resample(kept)
        h = self.out_norm(self.in_layers[1](h), second, self.emb_layers(emb))
        return self._add(self.skip_connection(kept), self.out_layers[2](self.out_layers[1](h)))
