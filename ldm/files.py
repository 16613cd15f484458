"""File access: only regular files are read; files are written under a temporary name, then renamed."""
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
from typing import IO, BinaryIO, Union

from ldm.errors import UserError

Name = Union[str, "os.PathLike[str]"]

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket",
         stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
TEMPORARY = re.compile(r"\..*\.[0-9a-f]+\.tmp(\.[^.]*)?", re.DOTALL)    # the names that `replacing` makes


def kind_of(path: Name) -> str | None:
    """The kind of thing at `path`: "file", "folder", "FIFO", "socket", "device", or None if nothing exists.

    Raises UserError if the kind cannot be determined: no permission, a name that is too long, circular
    links. (Path.exists and Path.is_dir raise OSError there, up to Python 3.11.)
    """
    try:
        return KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "device")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:                  # ValueError: a NUL in the name
        raise UserError(path, f"cannot be used ({getattr(e, 'strerror', None) or e})",
                        "give another path, or make this one readable") from None


def open_regular(path: Name, wanted: str = "a file") -> BinaryIO:
    """Open a regular file to read its bytes.

    wanted: what the error asks for, such as "a YAML file". Raises UserError if the file cannot be read or is
    not a regular file. A FIFO or device is closed at once; it is never read and never waited for.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise UserError(path, f"cannot be read ({getattr(e, 'strerror', None) or e})",
                        f"give {wanted}") from None
    kind = KINDS.get(stat.S_IFMT(os.fstat(number).st_mode), "device")
    if kind != "file":
        os.close(number)
        raise UserError(path, f"cannot be read (it is a {kind})", f"give {wanted}")
    return os.fdopen(number, "rb")


def check_target(path: Name) -> None:
    """Raise UserError if no file can be written at `path`: an empty name, a folder, device, FIFO or socket.

    A symbolic link is accepted: the new file replaces the link, and the link's target stays unchanged.
    """
    remedy = "give the name of a file to write"
    if not os.fspath(path) or Path(path).name in ("", "..") or os.fsdecode(path).endswith("/"):
        raise UserError(os.fspath(path) or "''", "is not a file name", remedy)
    try:
        kind = KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "file")       # "file": also a link
    except FileNotFoundError:
        return
    except (OSError, ValueError) as e:
        raise UserError(path, f"cannot be written ({getattr(e, 'strerror', None) or e})",
                        "choose a writable folder") from None
    if kind != "file":
        raise UserError(path, f"is a {kind}", remedy)


def refuse_sources(target: Name, sources: Iterable[Name]) -> None:
    """Raise UserError if the output file `target` is also an input, by another name or through a link too."""
    for source in sources:
        with contextlib.suppress(OSError, ValueError):      # a file that does not exist cannot be lost
            if os.path.samefile(target, source):
                raise UserError(target, f"is also an input ({source})", "write to another file")


@contextlib.contextmanager
def replacing(path: Name) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, else remove it.

    The temporary name keeps the suffix, because writers choose the format by it. It starts with a dot, so
    that lists of results do not show it. It has a random part and is created exclusively, so that nobody can
    place a link there. An OSError (no permission, disk full) becomes a UserError about `path`; a path that
    `check_target` refuses is a UserError too.
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
                        "choose a writable folder with free space") from e
    finally:
        with contextlib.suppress(OSError):        # after a rename, or if it was never created
            temporary.unlink()


def remove_half_files(folder: Name) -> None:
    """Remove temporary files that a killed `replacing` left in `folder`. Call it with the folder `locked`."""
    for path in Path(folder).glob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name) and not path.is_dir():
            path.unlink()


def check_writable(folder: Name) -> None:
    """Create `folder`; raise UserError now, before long work, if nothing can be written there."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe = Path(folder) / f".probe.{secrets.token_hex(8)}"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW))
        probe.unlink()
    except FileExistsError:
        raise UserError(folder, "is not a folder", "choose a writable folder") from None
    except (OSError, ValueError) as e:
        raise UserError(folder, f"cannot be written ({getattr(e, 'strerror', None) or e})",
                        "choose a writable folder") from None


def open_beside(path: Name, flags: int = os.O_RDWR) -> int:
    """A descriptor of the file `path`, for locks and logs, which are written in place.

    The file is created if it does not exist, and never emptied. Raises OSError for a link, which could lead
    anywhere, and for anything that is not a regular file.
    """
    place = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(place).st_mode):
        os.close(place)
        raise OSError("is not a file")
    return place


def appending(path: Name) -> IO[str]:
    """`path` opened to append text. Raises OSError as `open_beside` does."""
    return os.fdopen(open_beside(path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8")


@contextlib.contextmanager
def locked(folder: Name) -> Iterator[None]:
    """Hold an exclusive lock on `folder`, which is created if it does not exist.

    Raises UserError if another process holds the lock. Temporary files that a killed process left there are
    removed. The lock ends with this process; forked children, which may live longer, do not hold it.
    """
    check_writable(folder)
    path = Path(folder) / ".lock"
    try:
        lock = os.fdopen(open_beside(path), "r+")
    except OSError as e:
        raise UserError(path, f"cannot be used as a lock ({e.strerror or e})", "remove it") from e
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(folder, "is in use by another process", "wait for it or stop it") from None
        except OSError as e:
            raise UserError(path, f"cannot be locked ({e.strerror or e})",
                            "use a file system that supports locks") from e
        remove_half_files(folder)
        yield


def sha256(path: Name, digits: int = 16) -> str:
    """SHA-256 of a file's content, its first `digits` hexadecimal digits. Raises UserError if unreadable."""
    digest = hashlib.sha256()
    with open_regular(path) as f:
        try:
            for block in iter(lambda: f.read(1 << 20), b""):
                digest.update(block)
        except OSError as e:
            raise UserError(path, f"cannot be read ({e.strerror or e})", "give a readable file") from e
    return digest.hexdigest()[:digits]
