"""Safe printing: no control characters from file names reach the terminal, and lines have a limit."""
from __future__ import annotations

import logging
import re
import sys
import unicodedata
from typing import Any

WORD, LINE = 200, 2000                  # longest word and line of an error or a warning, in characters
BEYOND_ASCII = re.compile(r"[^\n\t -~]")


class Closed(Exception):
    """The reader of standard output has ended, as in `tool | head`."""


def _escaped(match: re.Match) -> str:
    """Escape a character that is not printable (control, text direction, half of a surrogate pair), as \\x1b
    or \\u202e. Bytes of a file name that is not UTF-8 are shown as bytes."""
    character = match[0]
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:        # Python's representation of such a byte
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: str) -> str:
    """`text` with all characters escaped that are not printable, except line ends and tabs."""
    return BEYOND_ASCII.sub(_escaped, text)


def _cut(text: str, length: int) -> str:
    tail = (length - 3) // 3
    return text if len(text) <= length else f"{text[:length - 3 - tail]}...{text[-tail:]}"


def line(text: object) -> str:
    """`text` as one printable line; long words and long lines are shortened in the middle."""
    return _cut(" ".join(_cut(printable(word), WORD) for word in str(text).split()), LINE)


class Output:
    """Standard output that escapes as `printable` does and raises Closed if its reader has ended."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):              # an ASCII terminal shows other letters as codes
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
    """Prints log messages of `ldm` to standard error as `warning: ...`."""

    def emit(self, record: logging.LogRecord) -> None:
        print("warning: " + line(record.getMessage()), file=sys.stderr)
