#!/usr/bin/env python
"""Try everything on this machine's GPU, step by step, and write one report of it to send back.

A step that fails stops none of the others. The same command again takes up what was cut off, and what failed.
"""
from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any, Optional, Sequence

import cli

from ldm.benchmark import report as reports
from ldm.benchmark import run_steps
from ldm.benchmark.run_steps import Step
from ldm.errors import UserError
from ldm.files import check_writable, replacing
from ldm.platform.compilers import run
from ldm.platform.cuda import versions
from ldm.platform.devices import present_devices

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--output", default="gpu-check", type=Path, help="folder of the report and the logs")
    parser.add_argument("--minutes", default=29.0, type=float,
                        help="time for it; the same command again does what is left")
    parser.add_argument("--limit", default=900, type=int, metavar="SECONDS",
                        help="what one step may take; a small one shows soon what each does")
    parser.add_argument("--model", default=ROOT / "models/demo", type=Path, help="model folder to infer with")
    parser.add_argument("--config", default=ROOT / "configs/iidm.yaml", type=Path,
                        help="sizes of the networks that are measured")
    parser.add_argument("--torch-python", type=Path, metavar="FILE",
                        help="a Python with PyTorch to compare speed with")
    return parser.parse_args(argv)


def tool(name: str, *arguments: Any) -> list:
    return [sys.executable, ROOT / f"tools/{name}.py", *arguments]


def tests(*arguments: Any) -> list:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]


def inference(args: argparse.Namespace, folder: str, *more: Any) -> list:
    return tool("infer", "--model", args.model, "--rounds", ROOT / "configs/infer/fast.yaml", "--overwrite",
                "--format", "png", "--output", args.output / folder, *more)


def training(args: argparse.Namespace, kind: str) -> list:
    return tool("benchmark", "train", "--config", args.config, "--repeats", 4, "training.batch_size=4",
                "training.checkpointing=blocks", f"training.precision={kind}")


def steps(args: argparse.Namespace) -> list[Step]:
    """What is tried, in order: the most telling first, in case the time ends."""
    operators, data = ROOT / "test/gpu/test_device_operators.py", args.output / "data"
    torch = ["--torch-python", args.torch_python] if args.torch_python else []
    return [
        Step("nvidia-smi", ["nvidia-smi"], 60, needs="nvidia-smi", shown=True),
        Step("setup", tool("setup_cuda"), 120, shown=True),
        Step("doctor", tool("doctor"), 900, shown=True),
        Step("first-operators", tests(operators, "-k", "convolution or product or softmax"), 600),
        Step("infer", inference(args, "images"), 600),
        Step("infer-again", inference(args, "images-again"), 300),
        Step("infer-cpu", inference(args, "images-cpu"), 600, HIDDEN),
        Step("infer-bf16", inference(args, "images-bf16", "--precision", "bf16"), 300),
        Step("doctor-hidden", tool("doctor"), 120, HIDDEN),
        Step("doctor-without-nvcc", tool("doctor"), 120, {"nvcc_path": ""}),
        Step("pipeline", tool("benchmark", "pipeline", "--config", args.config, "--repeats", 5), 600,
             shown=True),
        Step("train-fp32", training(args, "fp32"), 600, shown=True),
        Step("train-bf16", training(args, "bf16"), 600, shown=True),
        Step("memory-ends", [sys.executable, ROOT / "test/gpu/compile_kernels.py", "--child", "--work",
                             "memory_that_ends"], 300),
        Step("tests", tests(ROOT / "test/gpu"), 900),
        Step("landscapes", tool("make_landscapes", "--count", 12, "--output", data), 120),
        Step("train-tool", tool("train", "--data", data, "--output", args.output / "run", "--autoencoder",
                                args.model / "autoencoder.safetensors", "training.steps=4",
                                "training.save_every=4", "training.batch_size=4"), 300),
        Step("kernels", tool("benchmark", "kernels", "--config", args.config, "--repeats", 3, *torch), 600,
             shown=True),
        Step("sanitizer", ["compute-sanitizer", *tests(ROOT / "test/gpu", "-k", "guided_ddim and fp32")], 600,
             needs="compute-sanitizer"),
        *([Step("two-devices", inference(args, "images-two", "--gpus", 2), 300)]
          if len(present_devices()) > 1 else []),
    ]


def machine() -> dict[str, str]:
    """The machine as the report shows it; the versions of CUDA are in what the benchmarks print."""
    commit = run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    return {**reports.describe(), **versions.smi(), "commit": commit.stdout.split("\n")[0]}


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    if not present_devices():
        raise UserError("GPU", "this machine has no NVIDIA device", "use one that has: see docs/gpu.md")
    check_writable(args.output)
    todo = [step._replace(limit=min(step.limit, args.limit)) for step in steps(args)]
    log = partial(print, flush=True)
    outcomes = run_steps.run(todo, args.output, 60 * args.minutes, log)
    pairs = {"the same command twice": "images-again", "the GPU and the CPU, fp32": "images-cpu",
             "fp32 and bf16": "images-bf16"}
    compared = {name: run_steps.compared(args.output / "images", args.output / other)
                for name, other in pairs.items()}
    path = args.output / "report.md"
    with replacing(path) as temporary:
        temporary.write_text(run_steps.report("IIDM-Jittor on a GPU", machine(), todo, outcomes, compared,
                                              args.output))
    done = sum(outcome.result == "done" for outcome in outcomes)
    print(f"{done} of {len(todo)} steps done; the report is {path}")


if __name__ == "__main__":
    cli.run(main)
