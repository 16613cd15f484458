"""The trunk of Inception-ResNet v2 (Szegedy et al. 2016), with the names of timm."""
from __future__ import annotations

from ldm.backend import Module, Var, jt, nn
from ldm.evaluation.networks.layers import ConvNorm, mean_pool


def max_pool(x: Var) -> Var:
    return nn.max_pool2d(x, 3, 2)


class Pooled(nn.Module):
    """Mean pooling, then a 1 x 1 convolution, which is item 1 of a list in the original."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        setattr(self, "1", ConvNorm(in_channels, out_channels))

    def execute(self, x: Var) -> Var:
        return getattr(self, "1")(mean_pool(x))


class Branches(nn.Module):
    """Parallel branches whose outputs are concatenated. Each branch (`branch0`, ...) is a ConvNorm or a list
    of them. pool: concatenate the max-pooled input as well."""

    def __init__(self, *branches: Module, pool: bool = False) -> None:
        self._count, self._pool = len(branches), pool
        for i, branch in enumerate(branches):
            setattr(self, f"branch{i}", branch)

    def execute(self, x: Var) -> Var:
        maps = [getattr(self, f"branch{i}")(x) for i in range(self._count)]
        return jt.concat(maps + [max_pool(x)] * self._pool, 1)


class Residual(Branches):
    """Concatenated branches (`joined` channels), projected to `channels`, scaled and added to the input."""

    def __init__(self, channels: int, joined: int, scale: float, *branches: Module,
                 rectify: bool = True) -> None:
        super().__init__(*branches)
        self._scale, self._rectify = scale, rectify
        self.conv2d = nn.Conv(joined, channels, 1)

    def execute(self, x: Var) -> Var:
        x = x + self._scale * self.conv2d(super().execute(x))
        return nn.relu(x) if self._rectify else x


def chain(*shapes: tuple) -> Module:
    return nn.Sequential(*[ConvNorm(*shape) for shape in shapes])


def block35() -> Residual:
    return Residual(320, 128, 0.17, ConvNorm(320, 32), chain((320, 32), (32, 32, 3)),
                    chain((320, 32), (32, 48, 3), (48, 64, 3)))


def block17() -> Residual:
    return Residual(1088, 384, 0.1, ConvNorm(1088, 192),
                    chain((1088, 128), (128, 160, (1, 7)), (160, 192, (7, 1))))


def block8(scale: float = 0.2, rectify: bool = True) -> Residual:
    return Residual(2080, 448, scale, ConvNorm(2080, 192),
                    chain((2080, 192), (192, 224, (1, 3)), (224, 256, (3, 1))), rectify=rectify)


class InceptionResNetV2(nn.Module):
    """N x 3 x 299 x 299 -> N x 1536 x 8 x 8."""

    def __init__(self) -> None:
        self.conv2d_1a = ConvNorm(3, 32, 3, 2, 0)
        self.conv2d_2a = ConvNorm(32, 32, 3, 1, 0)
        self.conv2d_2b = ConvNorm(32, 64, 3)
        self.conv2d_3b = ConvNorm(64, 80)
        self.conv2d_4a = ConvNorm(80, 192, 3, 1, 0)
        self.mixed_5b = Branches(ConvNorm(192, 96), chain((192, 48), (48, 64, 5)),
                                 chain((192, 64), (64, 96, 3), (96, 96, 3)), Pooled(192, 64))
        self.repeat = nn.Sequential(*[block35() for _ in range(10)])
        self.mixed_6a = Branches(ConvNorm(320, 384, 3, 2, 0),
                                 chain((320, 256), (256, 256, 3), (256, 384, 3, 2, 0)), pool=True)
        self.repeat_1 = nn.Sequential(*[block17() for _ in range(20)])
        self.mixed_7a = Branches(chain((1088, 256), (256, 384, 3, 2, 0)),
                                 chain((1088, 256), (256, 288, 3, 2, 0)),
                                 chain((1088, 256), (256, 288, 3), (288, 320, 3, 2, 0)), pool=True)
        self.repeat_2 = nn.Sequential(*[block8() for _ in range(9)])
        self.block8 = block8(scale=1, rectify=False)
        self.conv2d_7b = ConvNorm(2080, 1536)

    def execute(self, x: Var) -> Var:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4a(self.conv2d_3b(max_pool(x)))
        x = self.repeat(self.mixed_5b(max_pool(x)))
        x = self.repeat_1(self.mixed_6a(x))
        x = self.repeat_2(self.mixed_7a(x))
        return self.conv2d_7b(self.block8(x))
