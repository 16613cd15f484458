"""Reading ahead: a process of its own prepares the next batch while the device computes."""
import contextlib
import ctypes
import multiprocessing
import os
import signal
import traceback

from ldm.errors import UserError

PR_SET_PDEATHSIG = 1                            # of Linux' prctl


class Reader:
    """`with Reader(make, stop) as read`: read(k) is make(k), and make(k + 1) is prepared meanwhile.

    Nothing from `stop` on is prepared. `make` is a function of an integer alone, so that what is read does
    not depend on reading ahead; its errors are raised by read. A thread would not do: Jittor holds the
    interpreter's lock while it computes (beside matrix products of 22 s a thread got one turn). The process
    is forked, so `make` may be any function and finds all that is in memory, but it must not use Jittor.
    """

    def __init__(self, make, stop):
        self.make, self.stop = make, stop

    def __enter__(self):
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self.make, theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self._asked = None
        return self._read

    def __exit__(self, *_):
        self._process.kill()                    # it holds nothing that could be lost
        self._process.join()
        self._pipe.close()

    def _read(self, k):
        if self._asked != k:
            if self._asked is not None:
                self._receive()                 # a jump: what was prepared is not wanted
            self._ask(k)
        result, error = self._receive()
        self._asked = None
        if error is not None:
            raise error
        if k + 1 < self.stop:
            self._ask(k + 1)
        return result

    def _ask(self, k):
        self._asked = k
        with contextlib.suppress(OSError):      # it died since it was last heard: the next answer says so
            self._pipe.send(k)

    def _receive(self):
        try:
            return self._pipe.recv()
        except (EOFError, OSError):             # OSError: killed in the middle of its answer
            raise UserError("reading ahead", "its process was killed",
                            "enough memory for another batch is needed")


def _serve(make, pipe, parent):
    """The child: answer each k with (make(k), None) or (None, error), as long as the parent lives."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return                                  # it died before that
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)   # for the parent, which may need this batch to end well
    while True:
        k = pipe.recv()
        try:
            answer = make(k), None
        except UserError as e:
            answer = None, e
        except Exception:
            answer = None, RuntimeError(traceback.format_exc())
        pipe.send(answer)
