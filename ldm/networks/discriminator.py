"""The patch discriminator (PatchGAN, Isola et al. 2017): is each 70 x 70 patch of an image real?"""
from __future__ import annotations

from ldm.backend import Module, Var, jt, nn
from ldm.networks.blocks import GroupNorm

GROUPS = 8


def conv(channels: int, out_channels: int, stride: int) -> Module:
    """A 4 x 4 convolution with weights of deviation 0.02, as the paper begins."""
    layer = nn.Conv(channels, out_channels, 4, stride=stride, padding=1)
    layer.weight.assign(jt.init.gauss(layer.weight.shape, "float32", 0, 0.02))
    layer.bias.assign(jt.zeros(out_channels))
    return layer


class PatchDiscriminator(nn.Module):
    """Images N x 3 x H x W of 24 pixels a side or more -> a logit a patch, N x 1 x (H/8 - 2) x (W/8 - 2).

    It normalises over groups of channels instead of over the batch, because a batch may be computed in parts,
    and real and generated images are judged separately. `channels` is a multiple of 8.
    """

    def __init__(self, channels: int = 64) -> None:
        widths = [channels, 2 * channels, 4 * channels, 8 * channels]
        layers = [conv(3, channels, 2), nn.LeakyReLU(0.2)]
        for before, width, stride in zip(widths, widths[1:], (2, 2, 1)):
            layers += [conv(before, width, stride), GroupNorm(width, GROUPS), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, conv(widths[-1], 1, 1))

    def execute(self, images: Var) -> Var:
        return self.main(images)
