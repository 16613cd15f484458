"""A job in several processes: each has a device of its own or its share of the cores.

The parent loads no Jittor; it deals out the batches that one process would make, so that results do not
depend on the number of processes (but for the last bits of sums, which depend on each one's threads). A
process that dies loses its batch to another, and is replaced.
"""
import collections
import contextlib
import multiprocessing
import os
import signal
from functools import partial
from multiprocessing import connection
from typing import NamedTuple

from ldm.errors import UserError
from ldm.inference import job
from ldm.platform.devices import visible_devices

MOST = 1000                         # processes, more than any computer has cores
DEATHS = 10                         # of processes in a row, without an image made between them: the job ends
PATIENCE = 10                       # seconds for a process that has no more to do, or was told to end
ATTEMPTS = 2                        # at an image whose process dies; then the image is a failure


def cores(processes):
    """The environments of so many processes, which share the cores (or $OMP_NUM_THREADS of them) evenly."""
    if processes > MOST:
        raise UserError("--processes", f"is {processes}", f"{MOST} at most are possible")
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdecimal() else len(os.sched_getaffinity(0))
    return [{"OMP_NUM_THREADS": str(max(1, threads // processes))}] * processes


def devices(gpus):
    """The environments of so many processes, each of which sees one GPU. UserError where there are fewer."""
    found = visible_devices()
    if gpus > len(found):
        raise UserError("--gpus", f"is {gpus}", f"{len(found)} are here")
    return [{**share, "CUDA_VISIBLE_DEVICES": device} for share, device in zip(cores(gpus), found)]


def load(model, settings, seed, writer, memory_limit=None, precision="fp32", hashes=None):
    """What a worker begins with: the model -> make(batch, on_step), as job.make."""
    from ldm.inference import Pipeline
    pipeline = Pipeline.load(model, settings, memory_limit=memory_limit, precision=precision,
                             hashes=hashes)
    return job.Halving(partial(job.make, pipeline=pipeline, seed=seed, writer=writer))


def _work(pipe, load, environment):
    """A worker's life: load, say so, then make the batches that come until there are no more."""
    os.environ.update(environment)
    try:
        make = load()
        pipe.send(("ready", None))
        while batch := pipe.recv():
            pipe.send(("made", make(batch, lambda steps: pipe.send(("steps", steps)))))
    except UserError as e:
        pipe.send(("error", e))
    except (EOFError, BrokenPipeError):                     # the parent is gone
        pass


@contextlib.contextmanager
def interrupts_held():
    """A process started inside never sees Ctrl-C, which reaches the whole group: its parent ends it. The
    parent heeds it at the end: a start cut off leaves a process that has not been told what to do.

    The process inherits the mask. Here that is not enough, since Python's handler runs whichever thread of
    the libraries' gets the signal.
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


class Batch(NamedTuple):
    items: list
    attempt: int


class Worker:
    """A process, its end of the pipe, and the batch that it has."""

    def __init__(self, load, environment):
        context = multiprocessing.get_context("spawn")      # a fork would share open devices and threads
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, load, environment))
        with interrupts_held():
            self.process.start()
        theirs.close()                                      # so that its death ends the pipe
        self.environment, self.ready, self.batch, self.steps = environment, False, None, 0

    def hand(self, batch):
        """The next batch; None: there are no more."""
        self.batch, self.steps = batch, 0
        with contextlib.suppress(BrokenPipeError):          # it died since: that is heard next
            self.pipe.send(batch and batch.items)

    def end(self):
        """End the process, whatever it does. -> how it ended, in words."""
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.is_alive():                         # it hangs, perhaps in a driver
            self.process.kill()
            self.process.join()
        self.pipe.close()
        code = self.process.exitcode
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"


class Crew:
    """The workers of one job and what is still to be dealt out."""

    def __init__(self, plan, load, batch_size, environments, steps, on_step):
        self.plan, self.load, self.steps, self.on_step = plan, load, steps, on_step
        self.waiting = collections.deque(Batch(items, 1) for items in job.batches(plan.todo, batch_size))
        self.spare = len(environments)                      # replacements for those that die before they work
        self.deaths = 0                                     # since an image was made
        self.workers = [Worker(load, environment) for environment in environments[:len(self.waiting)]]

    def run(self):
        """Yields how many items were dealt with, each time that some were."""
        try:
            while self.workers:
                heard = connection.wait([worker.pipe for worker in self.workers])
                for worker in [worker for worker in self.workers if worker.pipe in heard]:
                    if dealt := self.hear(worker):
                        yield dealt
        finally:
            for worker in self.workers:
                worker.end()

    def hear(self, worker):
        """Take one message of a worker, or its end. -> how many items it deals with."""
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, ConnectionError):
            return self.bury(worker)
        if kind == "error":
            raise content
        if kind == "steps":
            worker.steps += content
            self.on_step(content)
            return 0
        dealt = 0
        if kind == "made":
            made, failures = content
            self.deaths = 0
            self.plan.done.extend(made)
            self.plan.failures.extend(failures)
            dealt = len(worker.batch.items)
        worker.ready = True
        worker.hand(self.waiting.popleft() if self.waiting else None)
        return dealt

    def bury(self, worker):
        """A worker has ended: its batch waits again, image by image, or is a failure, and another takes its
        place. -> how many items that deals with."""
        self.workers.remove(worker)
        worker.process.join(PATIENCE)
        how, dealt = worker.end(), 0
        self.deaths += bool(worker.batch)
        if self.deaths >= DEATHS:
            raise UserError("worker processes", f"{DEATHS} in a row ended, no image made, the last one {how}",
                            "run one process to see why, or use other devices")
        if not worker.ready:
            self.spare -= 1
            if self.spare < 0:
                raise UserError("worker processes", f"end before they work, the last one {how}",
                                "fewer of them need less memory")
        elif worker.batch:
            self.on_step(-worker.steps)
            items, attempt = worker.batch
            if attempt < ATTEMPTS:
                self.waiting.extendleft(Batch([item], attempt + 1) for item in reversed(items))
            else:
                self.plan.failures.append(UserError(
                    items[0].mask, f"ended its process {ATTEMPTS} times, the last time {how}",
                    "the others were made without it"))
                self.on_step(self.steps)
                dealt = 1
        if self.waiting:
            self.workers.append(Worker(self.load, worker.environment))
        return dealt


def run(plan, load, batch_size, environments, steps, on_step=lambda steps: None):
    """As job.run, in one process for each of `environments`. `load()` -> make(batch, on_step), as job.make;
    it is called in each process and must be a function that can be pickled. steps: of an image.

    A UserError in a worker other than an unreadable image ends the job, as it would in one process. An image
    whose process dies twice is added to `plan.failures`.
    """
    return Crew(plan, load, batch_size, environments, steps, on_step).run()
