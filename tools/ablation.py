"""The paper's Table 2 on a folder of held-out pairs: the method grown part by part, made and measured.

Writes OUTPUT/ablation.md, .html, .json and .jpg. Existing pictures are not made again.
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
from ldm.ablation import report, study
from ldm.ablation.rows import rows as table_rows
from ldm.datasets.landscape import contest_folder
from ldm.diffusion import Schedule
from ldm.inference import job, makers, rounds
from ldm.platform import runtime

ROOT = Path(__file__).resolve().parents[1]


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--model", default=ROOT / "models/demo-128", type=Path, metavar="DIR",
        help="model folder; its unet.safetensors holds the averaged weights")
    add("--checkpoint", type=Path, metavar="FILE",
        help="weights of one checkpoint, for the rows without the ensemble (default: "
             "MODEL/checkpoint.safetensors)")
    add("--rounds", default=ROOT / "configs/infer/entry.yaml", type=Path, metavar="FILE",
        help="settings of the whole method; the other rows leave parts of them out")
    add("--data", required=True, type=Path, metavar="DIR",
        help="folder that make_landscapes.py --split test writes: masks, imgs, label_to_img.json and, for "
             "the row of the real images, truth")
    add("--train-images", required=True, type=Path, metavar="DIR",
        help="images of the model's size to compare with in the Fréchet distance")
    add("--count", default=100, type=int, metavar="N", help="number of pairs, the first ones of the data")
    add("--output", default=ROOT / "results/ablation", type=Path, metavar="DIR", help="folder to write to")
    return study_options.parsed(parser, argv, "tools/ablation.py")


def study_of(args: argparse.Namespace, config: dict[str, Any], settings: rounds.Settings) -> study.Study:
    rows = [study.Row(row.name, row.title, makers.Rounds(args.model, config, row.settings,
                                                         unet=None if row.averaged else args.checkpoint))
            for row in table_rows(settings, Schedule.named(config["schedule"]))]
    masks, pairs_file = contest_folder(args.data)
    return study.Study("ablation", rows, masks, args.data / "imgs", args.data / "truth",
                       pairs_file, args.train_images, args.count, args.seed, args.batch_size,
                       reading.of(args), args.models, args.output, args.command)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    settings = rounds.load(args.rounds)
    config = configs.load(args.model / "config.yaml", networks=("unet", "autoencoder"))
    compared = study_of(args, config, settings)
    job.refuse_inputs(args.output, args.model, compared.masks, compared.references, compared.truth,
                      args.train_images)
    for folder in (*(row.name for row in compared.rows), study.SHUFFLED):
        files.check_writable(args.output / folder)
    images.list_images(args.train_images)
    compiled = runtime.notice_compile(f"inference {config['unet']} {config['autoencoder']}",
                                      "First use of this model on this machine: its operators are compiled "
                                      "once now, 1 to 3 minutes on two cores ...")
    plans = study.plan(compared)
    print(f"{len(plans)} rows of {args.count} pairs, {sum(p.steps for p in plans)} network steps to go",
          flush=True)
    pairs = study.generate(compared, plans, partial(tqdm, unit="step", dynamic_ncols=True))
    compiled()
    table = study.evaluate(compared, pairs, partial(tqdm, disable=None))
    study.write(compared, table, plans, study.gallery(compared, pairs, config["image_size"]))
    print(report.markdown(table) + f"the report is {args.output / 'ablation.html'}")


if __name__ == "__main__":
    cli.run(main)
