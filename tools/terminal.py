"""What tools print: nothing in it acts on a terminal, whatever names files have, and no line is endless."""
from __future__ import annotations

import logging
import re
import sys
import unicodedata
from typing import Any

WORD, LINE = 200, 2000                  # longest of these that an error or a warning shows
BEYOND_ASCII = re.compile(r"[^\n\t -~]")


class Closed(Exception):
    """Nobody reads standard output any more, as in `tool | head`."""


def _escaped(match):
    """A character that is not for reading (control, direction of writing, half of a surrogate pair) as \\x1b
    or \\u202e; the bytes of a name that is no UTF-8 as bytes."""
    character = match[0]
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:        # how Python stands for such a byte
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: str) -> str:
    """`text` with every character that is not for reading escaped, but for line ends and tabs."""
    return BEYOND_ASCII.sub(_escaped, text)


def _cut(text, length):
    tail = (length - 3) // 3
    return text if len(text) <= length else f"{text[:length - 3 - tail]}...{text[-tail:]}"


def line(text: object) -> str:
    """`text` on one printable line, long words and a long whole cut in their middle."""
    return _cut(" ".join(_cut(printable(word), WORD) for word in str(text).split()), LINE)


class Output:
    """Standard output that prints as `printable` says and raises Closed where nobody reads it."""

    def __init__(self, stream):
        self._stream = stream
        if hasattr(stream, "reconfigure"):              # an ASCII terminal shows other letters as numbers
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        try:
            return self._stream.write(printable(text))
        except BrokenPipeError:
            raise Closed from None

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise Closed from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Warnings(logging.Handler):
    """Prints what `ldm` logs as lines `warning: ...` on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print("warning: " + line(record.getMessage()), file=sys.stderr)
