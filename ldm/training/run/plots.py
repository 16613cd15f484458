"""A run's curves as a picture: losses and learning rate over the steps. Needs matplotlib, an extra."""
import importlib.util
from pathlib import Path

from ldm.errors import UserError
from ldm.files import replacing
from ldm.training.run import checkpoints, jsonl

# Of a line of train.jsonl, what is no loss or part of one.
NOT_LOSSES = ("step", "learning_rate", "grad_norm", "samples_per_second", "memory_gb", "hours_left")


def series(lines, wanted):
    """{name: (steps, values)} of the entries of `lines`, dicts with a "step", whose name is `wanted`."""
    found = {}
    for line in lines:
        for name, value in line.items():
            if wanted(name):
                steps, values = found.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    return found


def draw(run, path):
    """Draw the logs of the run in `run` to `path` (PNG, PDF or SVG, by its suffix)."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("matplotlib", "is not installed, and draws the curves",
                        "`pip install matplotlib` or the extra [plots] adds it")
    lines = jsonl.read(Path(run) / "train.jsonl")
    if not lines:
        raise UserError(run, "has no train.jsonl with a line in it", "the folder of a run is needed")
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
