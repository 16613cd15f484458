"""The contest's numbers M, A, FID, S and T of a folder of results.

Each number is printed with its variant and the hash of the weights used. The contest's segmenter, aesthetic
network and histogram are not public: compare these numbers with each other, not with the leaderboard.
"""
from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence

import cli
import reading
from tqdm import tqdm

from ldm.datasets.landscape import read_pairs
from ldm.evaluation import runner
from ldm.evaluation.style import VARIANTS
from ldm.platform import runtime

ROOT = Path(__file__).resolve().parents[1]


def arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(prog="evaluate.py", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--results", metavar="DIR", required=True, help="images with the names of their masks")
    add("--masks", metavar="DIR", required=True, help="label maps")
    add("--references", metavar="DIR", required=True, help="images that give the style")
    add("--train-images", metavar="DIR", required=True, help="images to compare the results with, for FID")
    add("--truth", metavar="DIR", help="the masks' own photographs, for the number `sharp`")
    add("--pairs", metavar="FILE", help="JSON {mask name: reference name}; default: equal names")
    add("--segformer", metavar="FILE", help="weights of a SegFormer with the 29 classes, for M")
    add("--nima", metavar="FILE", help="weights of a NIMA, for A")
    add("--inception", metavar="FILE", help="weights of the FID's Inception")
    add("--models", metavar="DIR", default=Path(os.path.relpath(ROOT / "models")), type=Path,
        help="folder to search for weights that are not given")
    add("--style", choices=list(VARIANTS), default="contest_overflow", help="histogram of S")
    add("--cache", metavar="DIR", default=str(Path.home() / ".cache" / "iidm"),
        help="folder for the statistics of the training images")
    add("--batch-size", metavar="N", type=int, default=8, help="images per batch")
    add("--json", action="store_true", help="print JSON, with the numbers of each image and class")
    reading.add_options(parser)
    options = parser.parse_args(argv)
    if options.batch_size < 1:
        parser.error(f"--batch-size: is {options.batch_size}; choose 1 or more")
    return options


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report as lines of text: the numbers, then the segmenter's accuracy for each class."""
    for name, entry in report["numbers"].items():
        value = "n/a" if entry["value"] is None else f"{entry['value']:.4f}"
        weights = f"{entry['weights']} sha256 {entry['sha256'][:12]}" if "sha256" in entry else None
        words = filter(None, (entry.get("variant"), weights, entry.get("why")))
        yield f"{name:7}{value:>9}  {'; '.join(words)}"
    yield from class_line("M by class", report["accuracy_per_class"])
    yield from class_line("IoU by class", report["iou_per_class"])


def class_line(title: str, shares: Mapping[str, Optional[float]]) -> Iterator[str]:
    """One line for {class: percent or None}; no line if all are None."""
    known = {name: share for name, share in shares.items() if share is not None}
    if known:
        words = ", ".join(f"{name} {share:.1f}" for name, share in known.items())
        yield f"{title}: mean {sum(known.values()) / len(known):.1f}; {words}"


def main(argv: Optional[Sequence[str]] = None) -> int:
    options = arguments(argv)
    pairs = read_pairs(options.pairs) if options.pairs else None
    weights = {kind: getattr(options, kind) for kind in ("segformer", "nima", "inception")}
    networks = runner.open_networks(weights, options.models, options.results)
    names = [opened.run.name for opened in networks.values() if opened]
    text = "First use of these networks: compiling their operators once, up to a minute each ..."
    done = runtime.notice_compile(f"evaluation {names}", text) if names else None
    report = runner.evaluate(
        options.results, options.masks, options.references, options.train_images, networks, pairs=pairs,
        variant=options.style, cache=options.cache, batch_size=options.batch_size, models=options.models,
        reading=reading.of(options), truth=options.truth,
        progress=lambda items, what: tqdm(items, desc=what, unit="image", disable=None))
    if done:
        done()
    print(json.dumps(report, indent=1) if options.json else "\n".join(lines(report)), flush=True)
    return cli.report(report["failures"], f"{{}} failed, {report['evaluated']} of {report['pairs']} pairs "
                                          "are in the numbers")


if __name__ == "__main__":
    cli.run(main)
