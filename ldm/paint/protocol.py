"""What the web process and the model process say to each other: frames of pickled dicts on a socket pair.

To the model process: `job`, `cancel`, `ping`, and the questions `label` and `check` with a number. From it:
`loading`, `compiling`, `ready`, `pong`, `step`, `preview`, and one of `done`, `failed`, `cancelled` for each
job; `answer` for each question; `fatal` where it cannot work at all. Both ends are this program, so pickle is
safe here.
"""
from __future__ import annotations

import asyncio
import pickle
import select
import socket
import struct
from typing import Any

from ldm.errors import UserError

HEADER = struct.Struct("!I")


def frame(kind: str, **content: Any) -> bytes:
    """A message as bytes: its length, then the pickled dict."""
    data = pickle.dumps({"kind": kind, **content}, protocol=4)
    return HEADER.pack(len(data)) + data


def parts(error: UserError) -> dict[str, str]:
    """A UserError as the page shows it."""
    what, problem, remedy, _ = error.args
    return {"what": str(what), "is": problem, "possible": remedy or ""}


class Pipe:
    """The model process's end. It blocks, because Jittor's process has one thread only."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, kind: str, **content: Any) -> None:
        self.sock.sendall(frame(kind, **content))

    def waiting(self) -> bool:
        """Is there a message, or the end of the other process?"""
        return bool(select.select([self.sock], [], [], 0)[0])

    def receive(self) -> dict[str, Any]:
        """The next message. Raises EOFError when the other process has ended."""
        return pickle.loads(self._exactly(HEADER.unpack(self._exactly(HEADER.size))[0]))

    def _exactly(self, count):
        data = bytearray()
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


async def receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message of the model process. Raises EOFError when it has ended."""
    try:
        size, = HEADER.unpack(await reader.readexactly(HEADER.size))
        return pickle.loads(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise EOFError from None
