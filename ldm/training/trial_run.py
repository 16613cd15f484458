"""What a training step takes: real steps of a new network on random latents, so that no data are needed."""
import time

import numpy as np

from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.networks import UNet, checkpointing, precision
from ldm.training import memory
from ldm.training.tasks.diffusion import DiffusionTask
from ldm.training.trainer import Trainer


class RandomLatents:
    """As datasets.latents.Latents: `count` pairs of noise and labels, latent-sized (width, height)."""

    def __init__(self, count, size, num_classes):
        self.count, self.size, self.num_classes = count, size, num_classes

    def __len__(self):
        return self.count

    def read(self, indices, flips):
        rng = np.random.default_rng(0)
        shape = (len(indices), *self.size[::-1])
        z = rng.standard_normal((len(indices), 3, *self.size[::-1]), np.float32)
        return z, rng.integers(self.num_classes, size=shape).astype(np.uint8)


def new_trainer(config: dict, in_blocks: bool = True) -> Trainer:
    """A Trainer of a new network on random latents, as `config` says; without `in_blocks` the network
    computes with Jittor's own operators."""
    options = {**config["training"], "held_out": 0.0}
    factor = 2 ** (len(config["autoencoder"]["channel_mult"]) - 1)
    size = [side // factor for side in config["image_size"]]
    network = UNet(**config["unet"])
    if in_blocks:
        precision.apply(network, options["precision"])
    checkpointing.apply(network, options["checkpointing"])
    latents = RandomLatents(options["batch_size"], size, network.num_classes)
    task = DiffusionTask(network, latents, Schedule.named(config["schedule"]), None, options)
    trainer = Trainer(task, ".", config, options)
    jt.sync_all()                               # a run that goes on has averages and moments from the start
    return trainer


def trial_run(config, steps, progress=None):
    """Take so many optimiser steps as `config` says, averages included, and keep nothing of them.

    progress(step) is called after each. -> {"parameters", "batch_size", "peak_gb": largest memory of the
    process, which must be a fresh one, "seconds": of a step, without the first, which compiles}.
    """
    trainer = new_trainer(config)
    times = []
    for step in range(steps):
        start = time.time()
        trainer.train_step()
        jt.sync_all(True)                       # a GPU may still be at it
        times.append(time.time() - start)
        if progress:
            progress(step + 1)
    return {"parameters": sum(p.numel() for p in trainer.parameters.values()),
            "batch_size": trainer.options["batch_size"], "peak_gb": memory.peak() / 1e9,
            "seconds": float(np.median(times[1:] or times))}
