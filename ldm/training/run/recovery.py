"""After a run has diverged: which saved state it can continue from, and going back to it.

`changes.jsonl` in the run's folder has a line for each time that a run was continued differently: with
another value of an option that may change (state.CHANGEABLE), or from an older state. Then later states and
averages are moved to the folder `abandoned`.
"""
from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence

from ldm import files
from ldm.errors import UserError
from ldm.training.run import checkpoints, jsonl, state

CHANGES, ABANDONED = "changes.jsonl", "abandoned"
EXPLODED = 1e6              # a loss so many times the first one has diverged; an adaptive weight is up to 1e4
WORSE = 10                  # a state is not good if its loss is more than so many times the lowest one


def diverged(run: Path, step: int, what: str, key: str, rate: float) -> UserError:
    """The error of a run that diverged at `step`. what: how it diverged. key, rate: its learning rate."""
    lower = f"{key}={rate / 10:g}"
    good = [saved for saved in checkpoints.saved(run, "state") if saved < step and _was_low(run, saved)]
    if good:
        return UserError("training", what, f"continue from step {max(good)} at a lower rate: add "
                                           f"--from-step {max(good)} {lower} to the command")
    return UserError("training", what, "start again at a lower rate, as no good state was saved: add "
                                       f"{lower} to the command and give another --output")


def _was_low(run, step):
    """Whether the log shows a loss near the lowest one around `step`."""
    lines = [line for line in jsonl.read(Path(run) / checkpoints.LOG) if isinstance(line.get("loss"), float)]
    near = [line["loss"] for line in lines if line["step"] >= step][:1] or [x["loss"] for x in lines][-1:]
    least = min((line["loss"] for line in lines), default=0)
    return not near or least <= 0 or near[0] <= WORSE * least


def still_to_do(run: Path, from_step: Optional[int], config: dict, sections: Sequence[str]) -> Optional[int]:
    """`from_step`, or None if the same command went back to that step before: then the run just continues."""
    lines = jsonl.read(Path(run) / CHANGES)
    if from_step is None or not lines or not checkpoints.saved(run, "state"):
        return from_step
    last = lines[-1]
    done = last.get("from_step") == from_step and last.get("hash") == state.hashed(config, sections)
    return None if done else from_step


def record(run: Path, found: state.Found, from_step: Optional[int], config: dict,
           sections: Sequence[str]) -> None:
    """Move the files of steps after `from_step` away, then log how the run is continued, if anything changed.
    In this order a kill between the two does no harm: the same command goes back again."""
    if from_step is not None:
        _abandon(run, from_step)
    if from_step is not None or found.changes:
        jsonl.append(Path(run) / CHANGES, {"step": found.step, "from_step": from_step,
                                           "hash": state.hashed(config, sections), "changed": found.changes})


def _abandon(run, step):
    folder = Path(run) / ABANDONED
    files.check_writable(folder)
    for kind in ("state", "ema"):
        for saved, paths in checkpoints.saved(run, kind).items():
            for path in paths if saved > step else ():
                path.replace(folder / path.name)
