"""A model process as the web process uses it: start it, read its messages, start it again when it dies."""
from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence

from ldm.paint import limits
from ldm.paint.protocol import frame, receive

STARTING, COMPILING, READY, SILENT, DEAD = "starting", "compiling", "ready", "silent", "dead"
PING_SECONDS = 5                    # between questions whether an idle process still answers
SILENT_SECONDS = 15                 # without an answer while it is idle
SILENT_STEPS = 20                   # and while it works: so many times the longest pause so far, or
SILENT_WORK_SECONDS = 60            # so many seconds, whichever is longer
SILENT_QUESTION_SECONDS = 600       # while it has a question: its segmenter may have to be compiled
ROOT = Path(__file__).resolve().parents[2]      # `-m ldm...` works from here
WORKER = (sys.executable, "-m", "ldm.paint.worker")
DOCTOR = "run `python tools/doctor.py`, then start the page again"


class ModelProcess:
    """One process with the model.

    command: what to start; the number of its end of the socket is appended. environment: its own variables.
    on_message(process, message): called for each message except those about the process itself.
    died(process, how): called when it ended, however; how: in words.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str],
                 on_message: Callable[[ModelProcess, dict[str, Any]], None],
                 died: Callable[[ModelProcess, str], None]) -> None:
        self.command, self.environment = list(command), dict(environment)
        self.on_message, self.died = on_message, died
        self.state, self.message = STARTING, ""
        self.job: Any = None                        # what it works at; set by the pool
        self.questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.child: Optional[subprocess.Popen[bytes]] = None
        self.writer: Optional[asyncio.StreamWriter] = None
        self.deaths: list[float] = []
        self.last, self.longest = time.monotonic(), 0.0

    @property
    def idle(self) -> bool:
        return self.state == READY and self.job is None

    def send(self, kind: str, **content: Any) -> None:
        if self.writer is not None:
            self.writer.write(frame(kind, **content))

    async def run(self) -> None:
        """Keep a process alive until this task is cancelled or it dies too often."""
        try:
            while self.state != DEAD:
                try:
                    await self._life()
                except OSError as e:                # no memory or no descriptor for another process
                    self._ended(f"the model process cannot be started ({e.strerror or e})")
        finally:
            self.kill()

    async def _life(self):
        """Start a process and listen to it until it ends."""
        ours, theirs = socket.socketpair()
        self.state, self.message, self.last, self.longest = STARTING, "", time.monotonic(), 0.0
        with theirs:
            # A session of its own: Ctrl-C in the terminal reaches the web process only, which ends this one.
            self.child = subprocess.Popen([*self.command, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                                          start_new_session=True, stdin=subprocess.DEVNULL, cwd=ROOT,
                                          env={**os.environ, **self.environment})
        reader, self.writer = await asyncio.open_unix_connection(sock=ours)
        try:
            while True:
                self._take(await receive(reader))
        except EOFError:
            pass
        finally:
            self.writer.close()
            self.writer = None
        self._ended(await self._how_it_ended())

    def _take(self, message):
        now, kind = time.monotonic(), message["kind"]
        if self.job is not None and self.state == READY:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        if self.state == SILENT:
            self.state, self.message = READY, ""
        if kind == "fatal":
            self.state = DEAD
            self.message = f"{message['what']}: {message['is']}; {message['possible']}"
        elif kind == "loading":
            self.state = STARTING
        elif kind == "compiling" and self.state != READY:
            self.state = COMPILING
        elif kind == "ready":
            self.state = READY
        self.on_message(self, message)

    async def _how_it_ended(self):
        self.kill()                                 # its compilers too, and itself if only the socket closed
        code = await asyncio.get_running_loop().run_in_executor(None, self.child.wait)
        if code >= 0:
            return f"the model process ended with status {code}"
        why = ": out of memory?" if -code == signal.SIGKILL else ""
        return f"the model process ended (signal {-code}{why})"

    def _ended(self, how):
        now = time.monotonic()
        self.deaths = [death for death in self.deaths if now - death < limits.DEATH_SECONDS] + [now]
        if self.state != DEAD and len(self.deaths) >= limits.DEATHS:
            self.state, self.message = DEAD, f"{how}, {limits.DEATHS} times in a row; {DOCTOR}"
        elif self.state != DEAD:
            self.state, self.message = STARTING, f"{how}; it is started again"
        self.died(self, how)

    def watch(self) -> None:
        """Called every second: does it still answer? While it loads or compiles it cannot."""
        now = time.monotonic()
        if self.state not in (READY, SILENT):
            return
        quiet = now - self.last
        if self.questions:
            patience: float = SILENT_QUESTION_SECONDS
        elif self.job is None:
            patience = SILENT_SECONDS
            if quiet > PING_SECONDS:
                self.send("ping")
        else:
            patience = max(SILENT_WORK_SECONDS, SILENT_STEPS * self.longest)
        if quiet > patience:
            self.state, self.message = SILENT, f"the model process has not answered for {int(quiet)} seconds"

    def kill(self) -> None:
        """End it and what it started, at once: nothing in it is worth a second's wait."""
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
