"""The checkpoints of a run: states to continue from, averaged weights to use, and their ranking.

`state-STEP.safetensors` is a state and `ema-STEP.safetensors` the average of the weights at that step;
`ema-RATE-STEP.safetensors` are averages of further rates. `validation.jsonl` has a line for each average.
"""
from __future__ import annotations

import re
from pathlib import Path
from typing import Collection, Union

from ldm.errors import UserError
from ldm.training.run import jsonl

LOG, VALIDATION = "train.jsonl", "validation.jsonl"
HIGHER_IS_BETTER = ("M", "A", "S", "T")          # lower is better for losses and distances
NAME = re.compile(r"(state|ema)(?:-[\d.e-]+?)?-(\d{7,})\.safetensors")


def path_of(run: Union[str, Path], label: str, step: int) -> Path:
    """The file of one step. label: "state", "ema" or "ema-RATE"."""
    return Path(run) / f"{label}-{step:07d}.safetensors"


def saved(run: Union[str, Path], kind: str) -> dict[int, list[Path]]:
    """{step: its files} of one kind, "state" or "ema"."""
    files: dict[int, list[Path]] = {}
    for path in sorted(Path(run).glob(f"{kind}-*")):
        if match := NAME.fullmatch(path.name):
            files.setdefault(int(match[2]), []).append(path)
    return files


def ranked(run: Union[str, Path], metric: str) -> list[dict]:
    """The lines of validation.jsonl with a number for `metric`, best first; one line per step, that of its
    best rate.

    Lines are left out if their file no longer exists, or if their latents have another size than the last
    line's.
    """
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    measured = jsonl.read(Path(run) / VALIDATION)
    lines = [line for line in measured if line.get("latents") == measured[-1].get("latents")
             and isinstance(line.get(metric), (int, float)) and NAME.fullmatch(str(line.get("file")))
             and (Path(run) / line["file"]).exists()]
    best: dict[int, dict] = {}
    for line in sorted(lines, key=lambda line: (sign * line[metric], line["step"])):
        best.setdefault(line["step"], line)
    return list(best.values())


def best(run: Union[str, Path], metric: str, count: int) -> list[dict]:
    """The `count` best lines of validation.jsonl by `metric`. UserError if there are fewer."""
    lines = ranked(run, metric)
    if len(lines) < count:
        measured = {name for line in jsonl.read(Path(run) / VALIDATION) for name in line}
        names = ", ".join(sorted(measured - {"step", "file", "ema_rate", "latents"})) or "nothing"
        raise UserError(run, f"has {len(lines)} checkpoints with '{metric}', not {count} (its {VALIDATION} "
                             f"holds {names})", "lower --best or choose another --by")
    return lines[:count]


def prune(run: Union[str, Path], step: int, keep: int, best_steps: Collection[int]) -> None:
    """Delete the states and averages up to `step`, except the newest `keep` of each and `best_steps`."""
    for kind in ("state", "ema"):
        files = saved(run, kind)
        for old in sorted(s for s in files if s <= step)[:-keep]:
            if old not in best_steps:
                for path in files[old]:
                    path.unlink()
