#!/usr/bin/env python
"""A sheet at full size: every mask in every style, or pairs of both, and what a model makes of them."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional, Sequence

import cli
import numpy as np
from tqdm import tqdm

from ldm import files, images, labels
from ldm.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = (".png", ".jpg", ".jpeg")


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--model", default=ROOT / "models/demo", type=Path, help="folder of the model")
    parser.add_argument("--rounds", type=Path, help="as for infer.py")
    parser.add_argument("--masks", required=True, nargs="+", type=Path, help="label maps")
    parser.add_argument("--references", required=True, nargs="+", type=Path, help="photographs")
    parser.add_argument("--pairs", action="store_true", help="a row of mask, reference, result for each mask "
                        "with the reference at its place, instead of a table of all masks and references")
    parser.add_argument("--seed", default=0, type=int, help="of the noise, with each mask's name")
    parser.add_argument("--output", required=True, type=Path, help="the sheet, .png or .jpg")
    args = parser.parse_args(argv)
    if args.output.suffix.lower() not in SUFFIXES:
        raise UserError(args.output, "has another suffix", f"choose {' or '.join(SUFFIXES)}")
    if args.pairs and len(args.masks) != len(args.references):
        raise UserError("--pairs", f"has {len(args.masks)} masks and {len(args.references)} references",
                        "give as many of one as of the other")
    files.refuse_sources(args.output, [*args.masks, *args.references])
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    files.check_writable(args.output.parent)
    from ldm import Pipeline
    pipe = Pipeline.load(args.model, args.rounds)
    maps = [labels.colorize(images.read_labels(path, pipe.size)) for path in args.masks]
    styles = [images.read_image(path, pipe.size) for path in args.references]
    columns = [[k] for k in range(len(styles))] if args.pairs else [range(len(styles))] * len(maps)
    with tqdm(total=sum(map(len, columns)), unit="picture", disable=None) as bar:
        rows = []
        for path, shown, ones in zip(args.masks, maps, columns):
            made = []
            for k in ones:
                made.append(np.asarray(pipe(path, args.references[k], seed=args.seed)))
                bar.update()
            rows.append([shown, *(styles[k] for k in ones if args.pairs), *made])
    if not args.pairs:
        rows = [[np.full_like(styles[0], 255), *styles], *rows]
    images.write_image(args.output, images.grid(rows))
    print(f"{args.output}: {len(maps)} masks, {len(styles)} styles")


if __name__ == "__main__":
    cli.run(main)
