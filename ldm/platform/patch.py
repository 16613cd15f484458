"""A patch of Jittor's files: what it changes, why, and on which machines it is needed.

Nobody's installed Jittor is changed: patches go into a copy in the cache (ldm/platform/jittor_copy.py).
"""
from __future__ import annotations

import dataclasses
import hashlib
from typing import Callable

VERSION = "1.3.11.0"                            # the version of Jittor that all patches are made for


@dataclasses.dataclass(frozen=True)
class Facts:
    """What decides which patches this process needs. Versions are tuples of numbers, such as (13, 0, 88).

    `mpi`: this process is one of an MPI run. `cuda`, `cudnn`: what Jittor will be compiled against, None
    where that is nothing.
    """
    python: tuple[int, ...]
    numpy: tuple[int, ...]
    mpi: bool = False
    cuda: tuple[int, ...] | None = None
    cudnn: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Patch:
    """Changes of one file.

    `path`: the file, below the folder that holds the packages jittor and jittor_utils.
    `sha256`: the hash of the file in Jittor VERSION; another file is refused.
    `edits`: pairs (before, after) of text; each `before` may occur several times. Several patches may change
    one file, each at its own places.
    `why`: one line for the user.
    `needed`: says for `Facts` whether Jittor fails, or computes wrong numbers, without this patch.
    `everywhere`: the patch is right on every machine, so it is part of every copy that is made. This keeps
    the number of different copies small, and each one is compiled for minutes.
    """
    path: str
    sha256: str
    edits: tuple[tuple[str, str], ...]
    why: str
    needed: Callable[[Facts], bool]
    everywhere: bool = False

    def is_original(self, content: bytes) -> bool:
        return hashlib.sha256(content).hexdigest() == self.sha256

    def forth(self, content: bytes) -> bytes:
        """The patched content; ValueError if a text to replace is missing."""
        for before, after in self.edits:
            if before.encode() not in content:
                raise ValueError(f"{self.path}: {before!r} is not there")
            content = content.replace(before.encode(), after.encode())
        return content

    def back(self, content: bytes) -> bytes:
        """The content before `forth`."""
        for before, after in self.edits:
            content = content.replace(after.encode(), before.encode())
        return content
