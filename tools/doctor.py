#!/usr/bin/env python
"""Check that this machine has what is needed, say how to get what is missing, and try a convolution.

With --model, check that the autoencoder and the U-Net of a model folder belong together.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Iterable, Optional, Sequence

import cli

from ldm import diagnosis
from ldm.errors import UserError
from ldm.platform import runtime

SAMPLES = Path(__file__).resolve().parents[1] / "data/samples/references"

def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__.replace("\n\n", " "))
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--packages", nargs="*", metavar="NAME",
                        help="only compare the installed packages with requirements.txt and these names")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a model folder: only check that its "
                        "autoencoder and its U-Net belong together")
    parser.add_argument("--photos", type=Path, metavar="DIR",
                        help="with --model: photographs of the kind that the model was trained on")
    args = parser.parse_args(argv)
    if args.photos and not args.model:
        parser.error("--photos: is for --model; give the folder of a model too")
    return args


def show(findings: Sequence[diagnosis.Finding]) -> None:
    width = max(len(f.name) for f in findings)
    for f in findings:
        state = "ok" if f.ok else "MISSING" if f.needed else "-"
        print(f"{f.name:{width}}  {state:7}  {f.found}" + (f"; {f.remedy}" if f.remedy and not f.ok else ""))


def check(findings: Iterable[diagnosis.Finding]) -> None:
    for f in findings:
        if f.needed and not f.ok:
            raise UserError(f.name, f.found, f.remedy)


def check_model(folder: Path, photos: Path) -> None:
    """Check that the autoencoder and the U-Net of a model belong together, and print the numbers. UserError
    if they do not."""
    from ldm import files
    from ldm.weights import published
    for name in ("config.yaml", "unet.safetensors", "autoencoder.safetensors"):
        if files.kind_of(folder / name) is None:
            remedy = f"`{published.TOOL} iidm` gets it" if folder.name == "iidm" else "give another one"
            raise UserError(folder, f"is not a model folder: it has no {name}", remedy)
    from ldm.inference import latent_check  # these need the packages
    done = runtime.notice_compile(f"check of {folder}", "First use of this model here: its operators are "
                                  "compiled now, a minute or more ...")
    report = latent_check.of_model(folder, photos)
    done()
    print(f"{folder}: {report.figures()}")
    if not report.belong:
        raise UserError(folder, *latent_check.APART)
    print(f"{folder}: its autoencoder and its U-Net belong together")


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    if args.model:
        return check_model(args.model, args.photos or SAMPLES)
    if args.packages is not None:
        if not all(re.fullmatch(r"[\w.-]+", name) for name in args.packages):
            raise UserError("--packages", "has a word that is not a name of a package",
                            "give names such as pytest")
        return check([diagnosis.packages(extra=args.packages)])
    runtime.prepare()
    findings = diagnosis.inspect()
    if not args.json:
        show(findings)
    tested, failure = None, None
    try:
        check(findings)
        tested = diagnosis.self_test()
    except UserError as e:
        failure = e
    if args.json:
        print(json.dumps({"findings": [dataclasses.asdict(f) for f in findings], "self_test": tested,
                          "error": failure and str(failure)}, indent=1))
    elif tested:
        print(f"self-test: a convolution on {tested['device']} equals numpy's to {tested['error']:.0e}, "
              f"{tested['gflops']:.0f} GFLOP/s")
    if failure:
        raise failure


if __name__ == "__main__":
    cli.run(main)
