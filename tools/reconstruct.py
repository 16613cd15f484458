#!/usr/bin/env python
"""Encode, quantise and decode pictures with a model's autoencoder, and measure what is lost."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Iterable, Optional, Sequence

import cli
import numpy as np
from tqdm import tqdm

from ldm import config as configs
from ldm import files, images
from ldm.datasets import landscape
from ldm.errors import UserError
from ldm.images import Size
from ldm.inference import job

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


def measure(args: argparse.Namespace, paths: Iterable[Path], size: Size,
            autoencoder: Any) -> tuple[list[tuple[float, float]], list[UserError]]:
    """([(PSNR, sharpness)] of the pictures, a UserError for each that cannot be read)."""
    from ldm.evaluation import pixels
    from ldm.training.tasks.segmenter import reconstruct
    numbers: list[tuple[float, float]] = []
    failures: list[UserError] = []
    for path in tqdm(paths, unit="picture", disable=None):
        try:
            truth = images.read_image(path, size, "crop")
        except UserError as e:
            failures.append(e)
            continue
        made = reconstruct(truth, autoencoder)
        numbers.append((pixels.psnr(made, truth), pixels.sharpness(made, truth)))
        if args.output:
            images.write_image(args.output / f"{path.stem}.png", made)
        print(f"{path.name}: {numbers[-1][0]:.2f} dB, sharpness {numbers[-1][1]:.3f}")
    return numbers, failures


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    config = configs.load(args.config, networks=("autoencoder",))
    found, twice = landscape.by_stem(images.list_images(args.images))
    if args.output:
        job.refuse_inputs(args.output, args.images)
        files.check_writable(args.output)

    from ldm import weights
    from ldm.networks import Autoencoder, precision
    from ldm.weights.agreement import with_config
    autoencoder = Autoencoder(**config["autoencoder"])
    weights.load(args.autoencoder, autoencoder, agrees=with_config(args.autoencoder, config, "autoencoder"))
    precision.apply(autoencoder, "fp32")
    numbers, failures = measure(args, found.values(), config["image_size"], autoencoder)
    if numbers:
        ratio, sharp = np.mean(numbers, axis=0)
        print(f"mean of {len(numbers)}: {ratio:.2f} dB, sharpness {sharp:.3f}")
    return cli.report([*twice, *failures], "{} could not be measured, the lines above say why")


if __name__ == "__main__":
    cli.run(main)
