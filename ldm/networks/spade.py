"""SPADE: the label map enters as a scale and a shift for each position of a normalised activation."""
from ldm.backend import nn
from ldm.networks.blocks import SiLU, normalize, upsample, zero
from ldm.networks.dropout import Dropout


class SPADENorm(nn.Module):
    """norm(x) (1 + gamma(m)) + beta(m), gamma and beta from two convolutions over the label map m.

    `downsampling` is the factor between the map's size and that of x.
    """

    def __init__(self, channels, num_classes, downsampling, hidden, groups):
        self.downsampling, self.groups = downsampling, groups
        self.mlp_shared = nn.Sequential(nn.Conv(num_classes, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv(hidden, channels, 3, padding=1)

    def modulation(self, one_hot):
        """N x classes x H x W -> (1 + gamma, beta), each N x C x H/d x W/d: depends on neither z nor t."""
        d = self.downsampling
        h = self.mlp_shared(one_hot[:, :, ::d, ::d])       # nearest: the upper left label of each d x d
        return 1 + self.mlp_gamma(h), self.mlp_beta(h)

    def execute(self, x, modulation):
        scale, shift = modulation
        return normalize(x, self.groups, 1e-5) * scale + shift


class SPADEResBlock(nn.Module):
    """Residual block of the middle and the decoder: both its norms are modulated by the label map."""

    def __init__(self, channels, out_channels, emb_channels, num_classes, downsampling, hidden, groups,
                 dropout, up=False):
        self._resample = upsample if up else None
        self.in_norm = SPADENorm(channels, num_classes, downsampling, hidden, groups)
        self.in_layers = nn.Sequential(SiLU(), nn.Conv(channels, out_channels, 3, padding=1))
        self.emb_layers = nn.Sequential(SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.out_norm = SPADENorm(out_channels, num_classes, downsampling // 2 if up else downsampling,
                                  hidden, groups)
        self.out_layers = nn.Sequential(SiLU(), Dropout(dropout),
                                        zero(nn.Conv(out_channels, out_channels, 3, padding=1)))
        self.skip_connection = (nn.Conv(channels, out_channels, 1) if channels != out_channels
                                else nn.Identity())

    def modulations(self, one_hot):
        return self.in_norm.modulation(one_hot), self.out_norm.modulation(one_hot)

    def execute(self, x, emb, modulations):
        first, second = modulations
        h = self.in_layers[0](self.in_norm(x, first))
        if self._resample:
            h, x = self._resample(h), self._resample(x)
        h = self.in_layers[1](h)
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.out_norm(h, second) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers(h)
