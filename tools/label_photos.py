#!/usr/bin/env python
"""Make label maps for a folder of photographs, in the contest's form, to train on them.

The same command again continues. See docs/own-data.md.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Optional, Sequence

import cli
from tqdm import tqdm

from ldm import files, images
from ldm.errors import UserError
from ldm.evaluation import labelling, mapping, weight_files
from ldm.inference import job
from ldm.platform import runtime

MODELS = Path(__file__).resolve().parents[1] / "models"
MOST_PIXELS = 2 ** 14                               # a side, as of every model's image_size


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__.replace("\n\n", " "))
    parser.add_argument("--photos", required=True, type=Path, help="folder of photographs")
    parser.add_argument("--output", required=True, type=Path, help="folder for photographs and label maps")
    add_options(parser)
    parser.add_argument("--size", nargs=2, type=int, default=(512, 384), metavar=("WIDTH", "HEIGHT"),
                        help="of what is written")
    parser.add_argument("--fit", default="crop", choices=images.FITS,
                        help="photographs of other proportions: crop them to the centre, or leave them out")
    parser.add_argument("--dry-run", action="store_true", help="say how many there are to label, and stop")
    args = parser.parse_args(argv)
    if min(args.size) < 32 or max(args.size) > MOST_PIXELS:
        parser.error(f"--size: is {args.size[0]} {args.size[1]}; give 32 to {MOST_PIXELS} pixels a side")
    return args


def add_options(parser: Any) -> None:
    """The options about the segmenter, which tools/infer.py has too."""
    parser.add_argument("--segmenter", type=Path, metavar="FILE",
                        help="weights of a SegFormer of ADE20K, by default those in models/segformer-ade-*")
    parser.add_argument("--mapping", default="nearest", metavar="NAME|FILE.json",
                        help="from ADE20K's classes to the 29: nearest, strict, or your changes of nearest")
    parser.add_argument("--min-confidence", type=float, default=0.5, metavar="P",
                        help="pixels below it are doubtful; a photograph with too many is left out")
    parser.add_argument("--flip", action="store_true",
                        help="average with the mirrored photograph: better, and twice the time")


def label(args: argparse.Namespace, output: Path, size: Sequence[int], fit: str,
          before: str = "") -> tuple[list[Path], labelling.Folder, list[object]]:
    """Label the photographs. Returns (paths, the Folder, errors).

    before: who asks for photographs that were all labelled before; a UserError names it if some are not.
    """
    paths = labelling.photographs(args.photos)
    refuse_same(output, args.photos)
    weights = weight_files.find_labeller(args.segmenter, MODELS)
    if not 0 <= args.min_confidence <= 1:
        raise UserError("--min-confidence", f"is {args.min_confidence}", "choose a probability from 0 to 1")
    taken = mapping.load(args.mapping)
    options = labelling.Options((size[0], size[1]), fit, args.min_confidence, args.flip)
    folder = labelling.Folder(output, {
        "segmenter": weights.name, "sha256": files.sha256(weights, 64), "mapping": args.mapping,
        "targets": taken.targets.tolist(), "size": list(size), "fit": fit,
        "least_probability": args.min_confidence, "mirrored": args.flip})
    todo = [path for path in paths if not folder.is_done(path)]
    if before and todo:
        command = (f"python tools/label_photos.py --photos {args.photos} --output {output} "
                   f"--size {size[0]} {size[1]}")
        raise UserError(before, f"{len(todo)} of {len(paths)} photographs are not labelled yet, and parts "
                        "must not do it at the same time",
                        f"run `{command}` first, with your options of the segmenter")
    print(f"{len(todo)} of {len(paths)} photographs to label", flush=True)
    if getattr(args, "dry_run", False):
        return paths, folder, []
    errors = make(paths, folder, weights, options, args.mapping) if todo else []
    return paths, folder, [*errors, *labelling.unreadable(paths, folder)]


def make(paths: list[Path], folder: labelling.Folder, weights: Path, options: labelling.Options,
         mapping_name: str) -> list[str]:
    """Open the segmenter and label what is not done. Returns errors."""
    files.check_writable(folder.root)
    from ldm.evaluation.networks import open_segmenter
    segmenter = open_segmenter(weights, mapping_name)
    if segmenter.mapping is None:
        raise UserError(weights, "is a segmenter of the 29 classes", "give one of ADE20K's 150")
    compiled = runtime.notice_compile(f"labelling {list(options.size)}", "First use of this segmenter here: "
                                      "its operators are compiled now, a minute or more ...")
    errors = labelling.run(paths, folder, segmenter, options,
                           lambda items, total: tqdm(items, "labelling", total, unit="photo", disable=None))
    compiled()
    return errors


def refuse_same(output: Path, photos: Path) -> None:
    """UserError if the output folder is the photographs' own: they would be replaced."""
    for folder in (output, output / "train_resized/imgs", output / "train_resized/labels"):
        if job.resolved(folder) == job.resolved(photos):
            raise UserError(output, "holds the photographs themselves", "choose another --output")


def main(argv: Optional[Sequence[str]] = None) -> Optional[int]:
    args = parse(argv)
    paths, folder, errors = label(args, args.output, args.size, args.fit)
    if args.dry_run:
        return None
    lines = labelling.refused(paths, folder)
    for line in lines:
        print(f"left out: {line}")
    labelled = labelling.count(paths, folder)
    print(f"{labelled} label maps in {folder.maps}, {len(lines)} photographs left out"
          + (f"; {args.output / labelling.OVERVIEW} shows the first" if labelled else ""))
    if not labelled and not errors:
        raise UserError(args.photos, "none of its photographs could be labelled", "the lines above say why")
    return cli.report(errors, "{} of the photographs cannot be read; replace or remove them")


if __name__ == "__main__":
    cli.run(main)
