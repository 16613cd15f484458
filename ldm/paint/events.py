"""A running job as Server-Sent Events: numbered, resumable by Last-Event-ID; the stream ends with the job."""
from __future__ import annotations

import asyncio
import json
from typing import Any, AsyncIterator

from ldm.paint import limits
from ldm.paint.jobs import ENDED, Job


def event(kind: str, data: dict[str, Any], number: int) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


async def stream(job: Job, after: int, stopping: asyncio.Event) -> AsyncIterator[str]:
    """The events after number `after`, those that are there at once. stopping: set when the server ends."""
    job.streams += 1
    try:
        yield "retry: 1000\n\n"
        while True:
            news = job.news
            for number, kind, data in job.events(after):
                yield event(kind, data, number)
                after = number
            if job.state in ENDED and after >= job.count:
                return
            if stopping.is_set():
                yield event("closing", {}, after)
                return
            if not await happens(news, stopping, limits.STREAM_COMMENT):
                yield ": still here\n\n"
    finally:
        job.streams -= 1
        job.touch()


async def happens(one: asyncio.Event, other: asyncio.Event, seconds: float) -> bool:
    """Wait until one of two events is set. False if neither was set within `seconds`."""
    tasks = [asyncio.ensure_future(one.wait()), asyncio.ensure_future(other.wait())]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in tasks:
            task.cancel()
