"""What the evaluation's networks share. They are used as published, so normalisation by batch is frozen in
them."""
from ldm.backend import jt, nn


def image_batch(images, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    """N x H x W x 3 of 0..255, uint8 or float -> normalised N x 3 x H x W float32 (by default as for
    ImageNet)."""
    x = jt.array(images).float32() / 255
    return ((x - jt.array(mean)) / jt.array(std)).transpose(0, 3, 1, 2)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, in two passes (E[x^2] - E[x]^2 loses digits)."""

    def __init__(self, channels, eps=1e-5):
        self._eps = eps
        self.weight, self.bias = jt.ones(channels), jt.zeros(channels)

    def execute(self, x):
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return centred * jt.rsqrt(variance + self._eps) * self.weight + self.bias


class ConvNorm(nn.Module):
    """Convolution without bias, frozen batch normalisation, ReLU: the brick of both Inceptions, eps 0.001.

    Padding keeps the size unless it is given.
    """

    def __init__(self, in_channels, out_channels, kernel=1, stride=1, padding=None):
        if padding is None:
            padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
        self.conv = nn.Conv(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm(out_channels, eps=0.001, is_train=False)

    def execute(self, x):
        return nn.relu(self.bn(self.conv(x)))


def mean_pool(x):
    """Mean of 3 x 3 neighbours, at the border of those inside only; N x C x H x W keeps its size."""
    N, C, H, W = x.shape
    window = ["i0", "i1", "i2+i4-1", "i3+i5-1"]
    total = x.reindex([N, C, H, W, 3, 3], window).sum([4, 5])
    return total / jt.ones([1, 1, H, W]).reindex([1, 1, H, W, 3, 3], window).sum([4, 5])
