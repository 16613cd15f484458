"""The encoder of GauGAN, CLADE and SCGAN: the mean and the variance of a picture's style vector."""
from __future__ import annotations

from ldm.backend import Var, jt, nn
from ldm.baselines.layers import Conv, InstanceNorm, Linear, activate
from ldm.networks.resizing import resize

SIDE = 256                  # pixels; every picture is brought to a square of them
WIDTHS = (1, 2, 4, 8, 8, 8)


class Encoder(nn.Module):
    """Pictures N x 3 x H x W in -1..1 -> (mean, logarithm of the variance), each N x z_dim."""

    def __init__(self, channels: int = 64, z_dim: int = 256, spectral: bool = True) -> None:
        before = 3
        for i, multiple in enumerate(WIDTHS):
            conv = Conv(before, multiple * channels, 3, 2, 1, bias=False, spectral=spectral)
            setattr(self, f"layer{i + 1}", nn.Sequential(conv, InstanceNorm()))
            before = multiple * channels
        self.fc_mu = Linear(before * 16, z_dim)
        self.fc_var = Linear(before * 16, z_dim)

    def execute(self, picture: Var) -> tuple[Var, Var]:
        x = resize(picture, (SIDE, SIDE))
        for i in range(len(WIDTHS)):
            x = activate(getattr(self, f"layer{i + 1}")(x))
        x = x.reshape(x.shape[0], -1)
        return self.fc_mu(x), self.fc_var(x)


def sampled(mean: Var, log_variance: Var, noise: Var) -> Var:
    """A style vector: mean + deviation x noise."""
    return mean + jt.exp(0.5 * log_variance) * noise
