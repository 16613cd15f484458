"""The time and memory of a training step: real steps of a new network on random latents, without data."""
from __future__ import annotations

import time
from typing import Any, Callable, Optional, Sequence

import numpy as np

from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.networks import UNet, checkpointing, precision
from ldm.training import memory
from ldm.training.tasks.diffusion import DiffusionTask
from ldm.training.trainer import Trainer


class RandomLatents:
    """Stands in for datasets.latents.Latents: `count` pairs of noise and labels. size: (width, height) of a
    latent."""

    def __init__(self, count: int, size: Sequence[int], num_classes: int) -> None:
        self.count, self.size, self.num_classes = count, size, num_classes

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int], flips: Any) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        shape = (len(indices), *self.size[::-1])
        z = rng.standard_normal((len(indices), 3, *self.size[::-1]), np.float32)
        return z, rng.integers(self.num_classes, size=shape).astype(np.uint8)


def new_trainer(config: dict, in_blocks: bool = True) -> Trainer:
    """A Trainer of a new U-Net on random latents. Without `in_blocks` the network is computed by Jittor's own
    operators."""
    options = {**config["training"], "held_out": 0.0}
    factor = 2 ** (len(config["autoencoder"]["channel_mult"]) - 1)
    size = [side // factor for side in config["image_size"]]
    network = UNet(**config["unet"])
    if in_blocks:
        precision.apply(network, options["precision"])
    checkpointing.apply(network, options["checkpointing"])
    latents = RandomLatents(options["batch_size"], size, network.num_classes)
    task = DiffusionTask(network, len(latents), Schedule.named(config["schedule"]), None, options)
    task.use(latents, options["batch_size"])
    trainer = Trainer(task, ".", config, options)
    jt.sync_all()                               # averages and moments exist from the first step on
    return trainer


def trial_run(config: dict, steps: int, progress: Optional[Callable[[int], Any]] = None) -> dict[str, Any]:
    """Take `steps` optimiser steps of the U-Net with `config`, averages included. Nothing is saved.

    progress(step) is called after each step. Returns "parameters" and "batch_size"; "peak_gb", the largest
    memory of the process, so far; and "seconds", the median per step without the first one, which compiles.
    """
    trainer = new_trainer(config)
    times = []
    for step in range(steps):
        start = time.time()
        trainer.train_step()
        jt.sync_all(True)                       # a GPU may still be computing
        times.append(time.time() - start)
        if progress:
            progress(step + 1)
    return {"parameters": sum(p.numel() for p in trainer.parameters.values()),
            "batch_size": trainer.options["batch_size"], "peak_gb": memory.peak() / 1e9,
            "seconds": float(np.median(times[1:] or times))}
