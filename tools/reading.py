"""Options for reading a user's masks and photographs, the same for every tool."""
from __future__ import annotations

import argparse

from ldm.errors import UserError
from ldm.images import FITS, Reading


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --ignore and --fit."""
    parser.add_argument("--ignore", action="append", type=int, default=[], metavar="VALUE",
                        help="a label value that is not a class, such as 255; it is read as 'other'. Repeat "
                             "the option for more values")
    parser.add_argument("--fit", default="refuse", choices=FITS,
                        help="for masks with another aspect ratio than the model's pictures: refuse them, "
                             "or crop them and their photographs to the centre")


def of(args: argparse.Namespace) -> Reading:
    """The Reading that these options ask for. Raises UserError for an --ignore out of range."""
    for value in args.ignore:
        if not 0 <= value < 2 ** 16:
            raise UserError("--ignore", f"is {value}", "choose a value from 0 to 65535")
    return Reading(tuple(sorted(set(args.ignore))), args.fit)
