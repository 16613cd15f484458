"""Runs a job in several processes; each has its own device or its share of the cores.

The parent loads no Jittor. It hands out the same batches that one process would make. So results do not
depend on the number of processes, except for the last bits of sums, which depend on the number of threads. If
a process dies, another one makes its batch, and a new process replaces it.
"""
from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import signal
from functools import partial
from multiprocessing import connection
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Optional, Sequence

from ldm.errors import UserError
from ldm.inference import job
from ldm.inference.job import Item, OnStep, Plan
from ldm.inference.makers import Maker
from ldm.inference.record import Writer
from ldm.platform.devices import visible_devices
from ldm.refusals import refusal

MOST = 1000                         # processes, more than any computer has cores
DEATHS = 10                         # after so many deaths in a row without a finished image, the job ends
PATIENCE = 10                       # seconds for a process to end
ATTEMPTS = 2                        # per image whose process dies; then it is a failure

Environment = dict                  # variables of a process
Make = Callable[..., Any]           # make(batch, on_step) -> (items made, failures), as job.make


def cores(processes: int) -> list[Environment]:
    """The environment variables of `count` processes that share the cores (or $OMP_NUM_THREADS of them)
    evenly."""
    if processes > MOST:
        raise UserError("--processes", f"is {processes}", f"choose {MOST} or fewer")
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdecimal() else len(os.sched_getaffinity(0))
    return [{"OMP_NUM_THREADS": str(max(1, threads // processes))}] * processes


def devices(gpus: int) -> list[Environment]:
    """The environments of so many processes, each of which sees one GPU. UserError where there are fewer."""
    found = visible_devices()
    if gpus > len(found):
        raise UserError("--gpus", f"is {gpus}", f"{len(found)} are here")
    return [{**share, "CUDA_VISIBLE_DEVICES": device} for share, device in zip(cores(gpus), found)]


def load(writer: Writer, maker: Maker, hashes: Mapping[str, str]) -> Make:
    """What a worker does first: it loads the model. hashes: of its weights."""
    return job.BatchSplitter(partial(job.make, pipeline=maker.load(hashes), writer=writer))


def _work(pipe, load, environment):
    """The main function of a worker: load, report it, then make the batches that arrive until there are no
    more."""
    os.environ.update(environment)
    try:
        make = load()
        pipe.send(("ready", None))
        while batch := pipe.recv():
            pipe.send(("made", make(batch, lambda steps: pipe.send(("steps", steps)))))
    except (EOFError, BrokenPipeError):                     # the parent is gone
        pass
    except Exception as e:
        if not (refused := refusal(e)):
            raise
        pipe.send(("error", refused))


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """A context: a process started inside ignores Ctrl-C, which reaches the whole group; its parent ends it.

    The parent handles Ctrl-C after the block, because an interrupted start would leave a process without
    work. The process inherits the signal mask. In the parent the mask is not enough: Python's handler runs if
    any thread of a library gets the signal.
    """
    held = []
    handler = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if held and callable(handler):
            handler(*held[0])


class Portion(NamedTuple):
    """A batch of items that one worker makes; `attempt` counts its tries from 1."""

    items: Sequence[Item]
    attempt: int


class Worker:
    """A process, its end of the pipe, and the portion that it is making."""

    def __init__(self, load: Callable[[], Make], environment: Environment) -> None:
        context = multiprocessing.get_context("spawn")      # a fork would share open devices and threads
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, load, environment))
        with interrupts_held():
            self.process.start()
        theirs.close()                                      # so that its death ends the pipe
        self.environment, self.ready = environment, False
        self.portion: Optional[Portion] = None
        self.steps = 0                                      # made of this portion

    def send(self, portion: Optional[Portion]) -> None:
        """The next portion; None: there are no more."""
        self.portion, self.steps = portion, 0
        with contextlib.suppress(BrokenPipeError):          # it died since: Pool.receive will see that
            self.pipe.send(portion and portion.items)

    def stop(self) -> str:
        """End the process at once. Returns how it ended, in words."""
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.is_alive():                         # it hangs, perhaps in a driver
            self.process.kill()
            self.process.join()
        self.pipe.close()
        code = self.process.exitcode or 0
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"


class Pool:
    """The workers of one job, and the portions that are waiting."""

    def __init__(self, plan: Plan, load: Callable[[], Make], batch_size: int,
                 environments: Sequence[Environment], steps: int, on_step: OnStep) -> None:
        self.plan, self.load, self.steps, self.on_step = plan, load, steps, on_step
        self.waiting = collections.deque(Portion(items, 1) for items in job.batches(plan.todo, batch_size))
        self.spare = len(environments)              # replacements left for processes that die before working
        self.deaths = 0                             # deaths since the last finished image
        self.workers = [Worker(load, environment) for environment in environments[:len(self.waiting)]]

    def run(self) -> Iterator[int]:
        """Yields the number of finished items, each time that some are finished."""
        try:
            while self.workers:
                ready = connection.wait([worker.pipe for worker in self.workers])
                for worker in [worker for worker in self.workers if worker.pipe in ready]:
                    if finished := self.receive(worker):
                        yield finished
        finally:
            for worker in self.workers:
                worker.stop()

    def receive(self, worker: Worker) -> int:
        """Handle one message of a worker, or its end. Returns the number of items that this finished."""
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, ConnectionError):
            return self.remove(worker)
        if kind == "error":
            raise content
        if kind == "steps":
            worker.steps += content
            self.on_step(content)
            return 0
        finished = 0
        if kind == "made" and worker.portion:
            made, failures = content
            self.deaths = 0
            self.plan.done.extend(made)
            self.plan.failures.extend(failures)
            finished = len(worker.portion.items)
        worker.ready = True
        worker.send(self.waiting.popleft() if self.waiting else None)
        return finished

    def remove(self, worker: Worker) -> int:
        """Handle the end of a worker: its portion is tried again image by image, or is a failure, and a new
        worker replaces it. Returns the number of items that this finished."""
        self.workers.remove(worker)
        worker.process.join(PATIENCE)
        how, finished = worker.stop(), 0
        self.deaths += bool(worker.portion)
        if self.deaths >= DEATHS:
            raise UserError("worker processes",
                            f"{DEATHS} in a row ended without an image, the last one {how}",
                            "run one process to see why, or use other devices")
        if not worker.ready:
            self.spare -= 1
            if self.spare < 0:
                raise UserError("worker processes", f"end before they work, the last one {how}",
                                "use fewer of them, which need less memory")
        elif worker.portion:
            self.on_step(-worker.steps)
            items, attempt = worker.portion
            if attempt < ATTEMPTS:
                self.waiting.extendleft(Portion([item], attempt + 1) for item in reversed(items))
            else:
                self.plan.failures.append(UserError(
                    items[0].mask, f"ended its process {ATTEMPTS} times, the last time {how}",
                    "the others were made without it"))
                self.on_step(self.steps)
                finished = 1
        if self.waiting:
            self.workers.append(Worker(self.load, worker.environment))
        return finished


def run(plan: Plan, load: Callable[[], Make], batch_size: int, environments: Sequence[Environment],
        steps: int, on_step: OnStep = lambda steps: None) -> Iterator[int]:
    """As job.run, in one process for each of `environments`. `load()` is called in each process and must be a
    function that can be pickled. steps: of an image.

    A UserError in a worker ends the job, as it would in one process, unless it is about an image that cannot
    be read. An image whose process dies twice is added to `plan.failures`.
    """
    return Pool(plan, load, batch_size, environments, steps, on_step).run()
