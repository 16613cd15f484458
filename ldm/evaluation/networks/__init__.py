"""The evaluation's networks in Jittor, and how they are opened from files of weights as they were published.

What `open_*` returns takes N x H x W x 3 uint8 images and gives numpy arrays.
"""
import numpy as np

from ldm.backend import jt, nn
from ldm.errors import UserError
from ldm.evaluation.mapping import ADE_CLASSES
from ldm.evaluation.mapping import load as load_mapping
from ldm.evaluation.networks import names, segformer
from ldm.evaluation.networks.inception import FIDInception
from ldm.evaluation.networks.nima import NIMA
from ldm.evaluation.networks.segformer import SegFormer
from ldm.images import resize
from ldm.labels import NUM_CLASSES
from ldm.weights import fill, read_state

__all__ = ["FIDInception", "NIMA", "SegFormer", "Segmenter", "open_inception", "open_nima", "open_segmenter"]


class Segmenter:
    """A SegFormer in evaluation: `network`; `name` tells its size, `features` and `segment` run it.

    mapping: for a network of ADE20K's 150 classes, how they become the 29. Such a network sees pictures as it
    was trained: short side `side` pixels, sides multiples of 32.
    """

    def __init__(self, network, name, mapping=None, side=512):
        self.network, self.name, self.mapping, self.side = network, name, mapping, side
        network.eval()

    def features(self, images):
        """N x D float32 features, the means of the four stages' maps."""
        with jt.no_grad():
            return segformer.features(self.network.stages(images)).numpy()

    def segment(self, images):
        """(labels N x H x W uint8, features N x D float32) from one pass."""
        if self.mapping:
            found = [self.label(image, image.shape[1::-1]) for image in images]
            return np.stack([labels for labels, _, _ in found]), self.features(images)
        with jt.no_grad():
            stages = self.network.stages(images)
            labels = segformer.labels(self.network.decode_head(stages), images.shape[1:3])
            features, labels = jt.fetch_sync([segformer.features(stages), labels])
        return labels.astype(np.uint8), features

    def label(self, image, size, mirrored=False):
        """What a network of 150 classes sees in one picture, H x W x 3 uint8, as maps of `size` = (width,
        height).

        Returns (labels h x w uint8 of the 29 classes, probabilities of these labels h x w float32, the share
        of the picture in things of rooms). mirrored: the mean with the mirrored picture's, mirrored back.
        """
        with jt.no_grad():
            p = self._probabilities(image)
            if mirrored:
                p = (p + self._probabilities(image[:, ::-1])[:, :, :, ::-1]) / 2
            indoor = segformer.resize(jt.array(p[:, -1:]), size[::-1]).numpy()[0, 0]
            index, best = jt.argmax(segformer.resize(jt.array(p[:, :-1]), size[::-1]), 1)
            labels, sure = index.numpy()[0], best.numpy()[0]
        if not self.mapping.summed:
            labels = self.mapping.targets[labels]
        return labels.astype(np.uint8), sure, float((indoor > 0.5).mean())

    def _probabilities(self, image):
        """1 x (29 or 150, and one for all things of rooms) x h/4 x w/4."""
        scale = self.side / min(image.shape[:2])
        size = [max(32, round(side * scale / 32) * 32) for side in image.shape[1::-1]]
        logits = self.network(resize(image, size)[None])
        p = nn.softmax(logits, 1)
        sums = self.mapping.matrix() if self.mapping.summed else np.concatenate(
            [np.eye(ADE_CLASSES, dtype=np.float32), self.mapping.matrix()[-1:]])
        flat = nn.matmul(jt.array(sums), p.reshape(ADE_CLASSES, -1))
        return flat.reshape(1, len(sums), *p.shape[2:]).numpy()


class Extractor:
    """A network that gives one row of numbers for an image."""

    def __init__(self, network, name):
        self._network, self.name = network, name

    def __call__(self, images):
        with jt.no_grad():
            return self._network(images).numpy()


def open_inception(path):
    """The Inception with the weights of pt_inception-2015-12-05: images -> N x 2048 features.

    UserError where the file is another network's.
    """
    state, _ = read_state(path)
    network = FIDInception()
    fill(network, names.inception(state), path)
    return Extractor(network, "pt_inception-2015-12-05")


def open_nima(path):
    """NIMA in the layout that the file has: images -> N x 10 probabilities. UserError where it has none of
    the four."""
    state, _ = read_state(path)
    layout, state = names.nima(state, path)
    network = NIMA(layout)
    fill(network, state, path)
    return Extractor(network, f"NIMA {layout}")


def open_segmenter(path, mapping="strict"):
    """A Segmenter of the size and in the spelling that the file has.

    mapping: what makes 29 classes of ADE20K's 150, if the file knows those (see mapping.load). UserError
    where the file is another network's, or knows neither 29 nor 150 classes.
    """
    state, config = read_state(path)
    try:
        state, rectify = names.segformer(state)
        size = names.segformer_size(state, path)
    except (ValueError, IndexError) as e:
        raise UserError(path, f"is no SegFormer ({e})", "tensors of the published shapes are needed") from e
    if size["num_classes"] not in (NUM_CLASSES, ADE_CLASSES):
        raise UserError(path, f"tells {size['num_classes']} classes apart",
                        f"give a segmenter of the contest's {NUM_CLASSES} or of ADE20K's {ADE_CLASSES}")
    network = SegFormer(rectify=rectify, **size)
    fill(network, state, path)
    name = f"SegFormer {segformer.size_name(size)}"
    if size["num_classes"] == NUM_CLASSES:
        return Segmenter(network, name)
    found = load_mapping(mapping)
    side = min(config["image_size"]) if config else 640 if "640x640" in str(path) else 512
    return Segmenter(network, f"{name}, ADE20K {found.name}", found, side)
