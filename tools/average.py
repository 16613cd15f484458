#!/usr/bin/env python
"""Average checkpoints of one network into one file of weights (the paper's ensemble, Eq. 7)."""
from pathlib import Path

import cli
import train_common

from ldm import config as configs
from ldm import files
from ldm.errors import UserError
from ldm.training.run import checkpoints
from ldm.training.run.ensemble import average_files
from ldm.weights import summary


def parse(argv):
    parser = cli.Parser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="F",
                        help="files of weights, of any kind convert.py reads; a run's folder with --best")
    parser.add_argument("--weights", metavar="W1,W2,...", help="a number a checkpoint, relative to their sum "
                                                               "(all equal otherwise)")
    parser.add_argument("--container", metavar="KEY",
                        help="where the weights are, such as ema, if the files hold several sets")
    parser.add_argument("--config", metavar="FILE",
                        help="config of the network they are for, to compare names and shapes with")
    parser.add_argument("--part", choices=["unet", "autoencoder"], default="unet",
                        help="which network of --config")
    parser.add_argument("--best", type=int, metavar="N", help="the N best checkpoints of a run")
    parser.add_argument("--by", default="loss", metavar="METRIC",
                        help="the number in its validation.jsonl that ranks them")
    parser.add_argument("--latents", metavar="DIR",
                        help="the run's latent cache, to measure the average of the best, if not RUN/latents")
    parser.add_argument("--autoencoder", metavar="F", help="its weights, to measure more of it than losses")
    parser.add_argument("--segformer", metavar="F",
                        help="the segmenter to measure with, if not that in models/")
    parser.add_argument("--dtype", choices=["float16"], help="write floats in half the space of float32")
    parser.add_argument("--output", required=True, metavar="F", help="the .safetensors file to write")
    arguments = parser.parse_args(argv)
    try:
        arguments.weights = arguments.weights and [float(w) for w in arguments.weights.split(",")]
    except ValueError:
        parser.error(f"--weights {arguments.weights}: numbers with commas between are needed")
    if arguments.best is not None and (arguments.best < 1 or len(arguments.checkpoints) > 1):
        parser.error(f"--best {arguments.best} of {len(arguments.checkpoints)}: "
                     "a number above 0 and the folder of one run are needed")
    return arguments


def measured(arguments, run):
    """The number by which checkpoints are ranked, of their average; a UserError where it cannot be had."""
    from ldm import weights
    from ldm.networks import Autoencoder, UNet
    from ldm.training.tasks import validation
    from ldm.weights.agreement import refuse_other_config
    config = configs.load(run / "config.yaml", networks=("unet", "autoencoder"))
    autoencoder = metrics = None
    if arguments.autoencoder:
        autoencoder, metrics = Autoencoder(**config["autoencoder"]), train_common.metrics(arguments.segformer)
        found = weights.load(arguments.autoencoder, autoencoder)
        refuse_other_config(arguments.autoencoder, found, config, "autoencoder")
    held_out = validation.of_run(config, arguments.latents or run / "latents", autoencoder, metrics)
    network = UNet(**config["unet"])
    weights.load(arguments.output, network)
    numbers = held_out.measure(network, thorough=not arguments.by.startswith("loss"))
    if arguments.by not in numbers:
        raise UserError(arguments.by, "needs --autoencoder, and M and FD-seg a segmenter")
    return numbers[arguments.by]


def main(argv=None):
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
