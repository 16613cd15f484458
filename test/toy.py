"""A training in milliseconds a step: two linear layers learn a sum. As a script it makes runs to be killed.

`python toy.py RUN`: for each line of standard input a fresh process goes on with the run in RUN, and how it
ended is printed. The line says when it dies, see `doom`.
"""
import copy
import itertools
import os
import signal
import sys

import numpy as np
from conftest import ROOT

from ldm import config as configs
from ldm.backend import jt, nn
from ldm.training.batch_order import generator
from ldm.training.trainer import Trainer

PACKAGE = str(ROOT / "ldm")
CONFIG = copy.deepcopy(configs.DEFAULTS)
CONFIG["training"].update(steps=40, batch_size=4, save_every=4, sample_every=20, log_every=3, metrics_every=8,
                          learning_rate=0.01, ema_rate=0.9, keep=2, keep_best=2)


class Task:
    """Learns the sum of four numbers."""

    sections = ("training",)

    def __init__(self, options):
        jt.set_global_seed(options["seed"])
        self.network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
        self.options = options
        self.seen = np.zeros(1, np.int64)

    def batch(self, step):
        rng = generator(step, self.options["seed"], 0)
        return rng.standard_normal((self.options["batch_size"], 4), np.float32)

    def loss(self, batch):
        loss = (self.network(jt.array(batch)) - jt.array(batch.sum(1, keepdims=True))).sqr().mean()
        return loss, {"root": loss.sqrt()}

    def after_step(self, step):
        self.seen += self.options["batch_size"]

    def sample(self):
        return np.zeros((8, 8, 3), np.uint8)

    def arrays(self):
        return {"seen": self.seen}

    def restore(self, arrays):
        self.seen = arrays["seen"].copy()


class Validation:
    """The loss on a fixed batch; thorough ones know M, too."""

    def __init__(self, task):
        self.task, self.batch = task, task.batch(10 ** 6)

    def measure(self, network, thorough):
        loss = float(self.task.loss(self.batch)[0].item())
        return {"loss": loss, "M": -loss} if thorough else {"loss": loss}


def trainer(run, more_rates=(), **options):
    """A Trainer of the task in folder `run`, with CONFIG changed by `options`."""
    config = copy.deepcopy(CONFIG)
    config["training"].update(options, more_ema_rates=list(more_rates))
    task = Task(config["training"])
    return Trainer(task, run, config, config["training"], Validation(task), more_rates)


def go_on(run, from_step=None, **options):
    """Resume the run in `run` and train to its end. -> what was wrong with its states."""
    t = trainer(run, **options)
    with t.locked():
        problems = t.resume(from_step).problems
        t.train()
    return problems


def doom(kind=None, *numbers):
    """Let this process die by SIGKILL: "write", N, SHARE: in the N-th file that it writes, with that share of
    it on the disk; "call", N: in the N-th call of a function of the package. Not if nothing is said.

    Counted, not timed: how far a run comes in a second depends on what else the machine does.
    """
    left, process, replace = itertools.count(int(numbers[0]) if numbers else 0, -1), os.getpid(), os.replace

    def write(temporary, path):
        if next(left) == 1:
            os.truncate(temporary, int(os.path.getsize(temporary) * float(numbers[1])))
            os.kill(process, signal.SIGKILL)
        replace(temporary, path)

    def call(frame, event, _):
        if (event == "call" and frame.f_code.co_filename.startswith(PACKAGE) and os.getpid() == process
                and next(left) == 1):
            os.kill(process, signal.SIGKILL)

    if kind == "write":
        os.replace = write
    if kind == "call":
        sys.setprofile(call)


def main():
    """Processes are forked from one that has imported Jittor but computed nothing: a start costs nothing."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            doom(*line.split())
            go_on(sys.argv[1])
            os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
