"""Convert weights (Jittor .pkl, torch .ckpt/.pt/.pth, .safetensors) to this project's own format."""
from __future__ import annotations

from typing import Optional, Sequence

import cli

from ldm import config as configs
from ldm import files
from ldm.weights import convert, summary


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = cli.Parser(description=__doc__, epilog=(
        "A checkpoint that holds more than tensors (argparse's Namespace, a pathlib.Path, a pickled module) "
        "is not read, since its names could run code. If you trust the file, save the tensors alone with the "
        "program that wrote it: torch.save(torch.load(F, weights_only=False)['state_dict'], G)."))
    parser.add_argument("source", help="file of weights; no code in it is run")
    parser.add_argument("--output", required=True, metavar="F", help="the .safetensors file to write")
    parser.add_argument("--config", metavar="FILE", help="config of the network; needs --part")
    parser.add_argument("--part", choices=["unet", "autoencoder", "generator", "encoder"],
                        help="which network of --config; generator and encoder are of a GAN")
    parser.add_argument("--container", metavar="KEY",
                        help="key of the weights, such as ema, if the file holds several sets")
    parser.add_argument("--dtype", choices=["float16"], help="write floats with 16 bits instead of 32")
    arguments = parser.parse_args(argv)
    if (arguments.config is None) != (arguments.part is None):
        parser.error("--config and --part need each other: give both or none")
    config = shapes = None
    if arguments.config:
        of_gan = arguments.part in ("generator", "encoder")
        if of_gan:
            from ldm.baselines.models import expected_shapes  # needs Jittor
        else:
            from ldm.networks.shapes import expected_shapes
        files.refuse_sources(arguments.output, [arguments.config])
        config = configs.load(arguments.config, networks=("gan" if of_gan else arguments.part,))
        shapes = expected_shapes(config, arguments.part)
    state, left_out = convert(arguments.source, arguments.output, shapes, config, arguments.dtype,
                              arguments.container)
    checked = f"match the {arguments.part} of {arguments.config}" if shapes else "not compared with a network"
    print(f"{arguments.output}: {summary(state)}, {checked}")
    if left_out:
        print(f"left out {len(left_out)} tensors of training or of other networks, such as {left_out[0]}")


if __name__ == "__main__":
    cli.run(main)
