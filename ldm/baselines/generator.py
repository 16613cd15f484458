"""The skeleton of all four generators (Park et al. 2019, Fig. 4): a small map grows by nearest neighbour."""
from __future__ import annotations

from typing import Any, Callable, Optional

from ldm.backend import Var, nn
from ldm.baselines.layers import Conv, Linear, activate
from ldm.networks.blocks import upsample
from ldm.values import UPSAMPLINGS


def residual(x: Var, norm_0: Callable, conv_0: Callable, norm_1: Callable, conv_1: Callable,
             shortcut: Callable = lambda x: x) -> Var:
    """shortcut(x) + conv_1(act(norm_1(conv_0(act(norm_0(x)))))), the block of all four."""
    h = conv_0(activate(norm_0(x)))
    return shortcut(x) + conv_1(activate(norm_1(h)))


class Generator(nn.Module):
    """fc, seven or eight blocks, conv_img.

    block(inputs, outputs, number): makes a block, called as block(x, condition). size: (width, height) of
    pictures. channels: of the last block, "ngf". first: of fc / 16 (SCGAN's "nff"). z_dim: length of a style
    vector; 0: fc is a convolution of the label map.
    """

    def __init__(self, block: Callable, size: tuple[int, int], semantic_channels: int, channels: int,
                 upsampling: str = "normal", z_dim: int = 0, first: Optional[int] = None) -> None:
        width, height = size
        halvings, first = UPSAMPLINGS[upsampling], first or channels
        if width % 2 ** halvings or height % 2 ** halvings:
            raise ValueError(f"{width} x {height} is not divisible by {2 ** halvings}")
        self.upsampling, self.first = upsampling, 16 * first
        self.start = height >> halvings, width >> halvings
        if z_dim:
            self.fc = Linear(z_dim, self.first * self.start[0] * self.start[1])
        else:
            self.fc = Conv(semantic_channels, self.first, 3, padding=1)
        self.with_z = bool(z_dim)
        c = channels
        self.head_0 = block(self.first, 16 * c, 0)
        self.G_middle_0 = block(16 * c, 16 * c, 1)
        self.G_middle_1 = block(16 * c, 16 * c, 2)
        self.up_0 = block(16 * c, 8 * c, 3)
        self.up_1 = block(8 * c, 4 * c, 4)
        self.up_2 = block(4 * c, 2 * c, 5)
        self.up_3 = block(2 * c, c, 6)
        if upsampling == "most":
            self.up_4 = block(c, c // 2, 7)
            c = c // 2
        self.conv_img = Conv(c, 3, 3, padding=1)

    def grow(self, maps: Any, z: Optional[Var], condition: Any) -> Var:
        """Maps of the labels, z (N x z_dim, with VAE) and what the blocks take -> conv_img's result."""
        x = self.fc(z).reshape(-1, self.first, *self.start) if self.with_z else self.fc(maps.at(*self.start))
        x = upsample(self.head_0(x, condition))
        x = self.G_middle_0(x, condition)
        x = upsample(x) if self.upsampling != "normal" else x
        x = self.G_middle_1(x, condition)
        for block in (self.up_0, self.up_1, self.up_2, self.up_3):
            x = block(upsample(x), condition)
        if self.upsampling == "most":
            x = self.up_4(upsample(x), condition)
        return self.conv_img(activate(x))

