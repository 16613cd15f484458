#!/usr/bin/env python
"""Train GauGAN, CLADE, SCGAN or SEAN, as --config says. The same command again continues it.

At the end OUTPUT is a model folder for tools/infer.py: config.yaml and the weights.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Optional, Sequence

import cli
import numpy as np
import reading
import train_common

from ldm import config as configs
from ldm import weights
from ldm.datasets import landscape
from ldm.platform.variables import refuse_srun
from ldm.training import batch_order


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = train_common.parser_of(__doc__.split("\n\n")[0] + " Configs are in configs/baselines.",
                                    "gan_training", None)
    parser.add_argument("--vgg", metavar="FILE", help="weights of VGG19 with torchvision's names, for the "
                        "perceptual loss (gan_training.perceptual: vgg)")
    parser.add_argument("--segformer", metavar="FILE", help="weights of the segmenter for validation and "
                        "gan_training.perceptual: segmenter (default: those in models/)")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> None:
    refuse_srun()
    args = parse(argv)
    config = configs.load(args.config, args.overrides, ("gan",))
    options, size, how = config["gan_training"], config["image_size"], reading.of(args)
    pairs = landscape.training_pairs(args.data, size, train_common.checking, how)
    batch_order.split(len(pairs), options["held_out"], options["seed"])     # fails early
    train_common.check_run(args.output, pairs)

    from ldm.backend import jt
    from ldm.baselines import models
    from ldm.baselines.synthesis import Synthesis
    from ldm.evaluation import weight_files
    from ldm.training import parallel
    from ldm.training.tasks.comparison import open_comparison
    from ldm.training.tasks.gan import GANTask, GANValidation
    from ldm.training.tasks.segmenter import Maps
    from ldm.training.trainer import Trainer
    segmenter = weight_files.find("segformer", args.segformer, train_common.ROOT / "models", size)
    comparison = open_comparison(options, args.vgg, segmenter)
    measure = train_common.metrics(size, segmenter) if options["held_out"] else None
    jt.set_global_seed(options["seed"])                    # for the weights of the new networks
    network, discriminator = Synthesis.of(config), models.discriminator(config)
    if args.dry_run:
        return show_needs(network, config, args.output)
    pictures = landscape.Pictures([picture for picture, _ in pairs], size, how)
    maps = Maps([labels for _, labels in pairs], size, how)
    task = GANTask(network, discriminator, pictures, maps, config, comparison)
    trainer = Trainer(task, args.output, config, options, GANValidation(task, measure) if measure else None)
    train_common.train(trainer, args.from_step)
    if trainer.step == options["steps"] and parallel.rank() == 0:
        write_model(trainer, config, Path(args.output))


def show_needs(network: Any, config: dict[str, Any], output: Path) -> None:
    """Print what the training needs; the pass of a picture is the generator's with its encoder."""
    from ldm.backend import jt
    from ldm.baselines.noise import ItemNoise
    width, height = config["image_size"]

    def call():
        one_hot, picture = jt.zeros((1, 29, height, width)), jt.zeros((1, 3, height, width))
        distance = jt.zeros((1, 2, height, width)) if config["gan"]["clade"]["distance"] else None
        return network(one_hot, network.style(picture, one_hot), ItemNoise([(0,)]), distance)
    train_common.show_estimate(network, [((height, width), config["gan_training"])], output, call)
    print("not counted: the discriminator, its own pass of the generator, and the perceptual loss")


def write_model(trainer: Any, config: dict[str, Any], folder: Path) -> None:
    """Write each network's weights, as a model folder has them."""
    with trainer.ema.applied() as network:
        for name, part in network.parts().items():
            state = {key: np.array(p.numpy()) for key, p in part.state_dict().items()}
            weights.save(folder / f"{name}.safetensors", state, config)
            print(f"{folder / name}.safetensors: the weights of step {trainer.step}")


if __name__ == "__main__":
    cli.run(main)
