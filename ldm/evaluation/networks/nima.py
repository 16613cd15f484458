"""NIMA (Talebi and Milanfar 2018): a classifier's trunk and a linear layer predict how people would score an
image.

There are four layouts, with the names of their published files. The contest did not say which one it used, so
scores can only be compared with each other.
"""
from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np
from PIL import Image

from ldm.backend import Module, Var, nn
from ldm.errors import UserError
from ldm.evaluation.networks.inception_resnet import InceptionResNetV2
from ldm.evaluation.networks.layers import image_batch

HALF = {"mean": 0.5, "std": 0.5}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VGG16_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Expansion, channels, repetitions and first stride of MobileNetV2's inverted bottlenecks.
BOTTLENECKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
               (6, 320, 1, 1))


def cropped(images: np.ndarray, size: int) -> np.ndarray:
    """N x H x W x 3 uint8 -> N x size x size x 3 float32 of 0..255: resize the shorter side to `size`
    (antialiased bilinear), then crop the centre."""
    return np.stack([_cropped(image, size) for image in images])


def _cropped(image: np.ndarray, size: int) -> np.ndarray:
    shorter = min(image.shape[:2])
    height, width = (int(size * side / shorter) for side in image.shape[:2])
    channels = [Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR)
                for channel in np.moveaxis(image.astype(np.float32), -1, 0)]        # floats are not rounded
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.stack([np.asarray(channel)[top:top + size, left:left + size] for channel in channels], axis=-1)


class VGG16(nn.Module):
    """The convolutions of VGG16, named `<prefix><index in torchvision's list>`."""

    def __init__(self, prefix: str) -> None:
        self._groups, place, channels = [], 0, 3
        for group in VGG16_CHANNELS:
            names = [f"{prefix}{place + 2 * i}" for i in range(len(group))]
            for name, out_channels in zip(names, group):
                setattr(self, name, nn.Conv(channels, out_channels, 3, padding=1))
                channels = out_channels
            self._groups.append(names)
            place += 2 * len(group) + 1             # each convolution has a ReLU, each group a pooling

    def execute(self, x: Var) -> Var:
        """N x 3 x H x W -> N x 512 x H/32 x W/32."""
        for names in self._groups:
            for name in names:
                x = nn.relu(getattr(self, name)(x))
            x = nn.max_pool2d(x, 2, 2)
        return x


def relu6(x: Var) -> Var:
    return x.clamp(0, 6)


def conv_norm(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1,
              groups: int = 1) -> list[Module]:
    """[convolution, frozen norm], without activation."""
    return [nn.Conv(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm(out_channels, is_train=False)]


class Bottleneck(nn.Module):
    """MobileNetV2's block: expand (unless `expansion` is 1), depthwise 3 x 3 convolution, project."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        hidden = expansion * in_channels
        self._skip = stride == 1 and in_channels == out_channels
        widen = [nn.Sequential(*conv_norm(in_channels, hidden))] if expansion > 1 else []
        depthwise = nn.Sequential(*conv_norm(hidden, hidden, 3, stride, groups=hidden))
        self.conv = nn.Sequential(*widen, depthwise, *conv_norm(hidden, out_channels))

    def execute(self, x: Var) -> Var:
        *activated, conv, norm = list(self.conv)
        y = x
        for layer in activated:
            y = relu6(layer(y))
        y = norm(conv(y))
        return x + y if self._skip else y


def mobilenet_v2() -> Module:
    """The 19 items of torchvision's list: N x 3 x H x W -> N x 1280 x H/32 x W/32."""
    layers, channels = [nn.Sequential(*conv_norm(3, 32, 3, 2), nn.ReLU6())], 32
    for expansion, out_channels, repetitions, stride in BOTTLENECKS:
        for i in range(repetitions):
            layers.append(Bottleneck(channels, out_channels, stride if i == 0 else 1, expansion))
            channels = out_channels
    return nn.Sequential(*layers, nn.Sequential(*conv_norm(channels, 1280), nn.ReLU6()))


class NIMA(nn.Module):
    """`NIMA(layout)(images)`: N x H x W x 3 uint8 of any size -> N x 10 probabilities of the scores 1..10.

    layout: a key of LAYOUTS.
    """

    def __init__(self, layout: str) -> None:
        if layout not in LAYOUTS:
            raise UserError(layout, "is not a layout of NIMA", f"choose {', '.join(LAYOUTS)}")
        self._layout = LAYOUTS[layout]
        setattr(self, self._layout.trunk_name, self._layout.trunk())
        self.classifier = Classifier(self._layout.channels, str(self._layout.place))

    def execute(self, images: np.ndarray) -> Var:
        layout = self._layout
        x = image_batch(cropped(images, layout.size), **layout.normalization)
        maps = getattr(self, layout.trunk_name)(x)
        features = maps.reshape(len(maps), -1) if layout.flat else maps.mean([2, 3])
        return nn.softmax(self.classifier(features), dim=-1)


class Classifier(nn.Module):
    """A linear layer to the ten scores, named by its index in the original's list."""

    def __init__(self, channels: int, place: str) -> None:
        self._place = place
        setattr(self, place, nn.Linear(channels, 10))

    def execute(self, x: Var) -> Var:
        return getattr(self, self._place)(x)


class Layout(NamedTuple):
    """One of NIMA's published forms: its trunk, and the names in its file."""
    trunk: Callable[[], Module]     # makes the convolutions
    trunk_name: str                 # their name in the file
    channels: int                   # inputs of the linear layer
    place: int                      # index of the linear layer in the original's list
    size: int = 224                 # side of the trunk's input
    normalization: dict = IMAGENET
    flat: bool = False              # the linear layer gets all of the 7 x 7 x 512 map, not its mean


LAYOUTS = {
    "vgg16_flat": Layout(lambda: VGG16(""), "features", 25088, 1, flat=True),
    "vgg16_pyiqa": Layout(lambda: VGG16("features_"), "base_model", 512, 2),
    "inception_resnet_v2_pyiqa": Layout(InceptionResNetV2, "base_model", 1536, 2, 299, HALF),
    "mobilenet_v2": Layout(mobilenet_v2, "features", 1280, 1),
}
