"""What a run keeps: states to go on from, averaged weights to use, and how validation ranks them.

`state-STEP.safetensors` is the state, `ema-STEP.safetensors` the run's average of the weights,
`ema-RATE-STEP.safetensors` those of further rates; `validation.jsonl` has a line for each average.
"""
import re
from pathlib import Path

from ldm.errors import UserError
from ldm.training.run import jsonl

LOG, VALIDATION = "train.jsonl", "validation.jsonl"
HIGHER_IS_BETTER = ("M", "A", "S", "T")          # the contest's; of losses and distances less is better
NAME = re.compile(r"(state|ema)(?:-[\d.e-]+?)?-(\d{7,})\.safetensors")


def path_of(run, label, step):
    return Path(run) / f"{label}-{step:07d}.safetensors"


def saved(run, kind):
    """{step: its files} of one kind, "state" or "ema"."""
    files = {}
    for path in sorted(Path(run).glob(f"{kind}-*")):
        if match := NAME.fullmatch(path.name):
            files.setdefault(int(match[2]), []).append(path)
    return files


def ranked(run, metric):
    """The lines of validation.jsonl that have `metric`, best first, whose averages are still there: one for
    each step, that of its best rate."""
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    lines = [line for line in jsonl.read(Path(run) / VALIDATION)
             if isinstance(line.get(metric), (int, float)) and NAME.fullmatch(str(line.get("file")))
             and (Path(run) / line["file"]).exists()]
    best = {}
    for line in sorted(lines, key=lambda line: (sign * line[metric], line["step"])):
        best.setdefault(line["step"], line)
    return list(best.values())


def best(run, metric, count):
    """The `count` best lines of validation.jsonl by `metric`; a UserError if there are fewer."""
    lines = ranked(run, metric)
    if len(lines) < count:
        measured = {name for line in jsonl.read(Path(run) / VALIDATION) for name in line}
        names = ", ".join(sorted(measured - {"step", "file", "ema_rate"})) or "nothing"
        raise UserError(run, f"has {len(lines)} checkpoints with '{metric}', {count} are needed",
                        f"its {VALIDATION} holds {names}")
    return lines[:count]


def prune(run, step, keep, best_steps):
    """Remove the states and the averages up to `step` except the newest `keep` of each and `best_steps`."""
    for kind in ("state", "ema"):
        files = saved(run, kind)
        for old in sorted(s for s in files if s <= step)[:-keep]:
            if old not in best_steps:
                for path in files[old]:
                    path.unlink()
