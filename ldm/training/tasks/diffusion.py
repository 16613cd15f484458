"""Algorithm 1: training the U-Net on cached latents."""
from __future__ import annotations

from typing import Any

import numpy as np

from ldm import labels
from ldm.backend import Var, jt
from ldm.diffusion import Schedule
from ldm.diffusion.losses import training_loss
from ldm.networks import dropout
from ldm.training.batch_order import batch_indices, generator, split
from ldm.training.tasks.previews import Previews

SAMPLES = 6                 # pictures in the sample grid


class DiffusionTask:
    """Trains a UNet. count: the number of pictures; its part `held_out` is not trained on. autoencoder:
    decodes the sample grid. options: the config's `training`. `use` gives it the latents."""

    sections = ("image_size", "schedule", "autoencoder", "unet", "training")

    def __init__(self, network: Any, count: int, schedule: Schedule, autoencoder: Any, options: dict) -> None:
        self.network, self.schedule, self.autoencoder = network, schedule, autoencoder
        self.options = options
        self.items, self.held_out = split(count, options["held_out"], options["seed"])

    def use(self, latents: Any, batch_size: int, start: int = 0, seen: int = 0) -> None:
        """Train on these `latents`, a datasets.latents.Latents, from step `start` on, with batches of
        `batch_size`. seen: the number of pictures in the batches of all steps before `start`."""
        self.latents, self.batch_size, self.start, self.seen = latents, batch_size, start, seen
        shown = self.held_out if len(self.held_out) else self.items
        self.previews = Previews(latents, shown[:SAMPLES], self.schedule, self.autoencoder,
                                 self.options["seed"])

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """z_0; uniform t; eps; z_t by Eq. 2; the one-hot map, all zeros with probability `label_drop`; a key
        for the dropout of each item."""
        options, seed = self.options, self.options["seed"]
        rng = generator(step, seed, 0)
        indices = self.items[batch_indices(step - self.start, self.batch_size, len(self.items), seed,
                                           self.seen)]
        z0, maps = self.latents.read(indices, rng.integers(2, size=len(indices)))
        t = rng.integers(len(self.schedule), size=len(indices))
        eps = rng.standard_normal(z0.shape, np.float32)
        with_map = rng.random(len(indices)) >= options["label_drop"]
        one_hot = labels.one_hot(maps) * with_map.reshape(-1, 1, 1, 1)
        return {"z0": z0, "z_t": self.schedule.add_noise(z0, t, eps), "eps": eps, "t": t,
                "one_hot": one_hot.astype(np.float32),
                "dropout": generator(step, seed, 2).integers(dropout.WORD, size=len(indices))}

    def loss(self, batch: dict[str, np.ndarray]) -> tuple[Var, dict[str, Var]]:
        """The loss of kind `loss` (see diffusion.losses), and its parts."""
        with dropout.keyed(self.network, batch["dropout"]):
            out = self.network(jt.array(batch["z_t"]), batch["t"], jt.array(batch["one_hot"]))
        terms = training_loss(out, batch["z0"], batch["z_t"], batch["eps"], batch["t"], self.schedule,
                              self.options["loss"], self.options["weighting"])
        terms = {name: values.mean() for name, values in terms.items()}
        return terms.pop("loss"), terms

    def after_step(self, step: int) -> None:
        """Nothing."""

    def sample(self) -> np.ndarray:
        """The first few maps (held-out ones, if there are any), the next image as the style reference of
        each, and the generated picture."""
        return self.previews.grid(self.network)

    def arrays(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Nothing."""
