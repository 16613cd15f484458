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


def report(failures):
    """Print what could not be done, a line each, and last how many. -> the exit status."""
    for failure in failures:
        print("error: " + " ".join(str(failure).split()), file=sys.stderr)
    if failures:
        print(f"error: {len(failures)} could not be made, the lines above say why", file=sys.stderr)
    return 2 if failures else 0


def train(trainer):
    """Resume `trainer` and run it under a bar that shows its terms and the time left."""
    from tqdm import tqdm

    from ldm import runtime
    done = runtime.notice_compile(f"training {type(trainer.task).__name__}",
                                  "First training here: the operators are compiled now, "
                                  "some 2 minutes on two cores, once ...")
    first = trainer.resume()
    if first:
        print(f"continuing at step {first}", file=sys.stderr)
    with tqdm(total=trainer.options["steps"], initial=first, unit="step", dynamic_ncols=True) as bar:
        def progress(step, terms):
            bar.update(step - bar.n)
            bar.set_postfix({k: f"{v:.4f}" for k, v in terms.items()}, refresh=False)
            if step == first + 1:
                done()
        trainer.train(progress)


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
