"""The evaluation's networks in Jittor, and how they are opened from files of weights as they were published.

What `open_*` returns takes N x H x W x 3 uint8 images and gives numpy arrays.
"""
import numpy as np

from ldm.backend import jt
from ldm.errors import UserError
from ldm.evaluation.networks import names, segformer
from ldm.evaluation.networks.inception import FIDInception
from ldm.evaluation.networks.nima import NIMA
from ldm.evaluation.networks.segformer import SegFormer
from ldm.labels import NUM_CLASSES
from ldm.weights import fill, read_state

__all__ = ["FIDInception", "NIMA", "SegFormer", "Segmenter", "open_inception", "open_nima", "open_segmenter"]


class Segmenter:
    """A SegFormer in evaluation: `name` tells its size, `features` and `segment` run it."""

    def __init__(self, network, name):
        self._network, self.name = network, name
        network.eval()

    def features(self, images):
        """N x D float32 features, the means of the four stages' maps."""
        with jt.no_grad():
            return segformer.features(self._network.stages(images)).numpy()

    def segment(self, images):
        """(labels N x H x W uint8, features N x D float32) from one pass."""
        with jt.no_grad():
            stages = self._network.stages(images)
            labels = segformer.labels(self._network.decode_head(stages), images.shape[1:3])
            features, labels = jt.fetch_sync([segformer.features(stages), labels])
        return labels.astype(np.uint8), features


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


def open_segmenter(path):
    """A Segmenter of the size and in the spelling that the file has.

    UserError where the file is another network's, or does not know the 29 classes.
    """
    state, _ = read_state(path)
    try:
        state, rectify = names.segformer(state)
        size = names.segformer_size(state, path)
    except (ValueError, IndexError) as e:
        raise UserError(path, f"is no SegFormer ({e})", "tensors of the published shapes are needed") from e
    if size["num_classes"] != NUM_CLASSES:
        raise UserError(path, f"tells {size['num_classes']} classes apart",
                        f"a segmenter of the contest's {NUM_CLASSES} is needed")
    network = SegFormer(rectify=rectify, **size)
    fill(network, state, path)
    return Segmenter(network, f"SegFormer {segformer.size_name(size)}")
