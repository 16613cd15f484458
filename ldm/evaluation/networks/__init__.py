"""The networks of the metrics in Jittor, and functions that open them from published files of weights.

The networks that `open_*` returns take N x H x W x 3 uint8 images and return numpy arrays.
"""
from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from ldm.backend import Module, jt, nn
from ldm.errors import UserError
from ldm.evaluation.mapping import ADE_CLASSES, Mapping
from ldm.evaluation.mapping import load as load_mapping
from ldm.evaluation.networks import names, segformer
from ldm.evaluation.networks.inception import FIDInception
from ldm.evaluation.networks.nima import NIMA
from ldm.evaluation.networks.segformer import SegFormer
from ldm.files import Name
from ldm.images import resize
from ldm.labels import NUM_CLASSES
from ldm.weights import fill, read_state

__all__ = ["FIDInception", "NIMA", "SegFormer", "Segmenter", "open_inception", "open_nima", "open_segmenter"]


class Segmenter:
    """A SegFormer for evaluation. `name` contains its size.

    mapping: for a network of ADE20K's 150 classes, how they become the 29. Such a network gets its pictures
    as in its training: the short side has `side` pixels, and both sides are multiples of 32.
    """

    def __init__(self, network: SegFormer, name: str, mapping: Optional[Mapping] = None,
                 side: int = 512) -> None:
        self.network, self.name, self.mapping, self.side = network, name, mapping, side
        network.eval()

    def features(self, images: np.ndarray) -> np.ndarray:
        """N x H x W x 3 uint8 -> N x D float32: the mean over positions of each of the four stages."""
        with jt.no_grad():
            return segformer.features(self.network.stages(self._large_enough(images))).numpy()

    def segment(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """N x H x W x 3 uint8 -> (labels N x H x W uint8, features N x D float32), in one pass."""
        if self.mapping is not None:
            found = [self.label(image, image.shape[1::-1]) for image in images]
            return np.stack([labels for labels, _, _ in found]), self.features(images)
        with jt.no_grad():
            stages = self.network.stages(self._large_enough(images))
            labels = segformer.labels(self.network.decode_head(stages), images.shape[1:3])
            features, labels = jt.fetch_sync([segformer.features(stages), labels])
        return labels.astype(np.uint8), features

    def _large_enough(self, images):
        """Pictures with shorter sides than the network can reduce are enlarged by a whole number."""
        least, (height, width) = self.network.least_side, images.shape[1:3]
        factor = -(-least // min(height, width))
        if factor == 1:
            return images
        return np.stack([resize(image, (factor * width, factor * height)) for image in images])

    def label(self, image: np.ndarray, size: Sequence[int],
              mirrored: bool = False) -> tuple[np.ndarray, np.ndarray, float]:
        """Label one picture, H x W x 3 uint8, with a network of 150 classes. size: the map's (width, height).

        Returns (labels h x w uint8 of the 29 classes, the probability of each label h x w float32, the share
        of the picture that shows indoor things, 0..1). mirrored: average the probabilities with those of the
        mirrored picture.
        """
        mapping = self._ade_mapping()
        with jt.no_grad():
            p = self._probabilities(image)
            if mirrored:
                p = (p + self._probabilities(image[:, ::-1])[:, :, :, ::-1]) / 2
            indoor = segformer.resize(jt.array(p[:, -1:]), size[::-1]).numpy()[0, 0]
            index, best = jt.argmax(segformer.resize(jt.array(p[:, :-1]), size[::-1]), 1)
            labels, sure = index.numpy()[0], best.numpy()[0]
        if not mapping.summed:
            labels = mapping.targets[labels]
        return labels.astype(np.uint8), sure, float((indoor > 0.5).mean())

    def _ade_mapping(self) -> Mapping:
        if self.mapping is None:
            raise ValueError(f"{self.name} has the 29 classes; only a network of 150 classes has a mapping")
        return self.mapping

    def _probabilities(self, image: np.ndarray) -> np.ndarray:
        """1 x (29 or 150, and one for all indoor things) x h/4 x w/4."""
        mapping = self._ade_mapping()
        scale = self.side / min(image.shape[:2])
        size = [max(32, round(side * scale / 32) * 32) for side in image.shape[1::-1]]
        logits = self.network(resize(image, size)[None])
        p = nn.softmax(logits, 1)
        sums = mapping.matrix() if mapping.summed else np.concatenate(
            [np.eye(ADE_CLASSES, dtype=np.float32), mapping.matrix()[-1:]])
        flat = nn.matmul(jt.array(sums), p.reshape(ADE_CLASSES, -1))
        return flat.reshape(1, len(sums), *p.shape[2:]).numpy()


class Extractor:
    """A network that computes one row of numbers per image."""

    def __init__(self, network: Module, name: str) -> None:
        self._network, self.name = network, name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with jt.no_grad():
            return self._network(images).numpy()


def open_inception(path: Name) -> Extractor:
    """The Inception with the weights of pt_inception-2015-12-05: images -> N x 2048 features.

    UserError if the file belongs to another network.
    """
    state, _ = read_state(path)
    network = FIDInception()
    fill(network, names.inception(state), path)
    return Extractor(network, "pt_inception-2015-12-05")


def open_nima(path: Name) -> Extractor:
    """NIMA in the layout of the file: images -> N x 10 probabilities. UserError if the layout is unknown."""
    state, _ = read_state(path)
    layout, state = names.nima(state, path)
    network = NIMA(layout)
    fill(network, state, path)
    return Extractor(network, f"NIMA {layout}")


def open_segmenter(path: Name, mapping: Name = "strict") -> Segmenter:
    """A Segmenter from a published file; its size and the names in the file are detected.

    mapping: how ADE20K's 150 classes become 29, for a network of those (see mapping.load). UserError if the
    file belongs to another network, or if its classes are neither 29 nor 150.
    """
    state, config = read_state(path)
    try:
        state, rectify = names.segformer(state)
        size = names.segformer_size(state, path)
    except (ValueError, IndexError) as e:
        raise UserError(path, f"is not a SegFormer ({e})",
                        "give a file with tensors of the published shapes") from e
    if size["num_classes"] not in (NUM_CLASSES, ADE_CLASSES):
        raise UserError(path, f"has {size['num_classes']} classes",
                        f"give a segmenter with the contest's {NUM_CLASSES} or ADE20K's {ADE_CLASSES}")
    network = SegFormer(rectify=rectify, **size)
    fill(network, state, path)
    name = f"SegFormer {segformer.size_name(size)}"
    if size["num_classes"] == NUM_CLASSES:
        return Segmenter(network, name)
    found = load_mapping(mapping)
    side = min(config["image_size"]) if config else 640 if "640x640" in str(path) else 512
    return Segmenter(network, f"{name}, ADE20K {found.name}", found, side)
