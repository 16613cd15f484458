"""Checks whether a U-Net and an autoencoder belong together: whether the U-Net was trained on such latents.

Autoencoders of one layout load in place of each other without an error, and the pictures are garbage. So the
U-Net predicts a little noise in the latents of a few pictures: as they are, and with the channels in another
order or with the other sign. For a matching pair, the error is much smaller on the unchanged latents, and the
slope of the true noise over the predicted one is 1, as for every network that minimises a squared error on
its own data. Then the U-Net makes latents from noise: they must have the standard deviation of its training
latents.
"""
from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from ldm import config as configs
from ldm import images
from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.diffusion.samplers import SAMPLERS
from ldm.files import Name
from ldm.images import to_network
from ldm.inference.pipeline import Model

TIMESTEPS = (20, 50)            # of a linear schedule: so little noise that the latents' structure decides
PICTURES = 8
POSITIONS = 1 << 13             # of latents that the U-Net gets at once
# Set on models/demo-128, tried on 10 right pairs and 34 others, see docs/own-data.md.
RATIO, SLOPE, SPREAD = 0.78, (0.96, 1.05), (0.6, 1.6)
STEPS = 10                      # of the chain from noise
APART = ("its autoencoder.safetensors and its unet.safetensors do not seem to belong together, or the U-Net "
         "is hardly trained: pictures will be garbage", "take the autoencoder that it was trained with")


class Report(NamedTuple):
    """error: mean squared error of the predicted noise. ratio: error divided by the mean of those for changed
    latents. slope: of the true noise over the predicted one. spread: standard deviation of latents made from
    noise, divided by that of the pictures' latents. mean, std: of each channel of the pictures' latents."""
    error: float
    ratio: float
    slope: float
    spread: float
    mean: list[float]
    std: list[float]

    @property
    def belong(self) -> bool:
        """Whether U-Net and autoencoder belong together."""
        return (self.ratio < RATIO and SLOPE[0] < self.slope < SLOPE[1]
                and SPREAD[0] < self.spread < SPREAD[1])

    def figures(self) -> str:
        """All numbers on one line."""
        channels = ", ".join(f"{m:.2f} +- {s:.2f}" for m, s in zip(self.mean, self.std))
        return (f"error {self.error:.3f}, ratio {self.ratio:.2f} (a right pair: below {RATIO}), slope "
                f"{self.slope:.3f} ({SLOPE[0]} to {SLOPE[1]}); from noise: spread {self.spread:.2f} "
                f"({SPREAD[0]} to {SPREAD[1]}); channels of the latents {channels}")


def changes() -> list[Callable[[np.ndarray], np.ndarray]]:
    """Latents N x 3 x h x w changed as another autoencoder could: five orders of the channels, the other
    sign."""
    def order(channels):
        return lambda z: z[:, channels]
    return [order(list(channels)) for channels in list(itertools.permutations(range(3)))[1:]] + [lambda z: -z]


def of_model(folder: Name, pictures: Name) -> Report:
    """The Report of a model folder, with the first PICTURES of the photographs in a folder."""
    config = configs.load(Path(folder) / "config.yaml", networks=("unet", "autoencoder"))
    model = Model(Path(folder), config)
    paths = images.list_images(pictures)[:PICTURES]
    return measure(*model.networks(config["image_size"]), Schedule.named(config["schedule"]),
                   [images.read_image(path, config["image_size"]) for path in paths])


def measure(unet: Any, autoencoder: Any, schedule: Schedule, pictures: Sequence[np.ndarray]) -> Report:
    """The Report of a U-Net and an autoencoder. pictures: H x W x 3 uint8, of the model's size.

    The U-Net gets the empty map, which needs no label maps, and the same noise every time.
    """
    with jt.no_grad():
        z = np.concatenate([autoencoder.encode(jt.array(to_network(p)[None])).numpy() for p in pictures])
        empty = unet.modulate_empty(*z.shape[2:])
    eps = np.random.default_rng(0).standard_normal(z.shape).astype(np.float32)

    def error_and_slope(latents):
        found = [_find(unet, empty, schedule.add_noise(latents, np.full(len(z), t), eps), t)
                 for t in TIMESTEPS]
        return (np.mean([np.mean((x - eps) ** 2) for x in found]),
                np.mean([np.sum(x * eps) / max(np.sum(x * x), 1e-12) for x in found]))

    error, slope = error_and_slope(z)
    others = np.mean([error_and_slope(change(z))[0] for change in changes()])
    made = _from_noise(unet, empty, schedule, eps)
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    deviation = max(float(std.mean()), 1e-6)
    return Report(float(error), float(error / max(others, 1e-12)), float(slope),
                  float(made.std((0, 2, 3)).mean()) / deviation, mean.tolist(), std.tolist())


def _from_noise(unet, empty, schedule, noise):
    """Latents from noise, N x 3 x h x w, in STEPS steps."""
    def model(z, t):
        return _find(unet, empty, z, t), None

    chain, z = schedule.respace(f"ddim{STEPS}"), noise
    for step in SAMPLERS["ddim"](model, chain, z, len(chain)):
        z = step.z
    return z


def _find(unet, empty, noisy, t):
    """The noise that the U-Net predicts in latents of timestep t. At full size one picture at a time, to save
    memory."""
    size, found = max(1, POSITIONS // (noisy.shape[2] * noisy.shape[3])), []
    for n in range(0, len(noisy), size):
        part = np.ascontiguousarray(noisy[n:n + size], np.float32)
        with jt.no_grad():
            out = unet.decode(*unet.encode(jt.array(part), [t] * len(part)), empty)
        found.append(out[:, :3].numpy())
    return np.concatenate(found)
