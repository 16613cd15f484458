"""Reading ahead: a separate process prepares the next batch while the device computes."""
from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import traceback
from typing import Any, Callable, Optional

from ldm.errors import UserError

PR_SET_PDEATHSIG = 1                            # of Linux' prctl


class Reader:
    """`with Reader(make, stop) as read`: read(k) returns make(k), while make(k + 1) is prepared.

    Nothing from `stop` on is prepared. `make` must depend on its integer argument only; its errors are raised
    by read. A thread is not enough: Jittor holds the interpreter lock while it computes (during matrix
    products of 22 s a thread ran once). The process is forked, so `make` may be any function and sees all
    that is in memory, but it must not use Jittor. Raises UserError if the process is killed.
    """

    def __init__(self, make: Callable[[int], Any], stop: int) -> None:
        self.make, self.stop = make, stop

    def __enter__(self) -> Callable[[int], Any]:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self.make, theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self._requested: Optional[int] = None
        return self._read

    def __exit__(self, *_: object) -> None:
        self._process.kill()                    # it holds nothing that could be lost
        self._process.join()
        self._pipe.close()

    def _read(self, k):
        if self._requested != k:
            if self._requested is not None:
                self._receive()                 # not the expected k: the prepared batch is dropped
            self._request(k)
        result, error = self._receive()
        self._requested = None
        if error is not None:
            raise error
        if k + 1 < self.stop:
            self._request(k + 1)
        return result

    def _request(self, k):
        self._requested = k
        with contextlib.suppress(OSError):      # the process died; _receive raises the error
            self._pipe.send(k)

    def _receive(self):
        try:
            return self._pipe.recv()
        except (EOFError, OSError):             # OSError: killed in the middle of its answer
            raise UserError("reading ahead", "its process was killed",
                            "free memory for one more batch") from None


def _serve(make, pipe, parent):
    """The child: answer each k with (make(k), None) or (None, error), as long as the parent lives."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return                                  # the parent died before prctl
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)   # the parent handles them, and may still need this batch
    while True:
        k = pipe.recv()
        try:
            answer = make(k), None
        except UserError as e:
            answer = None, e
        except Exception:
            answer = None, RuntimeError(traceback.format_exc())
        pipe.send(answer)
