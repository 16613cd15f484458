"""LPIPS: the perceptual distance of two images, by the features of VGG16 (Zhang et al. 2018)."""
from __future__ import annotations

from typing import Iterator

from ldm.backend import Var, jt, nn

# The convolutions of VGG16 by their places in torchvision's list, in five stages; each stage's output counts.
PLACES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
WIDTHS = (64, 128, 256, 512, 512)
# Mean and deviation of ImageNet's colours, 0..1, as in the published code for images in -1..1.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
TINY = 1e-20                # a squared length of features that counts as 0


class LPIPS(nn.Module):
    """`LPIPS()(x, y)`: N x 3 x H x W in -1..1, twice, of 24 pixels a side or more -> N distances.

    At each depth l, features get length 1 over the channels at each position. Their squared differences are
    weighted by the learned w_l (Eq. 1). The distance is the mean over positions, summed over l.
    Parameters: `conv<place>.{weight,bias}` and `lin<l>` of so many channels.
    """

    def __init__(self) -> None:
        channels = 3
        for depth, (places, width) in enumerate(zip(PLACES, WIDTHS)):
            for place in places:
                setattr(self, f"conv{place}", nn.Conv(channels, width, 3, padding=1))
                channels = width
            setattr(self, f"lin{depth}", jt.ones(width))

    def execute(self, x: Var, y: Var) -> Var:
        N = x.shape[0]
        distance = 0
        for depth, f in enumerate(self.stages(jt.concat([x, y]))):
            f = f / jt.sqrt((f * f).sum(1, keepdims=True) + TINY)
            weight = getattr(self, f"lin{depth}").reshape(1, -1, 1, 1)
            distance += (weight * (f[:N] - f[N:]).sqr()).sum(1).mean((1, 2))
        return distance

    def stages(self, x: Var) -> Iterator[Var]:
        """Yield the outputs of the five stages: N x width x H / 2^l x W / 2^l."""
        x = (x - jt.array(SHIFT).reshape(1, 3, 1, 1)) / jt.array(SCALE).reshape(1, 3, 1, 1)
        for depth, places in enumerate(PLACES):
            x = nn.max_pool2d(x, 2, 2) if depth else x
            for place in places:
                x = nn.relu(getattr(self, f"conv{place}")(x))
            yield x
