#!/usr/bin/env python
"""Plot a run's losses, validation losses and learning rate, also during training. Needs matplotlib."""
from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence

import cli

from ldm.training.run import plots


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("run", help="the folder that training writes to")
    parser.add_argument("--output", metavar="F",
                        help="a .png, .pdf or .svg file; without it RUN/curves.png")
    args = parser.parse_args(argv)
    path = Path(args.output or Path(args.run) / "curves.png")
    plots.draw(args.run, path)
    print(path)


if __name__ == "__main__":
    cli.run(main)
