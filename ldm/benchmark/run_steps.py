"""Runs commands one after the other, with one report of their results; an interrupted run can be continued.

Imports no Jittor: each command is a process of its own, and if one fails, the others still run.
"""
from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Optional

import numpy as np

from ldm import files, images

LAST_LINES = 2              # of a failed command's output that the report repeats


class Step(NamedTuple):
    """A command with a name, its limit in seconds, its variables, and the program that it needs. `shown`: the
    report repeats its output, which is Markdown or text."""
    name: str
    command: list
    limit: int
    environment: dict = {}
    needs: str | None = None
    shown: bool = False


class Outcome(NamedTuple):
    """result: done, failed, too long, not possible (its program is missing). memory: the most MiB of the GPU
    in use, which nvidia-smi reports once a second; None without nvidia-smi."""
    name: str
    result: str
    seconds: float
    memory: float | None
    said: str


def load(folder: Path, step: Step) -> Outcome | None:
    """The outcome of `step` in this folder; None if it was not run, or was interrupted."""
    try:
        return Outcome(**json.loads((folder / f"{step.name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def run(steps: list[Step], folder: Path, seconds: float, tell: Any = print) -> list[Outcome]:
    """Run the unfinished steps, in order, until `seconds` are over. Returns the outcomes of all steps that
    were run, now or before. Failed steps are run again."""
    deadline, outcomes = time.monotonic() + seconds, []
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        outcome, left = load(folder, step), deadline - time.monotonic()
        if not (outcome and outcome.result == "done") and left > 0:
            tell(f"{step.name} ...")
            outcome = one(step, folder, min(step.limit, left))
            tell(f"{step.name}: {outcome.result}, {outcome.seconds:.0f} s"
                 + (f"; {outcome.said}" if outcome.result != "done" else ""))
            with files.replacing(folder / f"{step.name}.json") as temporary:
                temporary.write_text(json.dumps(outcome._asdict(), indent=1))
        if outcome:
            outcomes.append(outcome)
    return outcomes


def one(step: Step, folder: Path, limit: float) -> Outcome:
    """Run a step; its output goes to FOLDER/NAME.log."""
    if step.needs and not shutil.which(step.needs):
        return Outcome(step.name, "not possible", 0.0, None, f"{step.needs} is not on the PATH")
    begin, log = time.monotonic(), folder / f"{step.name}.log"
    with open(log, "wb") as written, watched(folder / f"{step.name}.memory") as memory:
        child = subprocess.Popen(list(map(str, step.command)), stdin=subprocess.DEVNULL, stdout=written,
                                 stderr=subprocess.STDOUT, env={**os.environ, **step.environment},
                                 start_new_session=True)
        try:
            result = "done" if child.wait(limit) == 0 else "failed"
        except subprocess.TimeoutExpired:
            result = "too long"
        finally:
            end(child)
    return Outcome(step.name, result, round(time.monotonic() - begin, 1), memory(),
                   last_words(log) if result != "done" else "")


def end(child: subprocess.Popen) -> None:
    """End a command and everything that it started. It has ten seconds to finish writing."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(child.pid, number)
            child.wait(10)
    child.wait()


@contextlib.contextmanager
def watched(path: Path) -> Iterator[Callable[[], Optional[float]]]:
    """A context in which nvidia-smi is asked once a second for the memory in use of the first GPU. Yields a
    function that returns the maximum, in MiB."""
    child = None
    if shutil.which("nvidia-smi"):
        with open(path, "wb") as written:
            child = subprocess.Popen(["nvidia-smi", "--query-gpu=memory.used", "--id=0", "-l", "1",
                                      "--format=csv,noheader,nounits"], stdout=written,
                                     stderr=subprocess.DEVNULL)

    def most() -> float | None:
        numbers = path.read_text().split() if child else []
        return max((float(n) for n in numbers if n.isdigit()), default=None)

    try:
        yield most
    finally:
        if child:
            child.terminate()
            child.wait()


def output(log: Path) -> str:
    """The output of a command, without colours, and with only the last state of each progress bar."""
    text = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", log.read_bytes().decode(errors="replace"))
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")).strip()


def last_words(log: Path) -> str:
    """The error line of an output, or its last few lines, as one line."""
    lines = [line.strip() for line in output(log).splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith(("error:", "FAILED", "ERROR"))]
    return " / ".join(wrong[-LAST_LINES:] or lines[-LAST_LINES:])[:300]


# ---- the report --------------------------------------------------------------------------------------------

def compared(a: Path, b: Path) -> str:
    """The difference of the PNG images of two folders, in words."""
    names = sorted({path.name for path in a.glob("*.png")} & {path.name for path in b.glob("*.png")})
    if not names:
        return "nothing to compare"
    pairs = [[images.read_image(folder / name).astype(np.int16) for folder in (a, b)] for name in names]
    differences = np.stack([np.abs(x - y) for x, y in pairs])
    equal = sum((a / name).read_bytes() == (b / name).read_bytes() for name in names)
    error = np.square(differences, dtype=np.float64).mean()
    psnr = f", PSNR {10 * np.log10(255 ** 2 / error):.1f} dB" if error else ""
    return (f"{equal} of {len(names)} files equal byte by byte; {np.mean(differences > 0):.3%} of the values "
            f"differ, by {differences.max()} of 255 at most{psnr}")


def report(title: str, machine: dict, steps: list[Step], outcomes: list[Outcome], comparisons: dict,
           folder: Path) -> str:
    """Markdown: the machine, a line for each step, the comparison of images, and the output of some steps."""
    of_name = {outcome.name: outcome for outcome in outcomes}
    lines = [f"# {title}", "", ", ".join(f"{name} {value}" for name, value in machine.items()), "",
             "| step | result | s | GPU MiB at most | what it said |", "|---|---|---|---|---|"]
    for step in steps:
        o = of_name.get(step.name, Outcome(step.name, "not reached", 0, None, "run the command again"))
        lines.append(f"| {o.name} | {o.result} | {o.seconds:.0f} | {'' if o.memory is None else o.memory:} | "
                     f"{o.said.replace('|', '/')} |")
    lines += ["", "## Images", ""] + [f"* {name}: {text}" for name, text in comparisons.items()]
    for step in steps:
        if step.shown and of_name.get(step.name, Outcome("", "", 0, None, "")).result in ("done", "failed"):
            text = output(folder / f"{step.name}.log")
            table = "\n|" in text
            lines += ["", f"## {step.name}", "", text if table else f"```\n{text}\n```"]
    return "\n".join(lines) + "\n"
