"""Reading regular files only, and writing so that a name never stands for half a file."""
import contextlib
import fcntl
import hashlib
import os
import stat
from pathlib import Path

from ldm.errors import UserError

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket",
         stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def kind_of(path):
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


def open_regular(path, wanted="a file"):
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


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; rename it over `path` when the block ends well, else remove it.

    The temporary name keeps the suffix, since writers choose the format by it, and starts with a
    dot, so that a listing of results never shows it. An OSError (no permission, disk full)
    becomes a UserError naming `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())                  # the rename must not reach the disk before the data
        os.replace(temporary, path)
    except OSError as e:
        raise UserError(path, f"cannot be written ({e.strerror or e})",
                        "a writable folder with free space is needed")
    finally:
        with contextlib.suppress(OSError):        # where nothing could be made there is nothing to remove
            temporary.unlink()


def check_writable(folder):
    """Make `folder` and fail now, in the user's words, if nothing can be written there."""
    folder = Path(folder)
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise UserError(folder, f"cannot be written ({e.strerror or e})", "a writable folder is needed")


@contextlib.contextmanager
def alone(folder):
    """Hold `folder` (made if need be) against other processes that ask for it, UserError if one has it; half
    files of `replacing` that a killed one left there are removed. The lock ends with this process: a process
    forked from it, which may outlive it by a moment, does not hold it."""
    check_writable(folder)
    with open(Path(folder) / ".lock", "w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(folder, "is in use by another process", "wait for that one or end it")
        for half in Path(folder).glob(".*.tmp.*"):
            half.unlink()
        yield


def sha256(path):
    """Hash of a file's content, 16 digits; a file that cannot be read is a UserError."""
    digest = hashlib.sha256()
    try:
        with open_regular(path) as f:
            for block in iter(lambda: f.read(1 << 20), b""):
                digest.update(block)
    except OSError as e:
        raise UserError(path, f"cannot be read ({e.strerror or e})", "a file is needed")
    return digest.hexdigest()[:16]
