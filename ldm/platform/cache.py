"""Where Jittor keeps what it compiled, and where this project keeps what belongs to it."""
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Iterator

from ldm.errors import UserError
from ldm.files import open_beside, replacing

REMEDY = "set JITTOR_HOME to a folder of yours with 1 GB free: Jittor compiles there"


def cache_home() -> Path:
    """The folder that holds `.cache/jittor`, by Jittor's rule: $JITTOR_HOME, a saved choice, $HOME."""
    if os.environ.get("JITTOR_HOME"):
        return Path(os.environ["JITTOR_HOME"]).absolute()
    saved = Path.home() / ".cache" / "jittor" / "config.json"
    if not saved.exists():
        return Path.home()
    try:
        return Path(json.loads(saved.read_text()).get("JITTOR_HOME", Path.home()))
    except OSError as e:
        raise UserError(saved, f"cannot be read ({e.strerror or e})", REMEDY) from e
    except (ValueError, AttributeError, TypeError):
        raise UserError(saved, "is not JSON as Jittor writes it", "delete it") from None


def cache_folder() -> Path:
    """Where Jittor keeps what it compiled."""
    return cache_home() / ".cache" / "jittor"


def own_folder() -> Path:
    """The part of Jittor's cache folder that belongs to this project."""
    return cache_folder() / "iidm"


@contextlib.contextmanager
def writing_cache() -> Iterator[None]:
    """An OSError inside becomes a UserError that names the cache."""
    try:
        yield
    except OSError as e:
        raise UserError(cache_folder(), f"cannot be written ({e.strerror or e})", REMEDY) from e


def write_json(path: Path, value: object) -> None:
    """Write a record of ours into the cache, whole or not at all. UserError where that is not possible."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(value))
    except UserError as e:
        reason = getattr(e.__cause__, "strerror", None) or e
        raise UserError(cache_folder(), f"cannot be written ({reason})", REMEDY) from e


def check_cache() -> None:
    """UserError if Jittor's cache cannot be written; Jittor itself would end with a traceback of its lock."""
    with writing_cache():
        own_folder().mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=own_folder()).close()


@contextlib.contextmanager
def locked(name: str, notice: str) -> Iterator[None]:
    """Hold the lock file `name` in our folder of the cache. If another process holds it, print `notice` and
    wait. The lock ends with the process."""
    with writing_cache():
        own_folder().mkdir(parents=True, exist_ok=True)
        descriptor = open_beside(own_folder() / name)
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(notice, file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
