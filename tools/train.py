#!/usr/bin/env python
"""Train the diffusion U-Net (Algorithm 1) on a folder of landscapes. The same command again continues it."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional, Sequence

import cli
import reading
import train_common

from ldm import config as configs
from ldm.datasets import landscape, latents
from ldm.platform import runtime
from ldm.platform.variables import refuse_srun
from ldm.training import batch_order
from ldm.training.stages import stages


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = train_common.parser_of(__doc__, "training", train_common.DEMO)
    parser.add_argument("--autoencoder", required=True, help="weights of the autoencoder")
    parser.add_argument("--latents", help="latent cache made by tools/encode_latents.py (default: "
                        "OUTPUT/latents, made when it is needed); those of training.sizes are beside it, "
                        "with -WIDTHxHEIGHT after its name")
    parser.add_argument("--segformer",
                        help="weights of the segmenter for validation (default: those in models/)")
    train_common.add_init(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> None:
    refuse_srun()
    args = parse(argv)
    config = configs.load(args.config, args.overrides, ("unet", "autoencoder"))
    runtime.check_precision(config["training"]["precision"], "training.precision")
    cache = args.latents or Path(args.output) / "latents"
    size, training, parts = config["image_size"], config["training"], stages(config)
    caches = [part.cache(cache, size) for part in parts]
    how = reading.of(args)
    pairs = landscape.training_pairs(args.data, None if all(map(latents.is_whole, caches)) else size,
                                     train_common.checking, how)
    batch_order.split(len(pairs), training["held_out"], training["seed"])   # fails early
    train_common.check_run(args.output, pairs)

    from ldm import weights
    from ldm.backend import jt
    from ldm.diffusion import Schedule
    from ldm.networks import Autoencoder, UNet, checkpointing, precision
    from ldm.training import parallel
    from ldm.training.tasks.diffusion import DiffusionTask
    from ldm.training.tasks.validation import Validation
    from ldm.training.trainer import Trainer
    from ldm.weights.agreement import with_config
    schedule = Schedule.named(config["schedule"])
    autoencoder = Autoencoder(**config["autoencoder"])
    weights.load(args.autoencoder, autoencoder, agrees=with_config(args.autoencoder, config, "autoencoder"))
    measure = train_common.metrics(size, args.segformer) if training["held_out"] or args.segformer else None
    jt.set_global_seed(training["seed"])                   # for the weights of the new network
    network = UNet(**config["unet"])
    if args.init:
        train_common.begin_with(args, network, config, "unet")
    train_common.show_estimate(
        network, [([side // autoencoder.factor for side in part.size[::-1]],
                   {**training, "batch_size": part.batch_size, "steps": part.end - part.start})
                  for part in parts], args.output)
    if args.dry_run:
        for whole in filter(latents.is_whole, caches):
            latents.Latents(whole)
        return
    precision.apply(network, training["precision"])
    precision.apply(autoencoder, "fp32")
    checkpointing.apply(network, training["checkpointing"])

    def prepare(part):
        """Let the trainer use the latents of one part of the run, which are made now if they do not exist."""
        folder = part.cache(cache, size)
        if parallel.rank() == 0:
            train_common.encode(pairs, autoencoder, part.size, folder, reading=how)
        parallel.wait()
        task.use(latents.Latents(folder), part.batch_size, part.start, part.seen)
        if len(task.held_out):
            trainer.validation = Validation(task.latents, task.held_out, schedule, training, autoencoder,
                                            measure)

    task = DiffusionTask(network, len(pairs), schedule, autoencoder, training)
    trainer = Trainer(task, args.output, config, training, None, training["more_ema_rates"])
    train_common.train(trainer, args.from_step, parts, prepare)


if __name__ == "__main__":
    cli.run(main)
