"""Writing files so that a name never stands for half a file."""
import contextlib
import fcntl
import hashlib
import os
from pathlib import Path

from ldm.errors import UserError


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
        with open(path, "rb") as f:
            for block in iter(lambda: f.read(1 << 20), b""):
                digest.update(block)
    except OSError as e:
        raise UserError(path, f"cannot be read ({e.strerror or e})", "a file is needed")
    return digest.hexdigest()[:16]
