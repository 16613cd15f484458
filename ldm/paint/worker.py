"""The model process: takes jobs from the web process and paints them, one at a time, in its only thread.

    python -m ldm.paint.worker OPTIONS-AS-JSON FD

Jittor holds Python's lock while it computes, so a thread that listens would never run. The process looks at
its messages after each step instead: a job is cancelled, and the end of the web process noticed, at the next
step.
"""
from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Protocol

from ldm import config as configs
from ldm.errors import UserError
from ldm.paint import limits
from ldm.paint.protocol import Pipe, parts
from ldm.platform import runtime
from ldm.refusals import refusal

PR_SET_PDEATHSIG = 1
MINUTES = 6                 # that Jittor and a model take to compile on two cores, at most
COMPILING = ("First use of this model here: its operators are compiled now, 1 to 3 minutes on two cores, "
             "once ...")


class Cancelled(Exception):
    """The job is not wanted any more."""


class Step:
    """What a painter reports. Counts begin at 1. preview(): a PNG for each picture, made if it is wanted."""

    def __init__(self, round_: int, rounds: int, step: int, steps: int,
                 preview: Callable[[], list[bytes]]) -> None:
        self.round, self.rounds, self.step, self.steps, self.preview = round_, rounds, step, steps, preview


class Painter(Protocol):
    """What the process works with: ldm.paint.painter.Painter, or a stand-in in tests."""

    def facts(self) -> dict[str, Any]:
        """Of the model: weights, as {part: hash}."""

    def make(self, job: dict[str, Any], on_step: Callable[[Step], None]) -> list[tuple[bytes, bytes]]:
        """(PNG, JPEG) for each seed of the job. Raises UserError, and whatever `on_step` raises."""

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """See segmenters.Segmenters. Raises UserError."""


def serve(pipe: Pipe, painter: Painter) -> None:
    """Answer until the web process has ended."""
    try:
        while True:
            message = pipe.receive()
            if message["kind"] == "job":
                run(pipe, painter, message)
            else:
                reply(pipe, painter, message)
    except (EOFError, ConnectionError):
        pass


def reply(pipe: Pipe, painter: Painter, message: dict[str, Any]) -> None:
    """What may come at any time, a job or not: a ping or a question. A cancel of a job that has ended is
    nothing."""
    if message["kind"] == "ping":
        pipe.send("pong")
    elif "question" in message:
        pipe.send("answer", question=message["question"], **answer(painter, message))


def answer(painter: Painter, question: dict[str, Any]) -> dict[str, Any]:
    """{"found": the answer} or {"error": its three parts}."""
    try:
        return {"found": painter.answer(question)}
    except Exception as e:
        return {"error": parts(refusal(e) or unexpected())}


def run(pipe: Pipe, painter: Painter, job: dict[str, Any]) -> None:
    """One job, to its last message. Raises EOFError where the web process has ended."""
    started, told, shown, done = time.monotonic(), 0.0, 0.0, 0

    def on_step(step: Step) -> None:
        nonlocal told, shown, done
        done += 1
        while pipe.waiting():
            message = pipe.receive()
            if message["kind"] == "cancel" and message["job"] == job["job"]:
                raise Cancelled
            reply(pipe, painter, message)
        now = time.monotonic()
        if now - told >= 1 / limits.REPORTS:        # not each step: the web process would take a core's time
            told = now
            pipe.send("step", job=job["job"], done=done, round=step.round, rounds=step.rounds,
                      step=step.step, steps=step.steps)
        if now - shown >= 1 / limits.PREVIEWS:
            shown = now
            pipe.send("preview", job=job["job"], pngs=step.preview())

    try:
        pictures = painter.make(job, on_step)
    except Cancelled:
        pipe.send("cancelled", job=job["job"])
    except MemoryError:
        pipe.send("failed", job=job["job"], what="the picture", possible="make fewer variations at a time",
                  **{"is": "does not fit into the device's memory"})
    except (EOFError, ConnectionError):
        raise
    except Exception as e:
        pipe.send("failed", job=job["job"], **parts(refusal(e) or unexpected()))
    else:
        pipe.send("done", job=job["job"], pictures=pictures, seconds=time.monotonic() - started)


def unexpected() -> UserError:
    """For the page, where the program is at fault; the terminal shows where."""
    traceback.print_exc()
    return UserError("the model process", "stopped at an error of the program", "see the terminal")


def die_with(parent: int) -> None:
    """Have the system kill this process when the web process ends: a long operator has no steps."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:                  # it ended before that call
        os._exit(1)


def start(load: Callable[[Pipe, dict[str, Any]], Painter], arguments: list[str]) -> None:
    """The process's life. load(pipe, options): makes the painter, and says what takes long."""
    options = json.loads(arguments[0])
    die_with(options["parent"])
    pipe = Pipe(socket.socket(fileno=int(arguments[1])))
    try:
        pipe.send("loading")
        painter = load(pipe, options)
        pipe.send("ready", **painter.facts())
    except (EOFError, ConnectionError):
        return
    except Exception as e:
        if not (refused := refusal(e)):
            raise
        print(f"error: {refused}", file=sys.stderr, flush=True)
        pipe.send("fatal", **parts(refused))
        return
    serve(pipe, painter)


def load(pipe: Pipe, options: dict[str, Any]) -> Painter:
    """The real painter. It loads Jittor, which may have to be compiled before."""
    config = configs.load(Path(options["model"]) / "config.yaml", networks=("unet", "autoencoder"))
    key = f"inference {config['unet']} {config['autoencoder']}"             # as tools/infer.py calls it
    if not runtime.is_compiled(key):
        pipe.send("compiling", minutes=MINUTES)
    compiled = runtime.notice_compile(key, COMPILING)
    from ldm.paint.painter import Painter as Real  # needs Jittor
    painter = Real.load(pipe, options)
    compiled()
    return painter


if __name__ == "__main__":
    start(load, sys.argv[1:])
