"""Jobs and their queue: the order of waiting jobs, and jobs whose client has left. It uses no process and no
HTTP."""
from __future__ import annotations

import asyncio
import math
import secrets
import time
from typing import Any, Callable, NamedTuple, Optional

from ldm.paint import limits
from ldm.paint.errors import Refusal

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)


class Order(NamedTuple):
    """A checked request of a client. rounds: as plain values; preset: its name, or None."""
    client: str
    mask: Any                           # Mask
    reference: Any                      # Reference or None
    seed: int
    name: str
    variations: int
    rounds: dict[str, Any]
    preset: Optional[str]
    steps: int
    seconds: Optional[float]            # expected; None while nothing was measured


class Job:
    """An order in the queue or running. `say` adds an event; `events` returns the newest of each kind after a
    number."""

    def __init__(self, order: Order) -> None:
        self.id, self.order = secrets.token_hex(16), order
        self.state, self.attempts, self.stepped, self.compiling = QUEUED, 0, False, False
        self.count, self.latest = 0, {}         # type: int, dict[str, tuple[int, dict[str, Any]]]
        self.news = asyncio.Event()
        self.streams, self.seen = 0, time.monotonic()
        self.started = self.ended = 0.0
        self.cancelling = False

    def say(self, event: str, **data: Any) -> None:
        """Add an event. Only the newest of each kind is kept; a late or slow reader needs no others."""
        self.count += 1
        self.latest[event] = self.count, data
        self.news.set()
        self.news = asyncio.Event()

    def events(self, after: int) -> list[tuple[int, str, dict[str, Any]]]:
        return sorted((number, kind, data) for kind, (number, data) in self.latest.items() if number > after)

    def end(self, state: str, **data: Any) -> None:
        """End as done, failed or cancelled, and say so."""
        self.state, self.ended = state, time.monotonic()
        self.latest.pop("preview", None)
        self.order = self.order._replace(mask=None, reference=None)     # an ended job holds no memory
        self.say(state, **data)

    def touch(self) -> None:
        self.seen = time.monotonic()

    def is_left(self) -> bool:
        """Whether the client has gone. An open tab has a stream, or polls."""
        return not self.streams and time.monotonic() - self.seen > limits.ABANDONED_SECONDS

    def step_seconds(self, done: int, total: int) -> Optional[float]:
        """Seconds to go, from the steps so far."""
        passed = time.monotonic() - self.started
        return round(passed / done * (total - done), 2) if done else self.order.seconds


class Queue:
    """All jobs. FIFO over clients: each has at most one that runs and one that waits.

    changed: called when a job was added or ended, so that idle model processes are given work.
    stop: called to cancel a running job; it stays in `running` until it has ended.
    """

    def __init__(self, changed: Callable[[], None], stop: Callable[[Job], None]) -> None:
        self.changed, self.stop = changed, stop
        self.jobs: dict[str, Job] = {}
        self.waiting: list[Job] = []
        self.running: list[Job] = []

    def add(self, order: Order) -> Job:
        """Refusal 429 where too many wait. A newer job of a client takes its waiting one's place."""
        job = Job(order)
        older = next((j for j in self.waiting if j.order.client == order.client), None)
        if older:
            self.waiting[self.waiting.index(older)] = job
            older.end(CANCELLED, reason="a newer job of this page took its place")
        elif len(self.waiting) + len(self.running) >= limits.JOBS:
            raise Refusal(429, "the queue", f"holds {limits.JOBS} jobs", "try again in a while",
                          wait=max(1, math.ceil(self.seconds_before(len(self.waiting)) or 5)))
        else:
            self.waiting.append(job)
        self.jobs[job.id] = job
        self.tell_positions()
        self.changed()
        return job

    def next(self) -> Optional[Job]:
        """The first waiting job whose client has none running; it runs from now on."""
        busy = {job.order.client for job in self.running}
        job = next((j for j in self.waiting if j.order.client not in busy), None)
        if job is None:
            return None
        self.waiting.remove(job)
        self.running.append(job)
        job.state, job.started, job.stepped, job.compiling = RUNNING, time.monotonic(), False, False
        job.attempts += 1
        self.tell_positions()
        return job

    def end(self, job: Job, state: str, **data: Any) -> None:
        """A job has ended: as done, failed or cancelled."""
        for jobs in (self.waiting, self.running):
            if job in jobs:
                jobs.remove(job)
        if job.state not in ENDED:
            job.end(state, **data)
        self.tell_positions()
        self.changed()

    def again(self, job: Job) -> None:
        """Put a running job back to the front: its process ended before the first step."""
        self.running.remove(job)
        self.waiting.insert(0, job)
        job.state = QUEUED
        self.tell_positions()

    def cancel(self, job: Job) -> None:
        """A waiting job ends at once, a running one at its next step."""
        if job in self.waiting:
            self.end(job, CANCELLED)
        elif job in self.running:
            job.cancelling = True
            self.stop(job)

    def sweep(self) -> None:
        """Drop jobs whose client has gone, and forget jobs that are too old."""
        now = time.monotonic()
        for job in [*self.waiting, *self.running]:
            if job.is_left():
                self.cancel(job)
        ended = [job for job in self.jobs.values() if job.state in ENDED]
        for i, job in enumerate(ended):
            if now - job.ended > limits.RESULT_SECONDS or i < len(ended) - limits.ENDED_JOBS:
                del self.jobs[job.id]

    def position(self, job: Job) -> int:
        """How many jobs come before it."""
        if job not in self.waiting:
            return 0
        return self.waiting.index(job) + len(self.running)

    def seconds_before(self, waiting: int) -> Optional[float]:
        """Until the first so many waiting jobs are done; None where nothing was measured."""
        ahead = [(j, max(0.0, (j.order.seconds or 0) - (time.monotonic() - j.started))) for j in self.running]
        ahead += [(j, j.order.seconds or 0) for j in self.waiting[:waiting]]
        if any(job.order.seconds is None for job, _ in ahead):
            return None
        return round(sum(seconds for _, seconds in ahead), 2)

    def seconds(self, job: Job) -> Optional[float]:
        """Until a waiting job is done; None without a measurement."""
        before = self.seconds_before(self.waiting.index(job)) if job in self.waiting else 0.0
        return None if before is None or job.order.seconds is None else round(before + job.order.seconds, 2)

    def tell_positions(self) -> None:
        for job in self.waiting:
            place = {"position": self.position(job), "seconds": self.seconds(job)}
            if job.latest.get("queued", (0, None))[1] != place:
                job.say("queued", **place)
