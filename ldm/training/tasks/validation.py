"""Validation on pictures that are not trained on, with the same noise every time."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np

from ldm import labels
from ldm.backend import jt
from ldm.datasets.latents import Latents
from ldm.diffusion import Schedule
from ldm.diffusion.losses import training_loss
from ldm.training.batch_order import VALIDATION, generator, split
from ldm.training.tasks.previews import Previews

BATCH = 4                   # latents at once; without gradients they need little memory

Metrics = Callable[[np.ndarray, np.ndarray, np.ndarray], "dict[str, Optional[float]]"]


class Validation:
    """Measures a network on the held-out items `indices` of `latents`. options: the config's `training`.

    metrics(pictures, maps, references) -> {name: number, or None if it is not available}, with arrays as
    `Previews` returns them. Without `metrics`, or without an autoencoder, only losses are measured.
    """

    def __init__(self, latents: Any, indices: Any, schedule: Schedule, options: dict,
                 autoencoder: Optional[Any] = None, metrics: Optional[Metrics] = None) -> None:
        self.latents, self.indices, self.schedule, self.options = latents, indices, schedule, options
        self.previews = autoencoder and Previews(latents, indices, schedule, autoencoder, options["seed"])
        self.metrics = metrics

    def size(self) -> list[int]:
        """[width, height] of the latents."""
        z0, _ = self.latents.read(self.indices[:1], [0])
        return [z0.shape[3], z0.shape[2]]

    def measure(self, network: Any, thorough: bool) -> dict[str, Any]:
        """{name: number}: the losses and, if `thorough`, the metrics of generated pictures; and "latents",
        the (width, height) of the latents, as numbers of different sizes cannot be compared."""
        measured: dict[str, Any] = {"latents": self.size(), **self.losses(network)}
        if thorough and self.metrics and self.previews:
            numbers = self.metrics(*self.previews(network))
            measured.update((name, float(v)) for name, v in numbers.items() if v is not None)
        return measured

    def losses(self, network: Any) -> dict[str, float]:
        """The training loss over all timesteps, "loss", and in each quarter of them, "loss_q1" .. "loss_q4".

        Every item is used once per quarter, with its own timestep and noise, and with its map.
        """
        quarters = {}
        for q in range(4):
            values = [self._values(network, self.indices[start:start + BATCH], q)
                      for start in range(0, len(self.indices), BATCH)]
            quarters[f"loss_q{q + 1}"] = float(np.concatenate(values).mean(dtype=np.float64))
        return {"loss": sum(quarters.values()) / 4, **quarters}

    def _values(self, network, items, quarter):
        """The loss of each item, at timesteps of one quarter (0..3)."""
        z0, maps = self.latents.read(items, np.zeros(len(items), int))
        rngs = [generator(4 * i + quarter, self.options["seed"], VALIDATION) for i in items]
        steps = len(self.schedule)
        t = np.array([rng.integers(quarter * steps // 4, (quarter + 1) * steps // 4) for rng in rngs])
        eps = np.stack([rng.standard_normal(z.shape, np.float32) for rng, z in zip(rngs, z0)])
        z_t = self.schedule.add_noise(z0, t, eps)
        with jt.no_grad():
            out = network(jt.array(z_t), t, jt.array(labels.one_hot(maps)))
            return training_loss(out, z0, z_t, eps, t, self.schedule, self.options["loss"])["loss"].numpy()


def of_run(config: dict, cache: Union[str, Path], autoencoder: Optional[Any] = None,
           metrics: Optional[Metrics] = None) -> Validation:
    """The `Validation` of a run with this config, on the latents in the folder `cache`."""
    latents, options = Latents(cache), config["training"]
    _, held_out = split(len(latents), options["held_out"], options["seed"])
    return Validation(latents, held_out, Schedule.named(config["schedule"]), options, autoencoder, metrics)
