#!/usr/bin/env python
"""Measure the program: each command prints a Markdown table, or with --json everything it knows."""
from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

import cli
import numpy as np
from tqdm import tqdm

from ldm import config as configs
from ldm import files, images, values
from ldm.benchmark import report, solvers
from ldm.diffusion import Schedule
from ldm.errors import UserError
from ldm.evaluation import weight_files
from ldm.inference import job
from ldm.platform import runtime

ROOT = Path(__file__).resolve().parents[1]


def command(commands: Any, name: str, run: Callable[[argparse.Namespace], Any],
            text: str) -> argparse.ArgumentParser:
    """A new command's parser; `run(args)` -> report (see ldm.benchmark.report)."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


# ---- solvers -----------------------------------------------------------------------------------------------

def add_solvers(commands: Any) -> None:
    add = command(commands, "solvers", run_solvers,
                  "steps against distance to the result of every step, S, and M and FD-seg with a "
                  "segmenter's weights").add_argument
    add("--model", default=ROOT / "models/demo", type=Path, metavar="DIR", help="model folder")
    add("--masks", default=ROOT / "data/samples/masks", type=Path, metavar="DIR",
        help="label maps; label_to_img.json is beside the folder, or references have their names")
    add("--references", default=ROOT / "data/samples/references", type=Path, metavar="DIR", help="images")
    add("--real", type=Path, metavar="DIR", help="images of the model's size that FD-seg compares with")
    add("--count", default=8, type=int, metavar="N", help="the first N pairs")
    add("--solvers", nargs="+", metavar="SAMPLER:SPACING", help="what to compare; by default a choice")
    add("--steps", nargs="+", type=int, metavar="N", help="steps to try; by default from 5 to 50")
    add("--strength", default=0.6, type=float, help="where the round starts, t / 1000")
    add("--guidance", default=3.5, type=float, help="scale; up to 1 is none")
    add("--seed", default=0, type=int, help="of the noise")
    add("--models", default=ROOT / "models", type=Path, metavar="DIR", help="where metrics' weights are")
    add("--plot", type=Path, metavar="FILE", help="draw it too (.png or .svg; needs matplotlib)")


def run_solvers(args: argparse.Namespace) -> Any:
    for option, least in (("count", 1), ("seed", 0)):
        if not least <= (given := getattr(args, option)) <= values.LARGEST_SEED:
            raise UserError(f"--{option}", f"is {given}", f"give {least} to {values.LARGEST_SEED}")
    if args.plot:
        solvers.plotting()
        files.check_writable(args.plot.parent)
    config = configs.load(args.model / "config.yaml", networks=("unet", "autoencoder"))
    size = tuple(config["image_size"])
    chosen = [solvers.solver(text) for text in args.solvers or solvers.SOLVERS]
    settings = [solvers.one_round(one, steps, args.strength, args.guidance)
                for one in chosen for steps in args.steps or solvers.COUNTS]
    total = sum(one.steps(Schedule.named(config["schedule"])) for one in settings)
    weights = weight_files.find("segformer", models=args.models, size=size)
    compiled = runtime.notice_compile(f"solvers {args.model.name} {weights}",
                                      "First use here: operators are compiled now, some minutes, once ...")
    plan = job.plan(args.masks, args.references, None, ROOT, "png", overwrite=True, count=args.count)
    if plan.failures:
        raise plan.failures[0]
    from ldm.inference import Pipeline
    pipeline = Pipeline.load(args.model, settings[0])
    segmenter, real = open_segmenter(weights), real_images(args.real, size)
    pairs = solvers.read(plan.todo, size)
    total = len(pairs.names) * (solvers.all_steps(args.strength) + total)
    with tqdm(total=total, unit="step", dynamic_ncols=True) as bar:
        made = solvers.measure(pipeline, pairs, settings, args.seed, segmenter, real, bar.update)
    compiled()
    if args.plot:
        solvers.plot(made, args.plot)
    return made


def open_segmenter(weights: Optional[Path]) -> Any:
    """The segmenter of a file of weights, None without one."""
    if weights is None:
        return None
    from ldm.evaluation.networks import open_segmenter
    return open_segmenter(weights)


def real_images(folder: Optional[Path], size: images.Size) -> Optional[np.ndarray]:
    """All images of a folder, N x H x W x 3 uint8 of `size`; None without a folder."""
    if folder is None:
        return None
    return np.stack([images.read_image(path, size) for path in images.list_images(folder)])


# ---- pipeline, kernels, accuracy, train --------------------------------------------------------------------

def add_config(add: Callable[..., Any]) -> None:
    add("--config", default=ROOT / "configs/demo-128.yaml", type=Path, metavar="FILE",
        help="sizes of the networks, whose weights are random")
    add("overrides", nargs="*", help="key=value of the config")


def add_room(commands: Any, name: str, text: str, repeats: Optional[str] = None) -> Callable[..., Any]:
    """A command that is ldm.benchmark.<name>.measure. -> its `add_argument`."""
    add = command(commands, name, lambda args: in_room(name, args), text).add_argument
    add_config(add)
    if repeats:
        add("--repeats", default=3, type=int, metavar="N", help=repeats)
    return add


def add_rooms(commands: Any) -> None:
    least = "the least time of so many counts"
    add_room(commands, "pipeline", "seconds by phase, the entry's way against ours in turn", least)
    add = add_room(commands, "kernels", "each operator of the network and a whole pass: Jittor's own, ours, "
                                        "PyTorch's", least)
    add("--torch-python", type=Path, metavar="FILE", help="a Python with PyTorch to compare with")
    add = add_room(commands, "accuracy", "errors of a guided step in each way, against PyTorch in float64")
    add("--torch-python", type=Path, required=True, metavar="FILE", help="a Python with PyTorch")
    add_room(commands, "rounding", "what bf16 rounds, and how far each kind of rounding moves a guided step")
    add = add_room(commands, "train", "samples a second and memory of the U-Net's training",
                   "steps to take, after one that compiles")
    add("--torch-python", type=Path, metavar="FILE", help="a Python with PyTorch to compare with")


def in_room(name: str, args: argparse.Namespace) -> Any:
    """The report of ldm.benchmark.<name>.measure for the config of `args`."""
    options = {key: value for key, value in vars(args).items() if key in ("repeats", "torch_python")}
    if options.get("repeats", 1) < 1:
        raise UserError("--repeats", f"is {args.repeats}", "give 1 or more")
    config = configs.load(args.config, args.overrides, ("unet", "autoencoder"))
    compiled = runtime.notice_compile(f"{name} {config['unet']} {config['autoencoder']}",
                                      "First use here: operators are compiled now, some minutes, once ...")
    made = importlib.import_module(f"ldm.benchmark.{name}").measure(config, **options)
    compiled()
    return made


# ------------------------------------------------------------------------------------------------------------

def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = cli.Parser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_solvers(commands)
    add_rooms(commands)
    args = parser.parse_args(argv)
    made = args.run(args)
    print(json.dumps(made, indent=1) if args.json else report.markdown(made), flush=True)


if __name__ == "__main__":
    cli.run(main)
