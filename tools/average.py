#!/usr/bin/env python
"""Average checkpoints of one network into one file of weights (the paper's ensemble, Eq. 7)."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional, Sequence

import cli
import train_common

from ldm import config as configs
from ldm import files
from ldm.errors import UserError
from ldm.training.run import checkpoints
from ldm.training.run.ensemble import average_files
from ldm.weights import summary


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="F",
                        help="files of weights that convert.py can read; with --best, the folder of a run")
    parser.add_argument("--weights", metavar="W1,W2,...", help="a number for each checkpoint, relative to "
                                                               "their sum (default: all equal)")
    parser.add_argument("--container", metavar="KEY",
                        help="which set of weights to take from files with several sets, such as ema")
    parser.add_argument("--config", metavar="FILE",
                        help="config of the network, to check names and shapes against")
    parser.add_argument("--part", choices=["unet", "autoencoder"], default="unet",
                        help="which network of --config")
    parser.add_argument("--best", type=int, metavar="N", help="average the N best checkpoints of a run")
    parser.add_argument("--by", default="loss", metavar="METRIC",
                        help="number in the run's validation.jsonl to rank checkpoints by")
    parser.add_argument("--latents", metavar="DIR",
                        help="latent cache of the run, to validate the average with (default: RUN/latents)")
    parser.add_argument("--autoencoder", metavar="F",
                        help="autoencoder weights; needed to measure M, FD-seg and S as well as losses")
    parser.add_argument("--segformer", metavar="F",
                        help="weights of the segmenter to measure with (default: those in models/)")
    parser.add_argument("--dtype", choices=["float16"], help="write numbers as float16, in half the space")
    parser.add_argument("--output", required=True, metavar="F", help="the .safetensors file to write")
    arguments = parser.parse_args(argv)
    try:
        arguments.weights = arguments.weights and [float(w) for w in arguments.weights.split(",")]
    except ValueError:
        parser.error(f"--weights: is '{arguments.weights}'; give numbers separated by commas")
    if arguments.best is not None and (arguments.best < 1 or len(arguments.checkpoints) > 1):
        parser.error(f"--best: is {arguments.best} with {len(arguments.checkpoints)} folders; "
                     "give a number above 0 and the folder of one run")
    return arguments


def measured(arguments: argparse.Namespace, run: Path) -> float:
    """The number `--by` of the averaged weights. UserError if it cannot be measured."""
    from ldm import weights
    from ldm.networks import Autoencoder, UNet
    from ldm.training.tasks import validation
    from ldm.weights.agreement import with_config
    config = configs.load(run / "config.yaml", networks=("unet", "autoencoder"))
    autoencoder = metrics = None
    if arguments.autoencoder:
        autoencoder = Autoencoder(**config["autoencoder"])
        metrics = train_common.metrics(config["image_size"], arguments.segformer)
        weights.load(arguments.autoencoder, autoencoder,
                     agrees=with_config(arguments.autoencoder, config, "autoencoder"))
    held_out = validation.of_run(config, arguments.latents or run / "latents", autoencoder, metrics)
    network = UNet(**config["unet"])
    weights.load(arguments.output, network)
    numbers = held_out.measure(network, thorough=not arguments.by.startswith("loss"))
    if arguments.by not in numbers:
        raise UserError("--by", f"'{arguments.by}' was not measured",
                        "give --autoencoder and, for M and FD-seg, --segformer")
    return numbers[arguments.by]


def main(argv: Optional[Sequence[str]] = None) -> None:
    arguments = parse(argv)
    paths, ranked = arguments.checkpoints, []
    if arguments.best:
        run = Path(paths[0])
        ranked = checkpoints.best(run, arguments.by, arguments.best)
        paths = [run / line["file"] for line in ranked]
    files.refuse_sources(arguments.output, filter(None, (arguments.config, arguments.autoencoder,
                                                         arguments.segformer)))
    config = shapes = None
    if arguments.config:
        from ldm.networks.shapes import expected_shapes  # needs Jittor
        config = configs.load(arguments.config, networks=(arguments.part,))
        shapes = expected_shapes(config, arguments.part)
    state = average_files(paths, arguments.output, arguments.weights, arguments.dtype, arguments.container,
                          config, shapes, arguments.part)
    for line in ranked:
        print(f"{run / line['file']}: {arguments.by} {line[arguments.by]:.6g}")
    if ranked:
        try:
            print(f"{arguments.output}: {arguments.by} {measured(arguments, run):.6g}")
        except UserError as e:
            print(f"{arguments.output}: not measured ({e})")
    print(f"{arguments.output}: {summary(state)}, the mean of {len(paths)} checkpoints")


if __name__ == "__main__":
    cli.run(main)
