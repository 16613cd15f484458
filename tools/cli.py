"""Shared by all tools: the package on the path, one-line errors, exit statuses."""
from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, NoReturn, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import which_python  # noqa: E402

which_python.check()

import terminal  # noqa: E402

from ldm.errors import UserError  # noqa: E402
from ldm.platform.variables import check_variables, share_cores  # noqa: E402
from ldm.refusals import refusal  # noqa: E402

share_cores()                                              # before a tool imports numpy

_rank = os.environ.get("OMPI_COMM_WORLD_RANK", "")
RANK = int(_rank) if _rank.isdecimal() else 0              # of this process in an MPI run
if RANK:                                                   # only rank 0 prints, except errors
    os.environ["TQDM_DISABLE"] = "1"
# numpy warns about the floating-point mode that Jittor's compiled code sets.
warnings.filterwarnings("ignore", "The value of the smallest subnormal", UserWarning)
# Python's helper process gets these options: it removes a killed worker's semaphores and need not say so.
sys.warnoptions.append("ignore:resource_tracker:UserWarning")
logging.getLogger("ldm").addHandler(terminal.Warnings())


class Parser(argparse.ArgumentParser):
    """argparse with defaults in --help and one-line errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:   # type: ignore[override]
        """As argparse's; key=value may stand anywhere among the options."""
        self._refuse_empty(args)
        if self._subparsers is not None:                # argparse cannot do both
            return super().parse_args(args, namespace)
        return self.parse_intermixed_args(args, namespace)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._refuse_empty(args)
        return super().parse_known_args(args, namespace)

    def _refuse_empty(self, args):
        for given in sys.argv[1:] if args is None else args:
            name, equals, value = given.partition("=")
            if not given.strip() or name.startswith("--") and equals and not value.strip():
                self.error(f"{given or 'an argument'}: is empty")

    def error(self, message: str) -> NoReturn:
        fail(f"{self.prog}: {message}; see --help")


def fail(message: object) -> NoReturn:
    """Print `error: message` on one line and exit with status 2."""
    if RANK:
        time.sleep(2)                       # an error of all ranks ends this one before it is printed again
    print("error: " + terminal.line(message), file=sys.stderr)
    leave(2)


def leave(status: int) -> NoReturn:
    """Exit. A failed rank of an MPI run must not wait for the others, as MPI's own exit handler does: the
    others may be waiting for it."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, terminal.Closed):
        pass
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        os._exit(status)
    sys.exit(status)


def warn(message: object) -> None:
    """Print `warning: message` on one line of standard error."""
    print("warning: " + terminal.line(message), file=sys.stderr)


def report(failures: Sequence[object], summary: str = "{} could not be made, the lines above say why") -> int:
    """Print one line per failure, then their number. Returns the exit status."""
    for failure in failures:
        print("error: " + terminal.line(failure), file=sys.stderr)
    if failures:
        print("error: " + summary.format(len(failures)), file=sys.stderr)
    return 2 if failures else 0


def open_streams() -> None:
    """Connect closed standard streams (`tool >&-`) to /dev/null. Otherwise a file opened later gets their
    numbers, and the output of libraries goes into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)          # the lowest free number: this one
    if sys.stdout is None or RANK:
        sys.stdout = open(os.devnull, "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def check_folder() -> None:
    """UserError if the folder that a tool is started in was removed: no relative name leads anywhere."""
    try:
        os.getcwd()
    except OSError as e:
        raise UserError("the current folder", f"cannot be used ({e.strerror})",
                        "change to another one") from None


def run(main: Callable[[Optional[Sequence[str]]], Optional[int]],
        argv: Optional[Sequence[str]] = None) -> NoReturn:
    """Run `main(argv)` (default: the command line) and exit with its status.

    An error that the user can fix prints one line and exits with 2, an interrupt exits with 130.
    """
    open_streams()
    plain, sys.stdout = sys.stdout, terminal.Output(sys.stdout)
    try:
        check_variables()
        check_folder()
        status = main(argv)
        sys.stdout.flush()
    except UserError as e:
        for detail in e.details:
            print("  " + terminal.line(detail), file=sys.stderr)
        fail(e)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        leave(130)
    except terminal.Closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())   # `tool | head` is not an error
        sys.exit(0)
    except Exception as e:
        if refused := refusal(e):
            fail(refused)
        traceback.print_exc()
        leave(1)
    finally:
        sys.stdout = plain
    sys.exit(status or 0)


def at_import(kind: type[BaseException], error: BaseException, where: Optional[TracebackType]) -> None:
    """The hook for errors outside `run`, such as too many open files while modules are imported."""
    if refusal(error):
        print("error: " + terminal.line(refusal(error)), file=sys.stderr)
        os._exit(2)
    traceback.print_exception(kind, error, where)


sys.excepthook = at_import
