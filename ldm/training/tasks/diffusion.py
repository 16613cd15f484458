"""Algorithm 1: training the U-Net on cached latents."""
import numpy as np

from ldm import labels
from ldm.backend import jt
from ldm.diffusion.losses import training_loss
from ldm.networks import dropout
from ldm.training.batch_order import batch_indices, generator, split
from ldm.training.tasks.previews import Sampler

SAMPLES = 6                 # of the sample grid


class DiffusionTask:
    """`latents` a datasets.latents.Latents, of which the part `held_out` is not trained on; `autoencoder`
    only decodes the sample grid."""

    sections = ("image_size", "schedule", "autoencoder", "unet", "training")

    def __init__(self, network, latents, schedule, autoencoder, options):
        self.network, self.latents, self.schedule = network, latents, schedule
        self.options = options
        self.items, self.held_out = split(len(latents), options["held_out"], options["seed"])
        shown = self.held_out if len(self.held_out) else self.items
        self.sampler = Sampler(latents, shown[:SAMPLES], schedule, autoencoder, options["seed"])

    def batch(self, step):
        """z_0, uniform t, eps, z_t by Eq. 2; the one-hot map, dropped whole with probability `label_drop`;
        the keys of the items' dropout."""
        o = self.options
        rng = generator(step, o["seed"], 0)
        indices = self.items[batch_indices(step, o["batch_size"], len(self.items), o["seed"])]
        z0, maps = self.latents.read(indices, rng.integers(2, size=len(indices)))
        t = rng.integers(len(self.schedule), size=len(indices))
        eps = rng.standard_normal(z0.shape, np.float32)
        one_hot = labels.one_hot(maps) * (rng.random(len(indices)) >= o["label_drop"]).reshape(-1, 1, 1, 1)
        return {"z0": z0, "z_t": self.schedule.add_noise(z0, t, eps), "eps": eps, "t": t,
                "one_hot": one_hot.astype(np.float32),
                "dropout": generator(step, o["seed"], 2).integers(dropout.WORD, size=len(indices))}

    def loss(self, batch):
        with dropout.keyed(self.network, batch["dropout"]):
            out = self.network(jt.array(batch["z_t"]), batch["t"], jt.array(batch["one_hot"]))
        terms = training_loss(out, batch["z0"], batch["z_t"], batch["eps"], batch["t"], self.schedule,
                              self.options["loss"])
        terms = {name: values.mean() for name, values in terms.items()}
        return terms.pop("loss"), terms

    def after_step(self, step):
        pass

    def sample(self):
        """For the first few maps, held out if there are such: the map, the next image as style reference, and
        what comes out of it."""
        return self.sampler.grid(self.network)

    def arrays(self):
        return {}

    def restore(self, arrays):
        pass
