"""Reads the body of a request, with limits on bytes, on time, and on all requests together."""
from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from ldm.paint import limits
from ldm.paint.errors import Refusal


class Bodies:
    """Reads bodies. stopping: set when the server ends; nobody waits for an upload then."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self.stopping, self.held = stopping, 0

    async def read(self, request: Request, limit: int = limits.BODY) -> bytes:
        """The body. Refusal: 413 over `limit` bytes, 408 after BODY_SECONDS, 503 if all uploads together are
        too large or the server is ending."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_large(limit)
        reading = asyncio.ensure_future(self._read(request, limit))
        ending = asyncio.ensure_future(self.stopping.wait())
        try:
            done, _ = await asyncio.wait({reading, ending}, timeout=limits.BODY_SECONDS,
                                         return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            if not reading.done():
                reading.cancel()
                await asyncio.wait({reading})
        if reading in done:
            return reading.result()
        if ending in done:
            raise Refusal(503, "the server", "ends", "start it again")
        raise Refusal(408, "the upload", f"took more than {limits.BODY_SECONDS} seconds",
                      "send a smaller file")

    async def _read(self, request, limit):
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                self.held += len(part)
                if len(body) > limit:
                    raise too_large(limit)
                if self.held > limits.BODIES:
                    raise Refusal(503, "the server", "takes in other uploads at the moment",
                                  "try again in a moment", wait=2)
            return bytes(body)
        except ClientDisconnect:
            raise Refusal(400, "the upload", "was cut off", "send it again") from None
        finally:
            self.held -= len(body)

    async def json(self, request: Request) -> dict[str, Any]:
        """A JSON object. Raises Refusal 400 for anything else."""
        data = await self.read(request, limits.JOB_BODY)
        try:
            tree = json.loads(data.decode())
        except (ValueError, RecursionError):
            tree = None
        if not isinstance(tree, dict):
            raise Refusal(400, "the request", "is not a JSON object", "send a JSON object")
        return tree


def too_large(limit: int) -> Refusal:
    return Refusal(413, "the upload", f"is larger than {limit // 1024} KiB", "send a smaller file")
