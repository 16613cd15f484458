"""Validation: what a network makes of pictures that it was never trained on, by the same noise every time."""
import numpy as np

from ldm import labels
from ldm.backend import jt
from ldm.datasets.latents import Latents
from ldm.diffusion import Schedule
from ldm.diffusion.losses import training_loss
from ldm.training.batch_order import VALIDATION, generator, split
from ldm.training.tasks.previews import Sampler

BATCH = 4                   # latents at once: no gradients are kept, so that little memory is needed


class Validation:
    """Measures a network on the items `indices` of `latents`, held out.

    metrics(pictures, maps, references) -> {name: number, or None where it cannot be had}, arrays as
    `Sampler` returns them; without it, or without the autoencoder that decodes them, losses are all there is.
    """

    def __init__(self, latents, indices, schedule, options, autoencoder=None, metrics=None):
        self.latents, self.indices, self.schedule, self.options = latents, indices, schedule, options
        self.sampler = autoencoder and Sampler(latents, indices, schedule, autoencoder, options["seed"])
        self.metrics = metrics

    def measure(self, network, thorough):
        """{name: number}: losses and, of `thorough` measurements, the metrics of sampled pictures."""
        measured = self.losses(network)
        if thorough and self.metrics and self.sampler:
            numbers = self.metrics(*self.sampler(network))
            measured.update((name, float(v)) for name, v in numbers.items() if v is not None)
        return measured

    def losses(self, network):
        """{"loss", "loss_q1" .. "loss_q4"}: the training loss, over all timesteps and by their quartile.

        Every item is seen once in each quartile, with its own timestep and noise, and with its map.
        """
        quartiles = {}
        for q in range(4):
            values = [self._values(network, self.indices[start:start + BATCH], q)
                      for start in range(0, len(self.indices), BATCH)]
            quartiles[f"loss_q{q + 1}"] = float(np.concatenate(values).mean(dtype=np.float64))
        return {"loss": sum(quartiles.values()) / 4, **quartiles}

    def _values(self, network, items, quartile):
        """The loss of each of `items`, at timesteps of this quartile (0..3)."""
        z0, maps = self.latents.read(items, np.zeros(len(items), int))
        rngs = [generator(4 * i + quartile, self.options["seed"], VALIDATION) for i in items]
        steps = len(self.schedule)
        t = np.array([rng.integers(quartile * steps // 4, (quartile + 1) * steps // 4) for rng in rngs])
        eps = np.stack([rng.standard_normal(z.shape, np.float32) for rng, z in zip(rngs, z0)])
        z_t = self.schedule.add_noise(z0, t, eps)
        with jt.no_grad():
            out = network(jt.array(z_t), t, jt.array(labels.one_hot(maps)))
            return training_loss(out, z0, z_t, eps, t, self.schedule, self.options["loss"])["loss"].numpy()


def of_run(config, cache, autoencoder=None, metrics=None):
    """The `Validation` that a run with this config had, of the latents in the folder `cache`."""
    latents, options = Latents(cache), config["training"]
    _, held_out = split(len(latents), options["held_out"], options["seed"])
    return Validation(latents, held_out, Schedule.named(config["schedule"]), options, autoencoder, metrics)
