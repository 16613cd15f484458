"""What every tool shares: the package on the path, one-line errors, exit statuses."""
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.errors import UserError  # noqa: E402


class Parser(argparse.ArgumentParser):
    """argparse with defaults in --help and errors of one line."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options)

    def error(self, message):
        fail(f"{self.prog}: {message}, see --help")


def fail(message):
    """Print `error: message` on one line and exit with status 2."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    sys.exit(2)


def run(main):
    """Call `main()`; what a user caused ends with one line and status 2, an interrupt with 130."""
    try:
        status = main()
        sys.stdout.flush()
    except UserError as e:
        fail(e)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())   # `tool | head` is no error
        sys.exit(0)
    sys.exit(status or 0)
