"""Options for reading a user's masks and photographs, the same for every tool."""
from __future__ import annotations

import argparse

from ldm import images
from ldm.images import FITS, Reading


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --ignore, --fit and --mask-colors."""
    parser.add_argument("--ignore", action="append", type=int, default=[], metavar="VALUE",
                        help="a label value that is not a class, such as 255; it is read as 'other'. Repeat "
                             "the option for more values")
    parser.add_argument("--fit", default="refuse", choices=FITS,
                        help="for masks with another aspect ratio than the model's pictures: refuse them, "
                             "or crop them and their photographs to the centre")
    parser.add_argument("--mask-colors", metavar="FILE|ours|voc",
                        help="masks are in these colours, exactly: a table of colours and classes (YAML, "
                             "JSON or CSV, see data/README.md), the class colours, or the VOC colours in "
                             "which SPADE draws label maps")


def of(args: argparse.Namespace) -> Reading:
    """The Reading that these options ask for. Raises UserError for values that none can have."""
    return images.reading(args.ignore, args.fit, args.mask_colors, ("--ignore", "--fit", "--mask-colors"))
