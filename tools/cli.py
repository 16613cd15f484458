"""What every tool shares: the package on the path, one-line errors, exit statuses."""
import argparse
import errno
import logging
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import which_python  # noqa: E402

which_python.check()

import terminal  # noqa: E402

from ldm.errors import UserError  # noqa: E402
from ldm.platform.variables import check_variables  # noqa: E402

_rank = os.environ.get("OMPI_COMM_WORLD_RANK", "")
RANK = int(_rank) if _rank.isdecimal() else 0              # of this process in an MPI run
if RANK:                                                   # rank 0 speaks for all, but for errors
    os.environ["TQDM_DISABLE"] = "1"
# Code compiled for speed, as Jittor's is, makes numpy say so wherever it asks for the smallest number.
warnings.filterwarnings("ignore", "The value of the smallest subnormal", UserWarning)
logging.getLogger("ldm").addHandler(terminal.Warnings())
# What the machine refuses wherever a file is touched, and what may help.
REFUSALS = {errno.EACCES: "permission is needed", errno.EPERM: "permission is needed",
            errno.ENAMETOOLONG: "a shorter name is needed", errno.ELOOP: "its links form a circle",
            errno.ENOSPC: "free space is needed", errno.EDQUOT: "free space is needed",
            errno.EROFS: "a writable folder is needed", errno.ENOENT: "it is needed",
            errno.ENOTDIR: "a folder is needed", errno.EISDIR: "a file is needed",
            errno.EEXIST: "something else has this name",
            errno.EMFILE: "allow more open files with `ulimit -n 1024`",
            errno.ENFILE: "close other programs, the computer has too many files open"}


class Parser(argparse.ArgumentParser):
    """argparse with defaults in --help and errors of one line."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options)

    def parse_known_args(self, args=None, namespace=None):
        for given in sys.argv[1:] if args is None else args:
            if given == "" or given.startswith("--") and given.endswith("="):
                self.error(f"{given or 'an argument'}: is empty")
        return super().parse_known_args(args, namespace)

    def error(self, message):
        fail(f"{self.prog}: {message}; see --help")


def fail(message):
    """Print `error: message` on one line and exit with status 2."""
    if RANK:
        time.sleep(2)                       # what is wrong for all ranks ends this one before it repeats it
    print("error: " + terminal.line(message), file=sys.stderr)
    leave(2)


def leave(status):
    """End this process. A rank of an MPI run that failed must not wait for the others, as MPI's own end
    would: they may be waiting for it."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, terminal.Closed):
        pass
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        os._exit(status)
    sys.exit(status)


def warn(message):
    """Print `warning: message` on one line of standard error."""
    print("warning: " + terminal.line(message), file=sys.stderr)


def report(failures, summary="{} could not be made, the lines above say why"):
    """Print what could not be done, a line each, and last how many. -> the exit status."""
    for failure in failures:
        print("error: " + terminal.line(failure), file=sys.stderr)
    if failures:
        print("error: " + summary.format(len(failures)), file=sys.stderr)
    return 2 if failures else 0


def open_streams():
    """Give standard streams that were closed (`tool >&-`) to nobody: a file opened later would get their
    numbers, and what libraries print would be written into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)          # the lowest free number: this one
    if sys.stdout is None or RANK:
        sys.stdout = open(os.devnull, "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def refusal(error):
    """What the machine refused, or Jittor could not compile or load on it, in one line; None if `error` is of
    another kind."""
    platform = sys.modules.get("ldm.platform.runtime")
    if platform and isinstance(error, RuntimeError):
        return platform.explain(error)
    if not isinstance(error, OSError) or error.errno not in REFUSALS:
        return None
    name = error.filename if isinstance(error.filename, (str, os.PathLike)) else "the computer"
    return f"{name}: cannot be used ({error.strerror}); {REFUSALS[error.errno]}"


def run(main, argv=None):
    """End with the status of `main(argv)`, by default of the command line. What a user caused ends with
    one line and status 2, an interrupt with 130."""
    open_streams()
    plain, sys.stdout = sys.stdout, terminal.Output(sys.stdout)
    try:
        check_variables()
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())   # `tool | head` is no error
        sys.exit(0)
    except Exception as e:
        if refused := refusal(e):
            fail(refused)
        traceback.print_exc()
        leave(1)
    finally:
        sys.stdout = plain
    sys.exit(status or 0)


def at_import(kind, error, where):
    """Python's own last word on an error outside `run`: while modules are imported, files run out first."""
    if refusal(error):
        print("error: " + terminal.line(refusal(error)), file=sys.stderr)
        os._exit(2)
    traceback.print_exception(kind, error, where)


sys.excepthook = at_import
