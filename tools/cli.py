"""What every tool shares: the package on the path, one-line errors, exit statuses."""
import argparse
import os
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.errors import UserError  # noqa: E402

RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", 0))      # of this process in an MPI run
if RANK:                                                   # rank 0 speaks for all, but for errors
    sys.stdout = open(os.devnull, "w")
    os.environ["TQDM_DISABLE"] = "1"


class Parser(argparse.ArgumentParser):
    """argparse with defaults in --help and errors of one line."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options)

    def error(self, message):
        fail(f"{self.prog}: {message}, see --help")


def fail(message):
    """Print `error: message` on one line and exit with status 2."""
    if RANK:
        time.sleep(2)                       # what is wrong for all ranks ends this one before it repeats it
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    leave(2)


def leave(status):
    """End this process. A rank of an MPI run that failed must not wait for the others, as MPI's own end
    would: they may be waiting for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        os._exit(status)
    sys.exit(status)


def report(failures):
    """Print what could not be done, a line each, and last how many. -> the exit status."""
    for failure in failures:
        print("error: " + " ".join(str(failure).split()), file=sys.stderr)
    if failures:
        print(f"error: {len(failures)} could not be made, the lines above say why", file=sys.stderr)
    return 2 if failures else 0


def run(main):
    """Call `main()`; what a user caused ends with one line and status 2, an interrupt with 130."""
    try:
        status = main()
        sys.stdout.flush()
    except UserError as e:
        for detail in e.details:
            print("  " + " ".join(detail.split()), file=sys.stderr)
        fail(e)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        leave(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())   # `tool | head` is no error
        sys.exit(0)
    except Exception:
        traceback.print_exc()
        leave(1)
    sys.exit(status or 0)
