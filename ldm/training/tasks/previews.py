"""Pictures during training: some maps of the latent cache, each in the style of the next map's image."""
from __future__ import annotations

from typing import Any

import numpy as np

from ldm import images, labels
from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.diffusion.samplers import ddim
from ldm.images import from_network
from ldm.training.batch_order import SAMPLES, generator

STEPS, STRENGTH = 20, 0.6           # of DDIM, without guidance
BATCH = 6                           # pictures at once


class Previews:
    """Generates pictures for the items `indices` of `latents`. Each item has its own noise, the same every
    time, so that only the network changes the pictures.

    latents: a datasets.latents.Latents. schedule: the one of training.
    """

    def __init__(self, latents: Any, indices: Any, schedule: Schedule, autoencoder: Any,
                 seed: int) -> None:
        self.latents, self.indices = latents, np.asarray(indices)
        self.schedule, self.autoencoder, self.seed = schedule.window(STRENGTH, STEPS), autoencoder, seed

    def __call__(self, network: Any) -> tuple[np.ndarray, ...]:
        """(pictures N x H x W x 3 uint8, maps N x H x W uint8, references N x H x W x 3 uint8)."""
        parts = [self._generate(network, range(start, min(start + BATCH, len(self.indices))))
                 for start in range(0, len(self.indices), BATCH)]
        return tuple(np.concatenate(arrays) for arrays in zip(*parts))

    def _generate(self, network, positions):
        items = self.indices[list(positions)]
        unflipped = np.zeros(len(items), int)
        _, maps = self.latents.read(items, unflipped)
        others = self.indices[[(p + 1) % len(self.indices) for p in positions]]
        references, _ = self.latents.read(others, unflipped)
        noise = np.stack([generator(i, self.seed, SAMPLES).standard_normal(z.shape, np.float32)
                          for i, z in zip(items, references)])
        with jt.no_grad():
            z = self._denoise(network, self.schedule.add_noise(references, STEPS - 1, noise), maps)
            pictures, shown = (self._decode(x) for x in (z, jt.array(references)))
        size = shown.shape[2:0:-1]
        return pictures, np.stack([images.resize(m, size, smooth=False) for m in maps]), shown

    def _denoise(self, network, z, maps):
        modulations = network.modulate(jt.array(labels.one_hot(maps)))

        def model(z, t):
            return network.decode(*network.encode(z, [t] * len(maps)), modulations)[:, :3], None
        for step in ddim(model, self.schedule, jt.array(z), STEPS):
            jt.sync([step.z])                       # the graph of one step at a time
        return step.z

    def _decode(self, z):
        return np.stack([from_network(x) for x in self.autoencoder.decode(z).numpy()])

    def grid(self, network: Any) -> np.ndarray:
        """An H x W x 3 uint8 picture: a row of maps, one of references, one of pictures."""
        pictures, maps, references = self(network)
        return images.grid([[labels.colorize(m) for m in maps], list(references), list(pictures)])
