#!/usr/bin/env python
"""Train the VQ-GAN autoencoder on a folder of images. The same command again continues it."""
from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence

import cli
import reading
import train_common

from ldm import config as configs
from ldm import weights
from ldm.datasets import landscape
from ldm.errors import UserError
from ldm.platform.variables import refuse_srun


def main(argv: Optional[Sequence[str]] = None) -> None:
    refuse_srun()
    parser = train_common.parser_of(__doc__, "autoencoder_training", train_common.DEMO)
    parser.add_argument("--pictures",
                        help="folder of more training images, without label maps, such as those of "
                             "make_landscapes.py --kind photo")
    train_common.add_init(parser)
    args = parser.parse_args(argv)
    config = configs.load(args.config, args.overrides, ("autoencoder",))
    if config["autoencoder_training"]["decoder_only"] and not args.init:
        raise UserError("autoencoder_training.decoder_only", "needs a trained encoder",
                        "give its file by --init")
    if config["autoencoder_training"]["refit"] and not config["autoencoder"]["codebook_size"]:
        raise UserError("autoencoder_training.refit", "fits a codebook, and autoencoder.codebook_size is 0",
                        "leave refit at 0, or set codebook_size above 0")
    how = reading.of(args)
    pairs = landscape.training_pairs(args.data, config["image_size"], train_common.checking, how)
    paths = [picture for picture, _ in pairs]
    if args.pictures:
        paths += landscape.further_pictures(args.pictures, config["image_size"], train_common.checking, how)
    train_common.check_run(args.output, pairs, args.pictures)

    from ldm.backend import jt
    from ldm.networks import Autoencoder, checkpointing, precision
    from ldm.training import parallel
    from ldm.training.tasks.autoencoder import AutoencoderTask
    from ldm.training.tasks.linear_start import linear_start
    from ldm.training.tasks.perceptual import open_lpips
    from ldm.training.trainer import Trainer
    options = config["autoencoder_training"]
    jt.set_global_seed(options["seed"])                    # for the weights of the new network
    network = Autoencoder(**config["autoencoder"])
    if args.init:
        train_common.begin_with(args, network, config, "autoencoder")
    elif options["linear_start"]:
        linear_start(network, config["autoencoder"]["norm_groups"])
    precision.apply(network, "fp32")
    checkpointing.apply(network, options["checkpointing"])
    perceptual = open_lpips(options["lpips"]) if options["lpips"] else None
    if args.dry_run:
        side = jt.zeros((1, 3, options["crop"], options["crop"]))
        return train_common.show_estimate(network, [(side.shape[2:], options)], args.output,
                                          lambda: network.decode_quantized(network.encode(side)))
    pictures = landscape.Pictures(paths, config["image_size"], how)
    task = AutoencoderTask(network, pictures, options, perceptual)
    trainer = Trainer(task, args.output, config, options)
    train_common.train(trainer, args.from_step)
    if trainer.step == options["steps"] and parallel.rank() == 0:
        with trainer.ema.applied() as network:
            task.finish()
            state = {name: p.numpy() for name, p in network.state_dict().items()}
        weights.save(Path(args.output) / "autoencoder.safetensors", state, config)
        print(f"{args.output}/autoencoder.safetensors: the averaged weights, "
              "latents scaled to a standard deviation of 1")


if __name__ == "__main__":
    cli.run(main)
