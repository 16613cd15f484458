"""Previews: the colours of latents by a linear map, which costs almost nothing compared to a step. Needs no
Jittor.

A VQ-GAN's latent is nearly a linear function of the mean colours of its pixels. The inverse map is fitted
once per autoencoder, by least squares on procedural landscapes, and stored in the model's folder.
"""
from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import numpy as np

from ldm import config as configs
from ldm import documents
from ldm.errors import UserError

FILE = "preview.yaml"
DEFAULTS = {"autoencoder": "", "matrix": [[0.0]], "bias": [0.0]}
PIXELS = 100_000                    # to fit: more pictures for small ones
SEED = 1


class LatentColors(NamedTuple):
    """colour = matrix @ latent + bias, in -1..1."""

    matrix: np.ndarray              # 3 x C
    bias: np.ndarray                # 3

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """Latents N x C x h x w -> N x h x w x 3 uint8."""
        with np.errstate(invalid="ignore", over="ignore"):
            colors = np.nan_to_num(np.einsum("kc,nchw->nhwk", self.matrix, latents) + self.bias)
        return np.clip(np.round((colors + 1) * 127.5), 0, 255).astype(np.uint8)


def fit(latents: np.ndarray, pictures: np.ndarray) -> LatentColors:
    """Least squares: latents N x C x h x w, pictures N x H x W x 3 uint8 of a multiple of their size."""
    n, channels, h, w = latents.shape
    side = pictures.shape[1] // h
    colors = pictures.reshape(n, h, side, w, side, 3).mean((2, 4)).reshape(-1, 3) / 127.5 - 1
    inputs = np.moveaxis(latents, 1, -1).reshape(-1, channels)
    solution = np.linalg.lstsq(np.c_[inputs, np.ones(len(inputs))], colors, rcond=None)[0]
    return LatentColors(solution[:-1].T, solution[-1])


def of_model(folder: Path, autoencoder: str, size: Sequence[int],
             encode: Callable[[np.ndarray], np.ndarray]) -> LatentColors:
    """The colours of a model's latents: from its folder, or fitted now and, if possible, kept there.

    autoencoder: the hash of its weights, since other weights have other colours. size: (width, height) of the
    pictures that `encode` takes, H x W x 3 uint8 -> 1 x C x h x w.
    """
    path = folder / FILE
    with contextlib.suppress(UserError):
        return _read(path, autoencoder)
    from ldm.datasets.procedural import make_scene
    count = min(8, 1 + PIXELS // (size[0] * size[1]))
    pictures = np.stack([make_scene(SEED, i, (size[0], size[1]))[0] for i in range(count)])
    colors = fit(np.concatenate([encode(picture) for picture in pictures]), pictures)
    with contextlib.suppress(UserError):                # no permission to write the model's folder
        configs.save(path, {"autoencoder": autoencoder, "matrix": np.round(colors.matrix, 6).tolist(),
                            "bias": np.round(colors.bias, 6).tolist()})
        return _read(path, autoencoder)
    return colors


def _read(path: Path, autoencoder: str) -> LatentColors:
    """UserError if the file is missing, damaged or of another autoencoder."""
    tree = configs.merge(DEFAULTS, documents.read_yaml(path), path)
    if tree["autoencoder"] != autoencoder:
        raise UserError(path, "belongs to another autoencoder", "remove it")
    rows = [configs.checked(row, [0.0], path, "matrix") for row in tree["matrix"]]
    if len({len(row) for row in rows}) != 1 or len(rows) != 3 or len(tree["bias"]) != 3:
        raise UserError(path, "holds no 3 x C matrix", "remove it")
    return LatentColors(np.array(rows), np.array(tree["bias"]))
