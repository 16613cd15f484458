"""Training the SegFormer that measures mask accuracy: landscapes of every softness to their labels."""
import cv2
import numpy as np
from PIL import Image

from ldm import images, labels
from ldm.backend import jt, nn
from ldm.evaluation.networks import segformer
from ldm.images import from_network, to_network
from ldm.training.batch_order import batch_indices, generator

SAMPLES = 6                 # of the sample grid
GAIN, SHIFT = 0.2, 25       # of the colours: each channel is multiplied by 1 +- GAIN, then shifted, of 255
NOISE = 8                   # largest deviation of the noise, of 255
BLUR = 1.2                  # largest deviation of the blur, pixels
QUALITY = (30, 95)          # of JPEG


def cut(array, box, size, smooth):
    """The part `box` = (left, top, right, bottom), in shares of the sides, of an H x W [x 3] uint8 array, at
    `size` = (width, height)."""
    height, width = array.shape[:2]
    pixels = tuple(np.multiply(box, (width, height, width, height)))
    return np.asarray(Image.fromarray(array).resize(size, Image.LANCZOS if smooth else Image.NEAREST, pixels))


def disturb(image, rng):
    """An H x W x 3 uint8 image in other colours and, half the time each, blurred, noisy, or through JPEG: a
    generated image is softer than a drawn one, and its tones come from a photograph."""
    gain = 1 + rng.uniform(-GAIN, GAIN) + rng.uniform(-GAIN / 2, GAIN / 2, 3)
    x = image * gain + rng.uniform(-SHIFT, SHIFT)
    if rng.random() < 0.5:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.2, BLUR))
    if rng.random() < 0.5:
        x = x + rng.standard_normal(x.shape) * rng.uniform(0, NOISE)
    x = np.clip(np.round(x), 0, 255).astype(np.uint8)
    return images.jpeg_roundtrip(x, int(rng.integers(*QUALITY))) if rng.random() < 0.5 else x


def given_back(image, autoencoder):
    """An H x W x 3 uint8 image, encoded, quantised and decoded."""
    with jt.no_grad():
        z = autoencoder.encode(jt.array(to_network(image)[None]))
        return from_network(autoencoder.decode(z).numpy()[0])


class Maps:
    """Label maps at `size` = (width, height), read when they are asked for."""

    def __init__(self, paths, size, reading=images.AS_IS):
        self.paths, self.size, self.reading = paths, size, reading

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return images.read_labels(self.paths[i], self.size, self.reading)


class SegmenterTask:
    """`versions`: sequences of the same N pictures h x w x 3 uint8 (as drawn; as an autoencoder gives them
    back), each in a size of its own. `maps`: their N label maps H x W uint8. A step sees random versions,
    mirrored, cropped and disturbed, at `size` = (width, height)."""

    sections = ("image_size", "segmenter", "segmenter_training")

    def __init__(self, network, versions, maps, size, options):
        self.network, self.versions, self.maps, self.size = network, versions, maps, tuple(size)
        self.options = options

    def batch(self, step):
        """{"images": N x H x W x 3 uint8, "labels": N x H x W uint8}."""
        o = self.options
        rng = generator(step, o["seed"], 0)
        pairs = [self.example(i, rng)
                 for i in batch_indices(step, o["batch_size"], len(self.maps), o["seed"])]
        return {name: np.stack(arrays) for name, arrays in zip(("images", "labels"), zip(*pairs))}

    def example(self, i, rng):
        """Picture `i` as one training example: (image, labels)."""
        side = rng.uniform(self.options["least_crop"], 1) if rng.random() < 0.5 else 1
        left, top = rng.uniform(0, 1 - side, 2)
        box = (left, top, left + side, top + side)
        image = cut(self.versions[rng.integers(len(self.versions))][i], box, self.size, smooth=True)
        classes = cut(self.maps[i], box, self.size, smooth=False)
        if rng.random() < 0.5:
            image, classes = image[:, ::-1], classes[:, ::-1]
        return disturb(image, rng), classes

    def loss(self, batch):
        """Cross entropy by pixel, of the logits enlarged to the image; beside it the share of pixels hit."""
        classes = batch["labels"]
        logits = segformer.resize(self.network(batch["images"]), classes.shape[1:])
        target = jt.array(classes.astype(np.int32)).reshape(-1)
        rows = logits.transpose(0, 2, 3, 1).reshape(target.shape[0], -1)
        found = (jt.argmax(rows.detach(), 1)[0] == target).float32().mean()
        return nn.cross_entropy_loss(rows, target), {"accuracy": found}

    def after_step(self, step):
        pass

    def sample(self):
        """The first few pictures, their labels, and what the network finds."""
        shown = range(min(SAMPLES, len(self.maps)))
        pictures = np.stack([images.resize(self.versions[0][i], self.size) for i in shown])
        maps = [images.resize(self.maps[i], self.size, smooth=False) for i in shown]
        self.network.eval()
        with jt.no_grad():
            found = segformer.labels(self.network(pictures), pictures.shape[1:3]).numpy()
        self.network.train()
        return images.grid([list(pictures)] + [[labels.colorize(m) for m in row] for row in (maps, found)])

    def arrays(self):
        return {}

    def restore(self, arrays):
        pass
