#!/usr/bin/env python
"""The paper's Table 1 on a folder of held-out pairs: four GANs, the diffusion model and IIDM.

Writes OUTPUT/comparison.md, .html, .json and .jpg. Existing pictures are not made again.
"""
from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, Optional, Sequence

import cli
import reading
import study_options
from tqdm import tqdm

from ldm import config as configs
from ldm import files, images
from ldm.ablation import crops, report, speed, study
from ldm.ablation.rows import rows as table_rows
from ldm.datasets.landscape import contest_folder
from ldm.diffusion import Schedule
from ldm.errors import UserError
from ldm.inference import job, makers, rounds
from ldm.platform import runtime

ROOT = Path(__file__).resolve().parents[1]
GANS = {"sean": "SEAN", "scgan": "SCGAN", "gaugan": "GauGAN", "clade": "CLADE"}     # in the table's order
OURS = {"dm": ("dm", "DM"), "ensemble": ("iidm", "IIDM")}       # rows of Table 2 that are in Table 1 too


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--model", default=ROOT / "models/demo-128", type=Path, metavar="DIR", help="model folder of IIDM")
    add("--checkpoint", type=Path, metavar="FILE",
        help="weights of one checkpoint, for the row DM (default: MODEL/checkpoint.safetensors)")
    add("--rounds", default=ROOT / "configs/infer/entry.yaml", type=Path, metavar="FILE",
        help="rounds of IIDM; DM runs the first one's steps from pure noise")
    add("--gans", default=ROOT / "models/baselines", type=Path, metavar="DIR",
        help="folder that holds model folders named sean, scgan, gaugan, clade; missing ones are left out")
    add("--data", required=True, type=Path, metavar="DIR",
        help="folder that make_landscapes.py --split test writes")
    add("--reference-masks", type=Path, metavar="DIR",
        help="label maps of the references, for SEAN (default: DATA/reference_labels)")
    add("--train-images", required=True, type=Path, metavar="DIR",
        help="images of the models' size to compare with in the Fréchet distance")
    add("--count", default=64, type=int, metavar="N", help="number of pairs, the first ones of the data")
    add("--output", default=ROOT / "results/comparison", type=Path, metavar="DIR", help="folder to write to")
    return study_options.parsed(parser, argv, "tools/compare.py")


def gan_rows(args: argparse.Namespace, size: Sequence[int]) -> list[study.Row]:
    """The rows of the GANs that are there. UserError for one of another kind or size than its place says."""
    found = []
    for kind, title in GANS.items():
        folder = args.gans / kind
        if files.kind_of(folder) is None:
            print(f"{title} is left out: there is no {folder}", flush=True)
            continue
        maker = makers.of_folder(folder, None)
        if maker.config["kind"] != kind:
            raise UserError(folder / "config.yaml", f"is of kind {maker.config['kind']}",
                            f"put a {kind} into this folder")
        if maker.config["image_size"] != size:
            raise UserError(folder / "config.yaml", f"has image_size {maker.config['image_size']}, and "
                            f"{args.model} {size}", "compare models of one size")
        found.append(study.Row(kind, title, maker))
    if not found:
        raise UserError(args.gans, f"holds none of {', '.join(GANS)}",
                        "train one with tools/train_baseline.py")
    return found


def study_of(args: argparse.Namespace, config: dict[str, Any], settings: rounds.Settings) -> study.Study:
    gans = gan_rows(args, config["image_size"])
    rows = [study.Row(*OURS[row.name], makers.Rounds(args.model, config, row.settings,
                                                     unet=None if row.averaged else args.checkpoint))
            for row in table_rows(settings, Schedule.named(config["schedule"])) if row.name in OURS]
    masks, pairs_file = contest_folder(args.data)
    maps = args.reference_masks or args.data / "reference_labels"
    if any(row.maker.reads_reference_maps for row in gans) and files.kind_of(maps) is None:
        given = "" if args.reference_masks else "is not given, and "
        raise UserError("--reference-masks", f"{given}there is no {maps}; SEAN needs it",
                        "give the folder of the references' label maps")
    return study.Study("comparison", [*gans, *rows], masks, args.data / "imgs", args.data / "truth",
                       pairs_file, args.train_images, args.count, args.seed, args.batch_size,
                       reading.of(args), args.models, args.output, args.command, maps)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    settings = rounds.load(args.rounds)
    config = configs.load(args.model / "config.yaml", networks=("unet", "autoencoder"))
    compared = study_of(args, config, settings)
    job.refuse_inputs(args.output, args.model, args.gans, compared.masks, compared.references, compared.truth,
                      args.train_images, compared.reference_maps)
    for folder in (*(row.name for row in compared.rows), study.SHUFFLED):
        files.check_writable(args.output / folder)
    images.list_images(args.train_images)
    compiled = runtime.notice_compile(f"comparison {[row.maker.operators for row in compared.rows]}",
                                      "First use of these models on this machine: their operators are "
                                      "compiled once now, 1 to 3 minutes each on two cores ...")
    plans = study.plan(compared)
    print(f"{len(plans)} rows of {args.count} pairs, {sum(len(p.plan.todo) for p in plans)} pictures to go",
          flush=True)
    pairs = study.generate(compared, plans, partial(tqdm, unit="step", dynamic_ncols=True))
    compiled()
    table = study.evaluate(compared, pairs, partial(tqdm, disable=None))
    speed.add(compared, plans, table)
    headings, lines = study.gallery(compared, pairs, config["image_size"])
    parts = crops.crops(compared, pairs, lines)
    study.write(compared, table, plans, (headings, [line for both in zip(lines, parts) for line in both]))
    print(report.markdown(table) + f"the report is {args.output / 'comparison.html'}")


if __name__ == "__main__":
    cli.run(main)
