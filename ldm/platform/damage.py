"""Finds compiled files that are incomplete or changed, after a full disk, an interrupted copy or a disk
error.

Loading one ends the process with a signal, which cannot be turned into a message. So they are found before
and removed; Jittor then compiles them again.
"""
from __future__ import annotations

import contextlib
import struct
from pathlib import Path

HEADER = 64                                 # bytes of an ELF header; the table of sections is at the end


def is_damaged(path: Path) -> bool:
    """Whether `path` is not a whole ELF file, or was written after its key. Jittor writes the key when the
    file is complete, so a later change is not Jittor's."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_mtime_ns > path.with_name(path.name + ".key").stat().st_mtime_ns:
            return True
    with open(path, "rb") as f:
        header = f.read(HEADER)
        size = f.seek(0, 2)
    if len(header) < HEADER or header[:6] != b"\x7fELF\x02\x01":
        return True
    start, = struct.unpack_from("<Q", header, 40)
    width, count = struct.unpack_from("<HH", header, 58)
    return start + width * count > size


def remove_damaged(folder: Path) -> list[Path]:
    """Remove damaged libraries and objects below Jittor's folder, and their keys, so that Jittor compiles
    them again. Returns the removed files."""
    removed = []
    for path in sorted(p for pattern in ("*.so", "*.o") for p in folder.rglob(pattern)):
        with contextlib.suppress(FileNotFoundError):         # another process was quicker
            if is_damaged(path):
                remove_compiled(path)
                removed.append(path)
    return removed


def remove_compiled(path: Path) -> None:
    path.with_name(path.name + ".key").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
