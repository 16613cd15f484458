"""Reading regular files only, and writing so that a name never stands for half a file."""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Union

from ldm.errors import UserError

Name = Union[str, "os.PathLike[str]"]

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket",
         stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
HALF = re.compile(r"\..*\.[0-9a-f]+\.tmp(\.[^.]*)?", re.DOTALL)     # the names that `replacing` makes


def kind_of(path: Name) -> str | None:
    """What `path` leads to: "file", "folder", "FIFO", "socket", "device", or None where nothing is there.

    UserError where that cannot be known: no permission, a name that is too long, links in a circle. (Path's
    own `exists` and `is_dir` raise an OSError there, up to Python 3.11.)
    """
    try:
        return KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "device")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:                  # ValueError: a NUL in the name
        raise UserError(path, f"cannot be used ({getattr(e, 'strerror', None) or e})",
                        "give another path, or the permission to read this one") from None


def open_regular(path: Name, wanted: str = "a file") -> IO[bytes]:
    """A regular file opened to read its bytes. UserError, which says that `wanted` is needed, for anything
    else. A FIFO or a device is looked at and closed, never waited for and never read."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise UserError(path, f"cannot be read ({getattr(e, 'strerror', None) or e})",
                        f"{wanted} is needed") from None
    kind = KINDS.get(stat.S_IFMT(os.fstat(number).st_mode), "device")
    if kind != "file":
        os.close(number)
        raise UserError(path, f"cannot be read (it is a {kind})", f"{wanted} is needed")
    return os.fdopen(number, "rb")


def check_target(path: Name) -> None:
    """UserError if `path` cannot be the name of a file to write: an empty one, a folder, device, FIFO or
    socket. A symbolic link is no fault: what is written takes its place, and what it led to stays."""
    wanted = "the name of a file to write is needed"
    if not os.fspath(path) or Path(path).name in ("", ".."):
        raise UserError(os.fspath(path) or "''", "is no name of a file", wanted)
    try:
        kind = KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "file")       # "file": also a link
    except FileNotFoundError:
        return
    except (OSError, ValueError) as e:
        raise UserError(path, f"cannot be written ({getattr(e, 'strerror', None) or e})",
                        "a writable folder is needed") from None
    if kind != "file":
        raise UserError(path, f"is a {kind}", wanted)


def refuse_sources(target: Name, sources: Iterable[Name]) -> None:
    """UserError if the file `target`, which is to be written, is one of `sources`, which are read: by another
    name or through a link too."""
    for source in sources:
        with contextlib.suppress(OSError, ValueError):      # what is not there cannot be lost
            if os.path.samefile(target, source):
                raise UserError(target, f"is {source}, which is read", "write to another file")


@contextlib.contextmanager
def replacing(path: Name) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block ends well, else remove it.

    The temporary name keeps the suffix, since writers choose the format by it, and starts with a
    dot, so that a listing of results never shows it. Nobody can know it before: it has a random part, and
    the empty file that is there is new. An OSError (no permission, disk full) becomes a UserError naming
    `path`, and so does a path that `check_target` refuses.
    """
    check_target(path)
    path = Path(path)
    stem, suffix = os.fsdecode(os.fsencode(path.stem)[:40]), path.suffix[:20]       # names have 255 bytes
    temporary = path.with_name(f".{stem}.{secrets.token_hex(8)}.tmp{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())                  # the rename must not reach the disk before the data
        os.replace(temporary, path)
    except OSError as e:
        raise UserError(path, f"cannot be written ({e.strerror or e})",
                        "a writable folder with free space is needed") from e
    finally:
        with contextlib.suppress(OSError):        # where nothing could be made there is nothing to remove
            temporary.unlink()


def remove_half_files(folder: Name) -> None:
    """Remove what a killed `replacing` left in `folder`. None may be at work there, see `locked`."""
    for path in Path(folder).glob(".*.tmp*"):
        if HALF.fullmatch(path.name) and not path.is_dir():
            path.unlink()


def check_writable(folder: Name) -> None:
    """Make `folder` and fail now, in the user's words, if nothing can be written there."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe = Path(folder) / f".probe.{secrets.token_hex(8)}"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW))
        probe.unlink()
    except FileExistsError:
        raise UserError(folder, "is no folder", "a writable folder is needed") from None
    except (OSError, ValueError) as e:
        raise UserError(folder, f"cannot be written ({getattr(e, 'strerror', None) or e})",
                        "a writable folder is needed") from None


def open_beside(path: Name, flags: int = os.O_RDWR) -> int:
    """A descriptor of the file `path`, made if need be and never emptied: for locks and logs, which are
    written in place. A link, or anything that is no file, is an OSError: it could lead anywhere."""
    place = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(place).st_mode):
        os.close(place)
        raise OSError("is no file")
    return place


def appending(path: Name) -> IO[str]:
    """`path` opened to write text at its end. OSError as in `open_beside`."""
    return os.fdopen(open_beside(path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8")


@contextlib.contextmanager
def locked(folder: Name) -> Iterator[None]:
    """Hold `folder` (made if need be) against other processes that ask for it, UserError if one has it; half
    files of `replacing` that a killed one left there are removed. The lock ends with this process: a process
    forked from it, which may outlive it by a moment, does not hold it."""
    check_writable(folder)
    path = Path(folder) / ".lock"
    try:
        lock = os.fdopen(open_beside(path), "r+")
    except OSError as e:
        raise UserError(path, f"cannot be a lock ({e.strerror or e})", "remove it") from e
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(folder, "is in use by another process", "wait for that one or end it") from None
        except OSError as e:
            raise UserError(path, f"cannot be locked ({e.strerror or e})",
                            "a file system with locks is needed") from e
        remove_half_files(folder)
        yield


def sha256(path: Name, digits: int = 16) -> str:
    """Hash of a file's content, as many of its 64 hexadecimal digits; a file that cannot be read is a
    UserError."""
    digest = hashlib.sha256()
    with open_regular(path) as f:
        try:
            for block in iter(lambda: f.read(1 << 20), b""):
                digest.update(block)
        except OSError as e:
            raise UserError(path, f"cannot be read ({e.strerror or e})", "a file is needed") from e
    return digest.hexdigest()[:digits]
