#!/usr/bin/env python
"""Get published weights into models/: download, check, convert. Without a name: list them.

This is the only tool that downloads anything.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Iterable, Optional, Sequence

import cli
import doctor
from tqdm import tqdm

from ldm import files
from ldm.weights import obtain, published

ROOT = Path(__file__).resolve().parents[1]


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__.split("\n\n")[0], epilog=(
        "A download that was stopped continues. Variables: HTTPS_PROXY; HF_ENDPOINT, which takes the place "
        "of huggingface.co; IIDM_WEIGHTS_MIRROR, a web folder of such files, which is tried first."))
    parser.add_argument("names", nargs="*", metavar="NAME", help="weights to get; iidm: both of the entry's")
    parser.add_argument("--list", action="store_true", help="list all names, with size, licence and state")
    parser.add_argument("--file", type=Path, help="take this file, which a browser fetched; download nothing")
    parser.add_argument("--url-only", action="store_true", help="print the addresses and stop")
    parser.add_argument("--check", action="store_true",
                        help="compare the weights that are here with their hashes and stop")
    parser.add_argument("--keep", action="store_true", help="keep what was downloaded after its conversion")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="folder to put the weights into")
    args = parser.parse_args(argv)
    if args.file and len(published.chosen(args.names)) != 1:
        parser.error("--file: belongs to one name; give the name of its weights")
    return args


def state(item: published.Published, models: Path) -> str:
    """Whether the weights are here, for the list."""
    if files.kind_of(item.place(models)) == "file":
        return "here"
    part = item.place(models).with_name(f".{item.file}.part")
    return f"{part.stat().st_size / 1e6:.0f} MB of it" if files.kind_of(part) == "file" else "-"


def show(models: Path) -> None:
    entries, sets = published.read()
    rows = [("NAME", "SIZE", "STATE", "WHAT FOR", "LICENCE")]
    rows += [(item.name, item.about, state(item, models), item.purpose, item.licence)
             for item in entries.values()]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
    for name, parts in sets.items():
        print(f"{name}: {' and '.join(parts)}")


def check(items: Iterable[published.Published], models: Path) -> None:
    here = [item for item in items if files.kind_of(item.place(models)) == "file"]
    for item in here:
        known = obtain.verify(item, models)
        print(f"{item.place(models)}: "
              + ("its hash is right" if known else "is here, but there is no hash to compare it with"))
    if not here:
        print(f"no such weights in {models}: nothing to compare")


def get(item: published.Published, args: argparse.Namespace) -> None:
    """Obtain one file under a progress bar."""
    here = files.kind_of(item.place(args.models)) == "file"
    print(f"{item.name}: {item.purpose}; licence: {item.licence}", flush=True)
    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, dynamic_ncols=True, desc=item.name,
              disable=None) as bar:
        def progress(have, total):
            bar.total = total
            bar.update(have - bar.n)
        place = obtain.obtain(item, args.models, ROOT / "configs", args.file, args.keep, progress)
    facts = obtain.origin(place.parent).get(item.file)
    print(f"{place}: " + ("is here already" if here or facts is None else
                          f"sha256 of the published file {facts['sha256']}, from {obtain.host(facts)}"))


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    items = published.chosen(args.names)
    if args.check:
        return check(items or published.read()[0].values(), args.models)
    if args.url_only:
        for item in items:
            print("\n".join(item.addresses()))
        return None
    if args.list or not items:
        return show(args.models)
    for item in items:
        get(item, args)
    for folder in {item.place(args.models).parent for item in items if item.convert}:
        if files.kind_of(folder / "unet.safetensors") and files.kind_of(folder / "autoencoder.safetensors"):
            doctor.check_model(folder, doctor.SAMPLES)
    return None


if __name__ == "__main__":
    cli.run(main)
