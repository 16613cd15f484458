"""The options that say how a user's masks and photographs are taken, the same for every tool."""
from __future__ import annotations

import argparse

from ldm.errors import UserError
from ldm.images import FITS, Reading


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ignore", action="append", type=int, default=[], metavar="VALUE",
                        help="value of label maps that is no class and becomes 'other', such as 255; give it "
                             "again for more values")
    parser.add_argument("--fit", default="refuse", choices=FITS,
                        help="for masks of other proportions than the model's pictures: refuse them, or crop "
                             "them and their photographs to the middle")


def of(args: argparse.Namespace) -> Reading:
    for value in args.ignore:
        if not 0 <= value < 2 ** 16:
            raise UserError("--ignore", f"is {value}", "values of label maps are 0..65535")
    return Reading(tuple(sorted(set(args.ignore))), args.fit)
