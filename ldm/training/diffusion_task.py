"""Algorithm 1: training the U-Net on cached latents."""
import numpy as np

from ldm import images, labels
from ldm.backend import jt
from ldm.datasets.latents import from_network
from ldm.diffusion.losses import training_loss
from ldm.diffusion.samplers import ddim
from ldm.training.order import batch_indices, generator

SAMPLES, SAMPLE_STEPS, SAMPLE_STRENGTH = 6, 20, 0.6        # of the sample grid


class DiffusionTask:
    """`latents` a datasets.latents.Latents; `autoencoder` only decodes the sample grid."""

    sections = ("image_size", "schedule", "autoencoder", "unet", "training")

    def __init__(self, network, latents, schedule, autoencoder, options):
        self.network, self.latents, self.schedule = network, latents, schedule
        self.autoencoder, self.options = autoencoder, options

    def batch(self, step):
        """z_0, uniform t, eps, z_t by Eq. 2; the one-hot map, dropped whole with probability `label_drop`."""
        o = self.options
        rng = generator(step, o["seed"], 0)
        indices = batch_indices(step, o["batch_size"], len(self.latents), o["seed"])
        z0, maps = self.latents.read(indices, rng.integers(2, size=len(indices)))
        t = rng.integers(len(self.schedule), size=len(indices))
        eps = rng.standard_normal(z0.shape, np.float32)
        one_hot = labels.one_hot(maps) * (rng.random(len(indices)) >= o["label_drop"]).reshape(-1, 1, 1, 1)
        return {"z0": z0, "z_t": self.schedule.add_noise(z0, t, eps), "eps": eps, "t": t,
                "one_hot": one_hot.astype(np.float32)}

    def loss(self, batch):
        out = self.network(jt.array(batch["z_t"]), batch["t"], jt.array(batch["one_hot"]))
        terms = training_loss(out, batch["z0"], batch["z_t"], batch["eps"], batch["t"], self.schedule,
                              self.options["loss"])
        terms = {name: values.mean() for name, values in terms.items()}
        return terms.pop("loss"), terms

    def after_step(self, step):
        pass

    def sample(self):
        """For the first few maps: the map, the next image as style reference, and what comes out of it."""
        count = min(SAMPLES, len(self.latents))
        z0, maps = self.latents.read(range(count), [0] * count)
        references = np.roll(z0, -1, axis=0)
        schedule = self.schedule.window(SAMPLE_STRENGTH, SAMPLE_STEPS)
        z = schedule.add_noise(references, SAMPLE_STEPS - 1,
                               generator(0, self.options["seed"], 1).standard_normal(z0.shape, np.float32))
        modulations = self.network.modulate(jt.array(labels.one_hot(maps)))

        def model(z, t):
            return self.network.decode(*self.network.encode(z, [t] * count), modulations)[:, :3], None

        results = ddim(model, schedule, jt.array(z), SAMPLE_STEPS, callback=lambda i, z: z.sync())
        shown = [self.autoencoder.decode(x).numpy() for x in (jt.array(references), results)]
        height, width = shown[0].shape[2:]
        rows = [[images.resize(labels.colorize(m), (width, height), smooth=False) for m in maps]]
        return images.grid(rows + [[from_network(x) for x in row] for row in shown])

    def arrays(self):
        return {}

    def restore(self, arrays):
        pass
