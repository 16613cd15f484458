#!/usr/bin/env python
"""Encode a folder of landscapes into a latent cache for many runs; rerun the command to resume."""
from __future__ import annotations

import argparse
from typing import Optional, Sequence

import cli
import reading
import train_common

from ldm import config as configs
from ldm.datasets import landscape, latents
from ldm.errors import UserError


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--config", default=train_common.DEMO, help="image size and autoencoder")
    parser.add_argument("--data", required=True,
                        help="folder in the contest's layout (train_resized/imgs and /labels)")
    parser.add_argument("--autoencoder", required=True, help="the autoencoder's weights")
    parser.add_argument("--output", required=True, help="folder of the cache, for tools/train.py --latents")
    parser.add_argument("--batch-size", type=int, default=4, help="pictures encoded at once")
    parser.add_argument("--shard-size", type=int, default=256,
                        help="pictures per file; an interruption loses at most one file")
    reading.add_options(parser)
    parser.add_argument("overrides", nargs="*", help="key=value, to override the config")
    args = parser.parse_args(argv)
    for option in ("batch_size", "shard_size"):
        if getattr(args, option) < 1:
            raise UserError(f"--{option.replace('_', '-')}", f"is {getattr(args, option)}",
                            "choose 1 or more")
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    config = configs.load(args.config, args.overrides, ("autoencoder",))
    taken = reading.of(args)
    pairs = landscape.training_pairs(args.data, config["image_size"], train_common.checking, taken)
    train_common.check_output(args.output, pairs)

    from ldm import weights
    from ldm.networks import Autoencoder, precision
    from ldm.weights.agreement import with_config
    autoencoder = Autoencoder(**config["autoencoder"])
    weights.load(args.autoencoder, autoencoder, agrees=with_config(args.autoencoder, config, "autoencoder"))
    precision.apply(autoencoder, "fp32")
    train_common.encode(pairs, autoencoder, config["image_size"], args.output, shard_size=args.shard_size,
                        batch=args.batch_size, reading=taken)
    cache = latents.Latents(args.output)
    print(f"{args.output}: {len(cache)} pictures, straight and flipped, in {len(cache.shards)} shards, "
          "all checked by their hashes")


if __name__ == "__main__":
    cli.run(main)
