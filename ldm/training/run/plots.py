"""The curves of a run: losses and learning rate over the steps. Needs matplotlib, an optional package."""
from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Callable, Sequence, Union

from ldm.errors import UserError
from ldm.files import replacing
from ldm.training.run import checkpoints, jsonl

# Names in train.jsonl that are not losses or parts of a loss.
NOT_LOSSES = ("step", "learning_rate", "grad_norm", "samples_per_second", "memory_gb", "hours_left")


def series(lines: Sequence[dict], wanted: Callable[[str], bool]) -> dict[str, tuple[list, list]]:
    """{name: (steps, values)} of the entries in `lines` for whose name wanted(name) is true."""
    found: dict[str, tuple[list, list]] = {}
    for line in lines:
        for name, value in line.items():
            if wanted(name):
                steps, values = found.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    return found


def draw(run: Union[str, Path], path: Union[str, Path]) -> None:
    """Draw the logs of the folder `run` to the file `path`: PNG, PDF or SVG, by its suffix."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("matplotlib", "is not installed", "install it with `pip install matplotlib`")
    lines = jsonl.read(Path(run) / "train.jsonl")
    if not lines:
        raise UserError(run, "has no train.jsonl, or an empty one", "give the folder of a trained run")
    from matplotlib.figure import Figure
    figure = Figure(figsize=(9, 7), layout="constrained")
    losses, rate = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    for name, (steps, values) in series(lines, lambda name: name not in NOT_LOSSES).items():
        losses.plot(steps, values, label=name, linewidth=1)
    held_out = [line for line in jsonl.read(Path(run) / checkpoints.VALIDATION)
                if line["file"] == checkpoints.path_of(run, "ema", line["step"]).name]  # not of further rates
    for name, (steps, values) in series(held_out, lambda name: name.startswith("loss")).items():
        losses.plot(steps, values, label=f"held out: {name}", marker=".", linestyle="--")
    losses.set_yscale("log")
    losses.legend()
    rate.plot(*series(lines, lambda name: name == "learning_rate")["learning_rate"])
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    with replacing(path) as temporary:
        figure.savefig(temporary)
