#!/usr/bin/env python
"""Encode, quantise and decode pictures with a model's autoencoder, and measure what is lost."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional, Sequence

import cli
import numpy as np
from tqdm import tqdm

from ldm import config as configs
from ldm import files, images

ROOT = Path(__file__).resolve().parents[1]


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--model", default=ROOT / "models/demo", type=Path,
                        help="folder with config.yaml and autoencoder.safetensors")
    parser.add_argument("--autoencoder", type=Path, help="the autoencoder's weights, if they are elsewhere")
    parser.add_argument("--config", type=Path, help="their config, if it is elsewhere")
    parser.add_argument("--images", required=True, type=Path, help="folder of pictures")
    parser.add_argument("--output", type=Path, help="folder to write the reconstructions to, as PNG files")
    args = parser.parse_args(argv)
    args.autoencoder = args.autoencoder or args.model / "autoencoder.safetensors"
    args.config = args.config or args.model / "config.yaml"
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    config = configs.load(args.config, networks=("autoencoder",))
    paths = images.list_images(args.images)
    if args.output:
        files.check_writable(args.output)

    from ldm import weights
    from ldm.evaluation import pixels
    from ldm.networks import Autoencoder, precision
    from ldm.training.tasks.segmenter import reconstruct
    from ldm.weights.agreement import refuse_other_config
    autoencoder = Autoencoder(**config["autoencoder"])
    refuse_other_config(args.autoencoder, weights.load(args.autoencoder, autoencoder), config, "autoencoder")
    precision.apply(autoencoder, "fp32")
    numbers = []
    for path in tqdm(paths, unit="picture", disable=None):
        truth = images.read_image(path, config["image_size"], "crop")
        made = reconstruct(truth, autoencoder)
        numbers.append((pixels.psnr(made, truth), pixels.sharpness(made, truth)))
        if args.output:
            images.write_image(args.output / f"{path.stem}.png", made)
        print(f"{path.name}: {numbers[-1][0]:.2f} dB, sharpness {numbers[-1][1]:.3f}")
    ratio, sharp = np.mean(numbers, axis=0)
    print(f"mean of {len(paths)}: {ratio:.2f} dB, sharpness {sharp:.3f}")


if __name__ == "__main__":
    cli.run(main)
