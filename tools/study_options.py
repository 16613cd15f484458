"""The options that the tools which compare rows of pictures share."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Optional, Sequence

import reading

from ldm.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def parsed(parser: argparse.ArgumentParser, argv: Optional[Sequence[str]], tool: str) -> argparse.Namespace:
    """Add the shared options to `parser` and parse; numbers and the checkpoint are checked."""
    add = parser.add_argument
    add("--seed", default=0, type=int, help="seed of the noise, the same for every row")
    add("--batch-size", default=1, type=int, help="images per batch")
    add("--models", metavar="DIR", default=Path(os.path.relpath(ROOT / "models")), type=Path,
        help="folder with the weights of the metrics")
    reading.add_options(parser)
    args = parser.parse_args(argv)
    args.command = ["python", tool, *(sys.argv[1:] if argv is None else argv)]
    for option, least in (("count", 2), ("seed", 0), ("batch_size", 1)):
        if getattr(args, option) < least:
            parser.error(f"--{option.replace('_', '-')}: is {getattr(args, option)}; give {least} or more")
    args.checkpoint = args.checkpoint or args.model / "checkpoint.safetensors"
    if not args.checkpoint.is_file():
        raise UserError(args.checkpoint, "is not a file", "give --checkpoint, the weights of one checkpoint")
    return args
