"""Training the SegFormer that measures mask accuracy: from sharp and soft landscapes to their labels."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import cv2
import numpy as np
from PIL import Image

from ldm import images, labels
from ldm.backend import Var, jt, nn
from ldm.evaluation.networks import segformer
from ldm.images import from_network, to_network
from ldm.training.batch_order import batch_indices, generator

SAMPLES = 6                 # pictures in the sample grid
GAIN, SHIFT = 0.2, 25       # colours are multiplied by 1 +- GAIN, then shifted by up to +- SHIFT (of 255)
NOISE = 8                   # largest standard deviation of the noise (of 255)
BLUR = 1.2                  # largest standard deviation of the blur, in pixels
QUALITY = (30, 95)          # of JPEG


def cut(array: np.ndarray, box: Sequence[float], size: tuple[int, int], smooth: bool) -> np.ndarray:
    """A part of an H x W [x 3] uint8 array, resized to `size` = (width, height).

    box: (left, top, right, bottom) as shares of the sides, 0..1. smooth: for pictures, not for label maps."""
    height, width = array.shape[:2]
    pixels = tuple(np.multiply(box, (width, height, width, height)))
    resample = Image.LANCZOS if smooth else Image.NEAREST       # type: ignore[attr-defined]
    return np.asarray(Image.fromarray(array).resize(size, resample, pixels))


def disturb(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An H x W x 3 uint8 image with other colours. Each with probability 1/2, it is blurred, gets noise, and
    passes through JPEG: a generated image is softer than a drawn one, and its tones are a photograph's."""
    gain = 1 + rng.uniform(-GAIN, GAIN) + rng.uniform(-GAIN / 2, GAIN / 2, 3)
    x: np.ndarray = image * gain + rng.uniform(-SHIFT, SHIFT)
    if rng.random() < 0.5:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.2, BLUR))
    if rng.random() < 0.5:
        x = x + rng.standard_normal(x.shape) * rng.uniform(0, NOISE)
    x = np.clip(np.round(x), 0, 255).astype(np.uint8)
    return images.jpeg_roundtrip(x, int(rng.integers(*QUALITY))) if rng.random() < 0.5 else x


def reconstruct(image: np.ndarray, autoencoder: Any) -> np.ndarray:
    """The autoencoder's reconstruction of an H x W x 3 uint8 image: encoded, quantised and decoded."""
    with jt.no_grad():
        z = autoencoder.encode(jt.array(to_network(image)[None]))
        return from_network(autoencoder.decode(z).numpy()[0])


class Maps(Sequence):
    """Label maps H x W uint8, resized to `size` = (width, height). A file is read when its map is used."""

    def __init__(self, paths: Sequence[Path], size: Sequence[int],
                 reading: images.Reading = images.AS_IS) -> None:
        self.paths, self.size, self.reading = paths, size, reading

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> np.ndarray:            # type: ignore[override]    # no slices
        return images.read_labels(self.paths[i], self.size, self.reading)


class SegmenterTask:
    """Trains a SegFormer on random versions of pictures, mirrored, cropped and disturbed.

    versions: sequences of the same N pictures h x w x 3 uint8 (the originals, their reconstructions), each
    with its own size. maps: their N label maps H x W uint8. size: (width, height) of the training examples.
    options: the config's `segmenter_training`."""

    sections = ("image_size", "segmenter", "segmenter_training")

    def __init__(self, network: Any, versions: Sequence[Sequence[np.ndarray]], maps: Sequence[np.ndarray],
                 size: Sequence[int], options: dict) -> None:
        self.network, self.versions, self.maps, self.size = network, versions, maps, (size[0], size[1])
        self.options = options

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """{"images": N x H x W x 3 uint8, "labels": N x H x W uint8}."""
        seed = self.options["seed"]
        rng = generator(step, seed, 0)
        pairs = [self.example(i, rng)
                 for i in batch_indices(step, self.options["batch_size"], len(self.maps), seed)]
        return {name: np.stack(arrays) for name, arrays in zip(("images", "labels"), zip(*pairs))}

    def example(self, i: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One training example (image, labels), made from picture `i`."""
        side = rng.uniform(self.options["least_crop"], 1) if rng.random() < 0.5 else 1
        left, top = rng.uniform(0, 1 - side, 2)
        box = (left, top, left + side, top + side)
        version = self.versions[int(rng.integers(len(self.versions)))]
        image = cut(version[i], box, self.size, smooth=True)
        classes = cut(self.maps[i], box, self.size, smooth=False)
        if rng.random() < 0.5:
            image, classes = image[:, ::-1], classes[:, ::-1]
        return disturb(image, rng), classes

    def loss(self, batch: dict[str, np.ndarray]) -> tuple[Var, dict[str, Var]]:
        """(the cross entropy per pixel, of logits enlarged to the image; the share of correct pixels)."""
        classes = batch["labels"]
        logits = segformer.resize(self.network(batch["images"]), classes.shape[1:])
        target = jt.array(classes.astype(np.int32)).reshape(-1)
        rows = logits.transpose(0, 2, 3, 1).reshape(target.shape[0], -1)
        found = (jt.argmax(rows.detach(), 1)[0] == target).float32().mean()
        return nn.cross_entropy_loss(rows, target), {"accuracy": found}

    def after_step(self, step: int) -> None:
        """Nothing."""

    def sample(self) -> np.ndarray:
        """A row of the first few pictures, one of their labels, one of the labels that the network finds."""
        shown = range(min(SAMPLES, len(self.maps)))
        pictures = np.stack([images.resize(self.versions[0][i], self.size) for i in shown])
        maps = [images.resize(self.maps[i], self.size, smooth=False) for i in shown]
        self.network.eval()
        with jt.no_grad():
            found = segformer.labels(self.network(pictures), pictures.shape[1:3]).numpy()
        self.network.train()
        return images.grid([list(pictures)] + [[labels.colorize(m) for m in row] for row in (maps, found)])

    def arrays(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Nothing."""
