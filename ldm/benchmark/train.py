"""The speed and the memory of the U-Net's training: optimiser steps on random latents."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from ldm import config as configs
from ldm.backend import jt
from ldm.benchmark.clock import Time, machine, timed
from ldm.benchmark.kernels import Torch, in_turn
from ldm.platform import runtime
from ldm.training.trial_run import new_trainer, trial_run

TORCH = {"PyTorch, fp32": ("fp32", False), "PyTorch, fp32, channels last": ("fp32", True),
         "PyTorch, bf16": ("bf16", False), "PyTorch, bf16, channels last": ("bf16", True)}


def measure(config: dict, repeats: int, torch_python: Path | None = None) -> dict:
    """The report of `repeats` optimiser steps with the config's `training`, after one that compiles. With a
    Python that has PyTorch: steps of all ways, in turn."""
    runtime.check_precision(config["training"]["precision"], "training.precision")
    options = config["training"]
    taken = trial_run(config, 1 + repeats)
    row = {"parameters": taken["parameters"], "batch": taken["batch_size"],
           "micro-batch": options["micro_batch"] or taken["batch_size"],
           "checkpointing": options["checkpointing"], "precision": options["precision"],
           "s a step": taken["seconds"],
           "samples a second": taken["batch_size"] / taken["seconds"], "peak GB": taken["peak_gb"]}
    first = {"title": f"Training, median of {repeats} steps", "rows": [row]}
    made: dict[str, Any] = {"machine": machine(), "tables": [first]}
    if torch_python:
        torch = Torch(torch_python)
        try:
            made["tables"].append({"title": "A step in every way, in turn; the least processor time",
                                   "rows": compared(config, repeats, torch)})
            made["machine"]["torch"] = torch.version
        finally:
            torch.close()
    return made


def compared(config: dict, repeats: int, torch: Torch) -> list[dict]:
    """A row for each way; ratios are of samples a second to those of Jittor's own operators."""
    factor = 2 ** (len(config["autoencoder"]["channel_mult"]) - 1)
    width, height = (side // factor for side in config["image_size"])
    batch = config["training"]["batch_size"]
    torch.ask(do="build_training", config=config["unet"], batch=batch, height=height, width=width)
    kinds = ["fp32", "bf16"] if jt.flags.use_cuda or runtime.cpu_has_bf16() else ["fp32"]
    sides = {"Jittor's operators": of_trainer(config, "fp32", in_blocks=False)}
    sides.update((f"ours, {kind}", of_trainer(config, kind)) for kind in kinds)
    for name, (kind, channels_last) in TORCH.items():
        sides[name] = of_torch(torch, kind, channels_last)
    times = in_turn(sides, repeats)
    first = next(iter(times.values()))
    return [{"way": name, "s a step": t.wall, "processor s": t.cpu,
             "samples a processor second": batch / t.cpu, "ratio": first.cpu / t.cpu}
            for name, t in times.items()]


def of_trainer(config: dict, kind: str, in_blocks: bool = True) -> Callable[[], Time]:
    config = configs.merge(config, {"training": {"precision": kind}}, "the benchmark")
    trainer = new_trainer(config, in_blocks)
    return lambda: timed(trainer.train_step)[1]


def of_torch(torch: Torch, kind: str, channels_last: bool) -> Callable[[], Time]:
    return lambda: Time(**torch.ask(do="train", kind=kind, channels_last=channels_last))
