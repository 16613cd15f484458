"""The Jittor that this process uses: the installed one, or a patched copy of it in the cache.

Nobody's installation is changed. Where the installed Jittor works as it is, it is used; where this machine
needs patches (ldm/platform/patches.py), a copy of 12 MB is made at the first start and used from then on. Its
name is a hash of the installed files, the patches and the Python version, so it never holds anything else.
"""
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import Iterator, Sequence

from ldm.errors import UserError
from ldm.platform.cache import cache_home, locked, own_folder, write_json, writing_cache
from ldm.platform.cuda import in_place
from ldm.platform.patch import VERSION, Facts, Patch
from ldm.platform.patches import chosen, needed

PACKAGES = ("jittor", "jittor_utils")
RECORD = "copy.json"
REINSTALL = f"run `pip install --force-reinstall --no-deps jittor=={VERSION}`"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The Jittor to use. folder: holds its packages. patches: those of this copy; () for the installed one.
    warning: what the installed one lacks, or ""."""
    folder: Path
    patches: tuple[Patch, ...] = ()
    warning: str = ""


# ---- the installed one -------------------------------------------------------------------------------------

def installed() -> Path:
    """The folder that holds this Python's installed packages jittor and jittor_utils; imports nothing."""
    # Not importlib.util.find_spec: after `import jittor` that returns the copy.
    spec = importlib.machinery.PathFinder.find_spec("jittor")
    if spec is None and "jittor" not in sys.modules:
        spec = importlib.util.find_spec("jittor")
    if spec is None or spec.origin is None:
        raise UserError("jittor", f"is not installed in {sys.executable}",
                        "run `pip install -r requirements.txt`")
    return Path(spec.origin).parent.parent


def version(root: Path) -> str:
    """The version that the jittor package in `root` says it is."""
    try:
        text = (root / "jittor/__init__.py").read_text(errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    return found[1] if found else "of unknown version"


def _files(folder: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder / below) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            name = f"{below}/{entry.name}"
            if entry.is_dir():
                if entry.name != "__pycache__":
                    yield from _files(folder, name)
            else:
                yield name, entry.stat()


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """{path: (size, time of last change)} of the files of both packages; {} if a package is missing."""
    try:
        return {name: (stat.st_size, stat.st_mtime_ns)
                for package in PACKAGES for name, stat in _files(folder, package)}
    except FileNotFoundError:
        return {}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict:
    """The content of the JSON file `path`; {} if it is missing or damaged."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _content(root: Path) -> str:
    """A hash of all installed files. It is kept in the cache and computed again when a file has changed."""
    listing = _digest(_listing(root))
    kept = own_folder() / "installed" / f"{_digest(str(root))[:16]}.json"
    known = _read_json(kept)
    if known.get("listing") == listing and isinstance(known.get("content"), str):
        return known["content"]
    content = _digest({name: hashlib.sha256((root / name).read_bytes()).hexdigest()
                       for name in _listing(root)})
    write_json(kept, {"root": str(root), "listing": listing, "content": content})
    return content


# ---- the copy ----------------------------------------------------------------------------------------------

def _patched(root: Path, patches: Sequence[Patch]) -> dict[str, bytes]:
    """{path: content} of the files that differ from the installed ones. UserError for a file that is neither
    Jittor's own nor written by an earlier version of tools/setup_cuda.py."""
    changed = {}
    for name in in_place.PATHS:
        original = in_place.original(root, name)
        if original is not None and original != (root / name).read_bytes():
            changed[name] = original
    for patch in patches:
        content = changed.get(patch.path)
        if content is None:
            content = (root / patch.path).read_bytes()
            if not patch.is_original(content):
                raise UserError(root / patch.path, f"is not the file of Jittor {VERSION}", REINSTALL)
        changed[patch.path] = patch.forth(content)
    return changed


def _write(root: Path, patches: Sequence[Patch], place: Path) -> None:
    """Write the copy under a temporary name, then rename it to `place`."""
    try:
        changed = _patched(root, patches)
    except OSError as e:
        raise UserError(e.filename or root, f"cannot be read ({e.strerror or e})", REINSTALL) from e
    fresh = place.with_name(f".{place.name}.{os.getpid()}.new")
    try:
        for name in _listing(root):
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            if name in changed:
                (fresh / name).write_bytes(changed[name])
            else:
                shutil.copyfile(root / name, fresh / name)
        facts = {"version": VERSION, "installed": str(root), "python": sys.version.split()[0],
                 "patches": [[patch.path, patch.why] for patch in patches], "files": _digest(_listing(fresh))}
        (fresh / RECORD).write_text(json.dumps(facts, indent=1))
        shutil.rmtree(place, ignore_errors=True)             # a damaged one
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _is_whole(place: Path) -> bool:
    """Whether the copy exists and every file is as it was written."""
    return _read_json(place / RECORD).get("files") == _digest(_listing(place))


def _make(root: Path, patches: Sequence[Patch], place: Path) -> None:
    """Make the copy if it does not exist. Of several processes one makes it and the others wait."""
    if _is_whole(place):
        return
    with locked("copy.lock", "Another process copies Jittor; waiting for it ..."), writing_cache():
        if _is_whole(place):
            return
        if place.exists():
            print(f"{place}: the copy of Jittor is damaged; making it again ...", file=sys.stderr, flush=True)
        for half in place.parent.glob(".*.new"):             # of a process that was killed
            shutil.rmtree(half, ignore_errors=True)
        _write(root, patches, place)


def choose(facts: Facts, make: bool = True) -> Choice:
    """The Jittor to use for `facts`; a missing copy is made unless `make` is False.

    UserError: no Jittor is installed, a file to be patched was changed, or the cache cannot be written.
    """
    root = installed()
    patches = tuple(chosen(facts))
    if not patches:
        return Choice(root)
    found = version(root)
    if found != VERSION:
        reasons = "; ".join(dict.fromkeys(patch.why for patch in needed(facts)))
        return Choice(root, (), f"Jittor {found} is used as it is, the patches that this machine needs are "
                                f"for {VERSION} ({reasons})")
    key = [_content(root), sys.version.split()[0], [dataclasses.astuple(p)[:3] for p in patches]]
    place = own_folder() / f"jittor-{_digest(key)[:16]}"
    if make:
        _make(root, patches, place)
    return Choice(place, patches)


def _variables(choice: Choice) -> dict[str, str]:
    """The environment in which Python finds the chosen Jittor, and writes nothing where it is installed."""
    path = os.environ.get("PYTHONPATH")
    found = {"PYTHONPATH": os.pathsep.join([str(choice.folder), *([path] if path else [])])}
    if choice.patches:
        return found
    if os.path.exists(importlib.util.cache_from_source(str(choice.folder / "jittor/__init__.py"))):
        return {**found, "PYTHONDONTWRITEBYTECODE": "1"}
    return {**found, "PYTHONPYCACHEPREFIX": str(own_folder() / "bytecode")}      # uv installs none


def home_variables() -> dict[str, str]:
    """Environment variables with which jittor_utils uses the folder of `cache_home` and saves nothing.

    It would save a JITTOR_HOME in ~/.cache/jittor/config.json, for all later starts, or fail if it cannot. So
    it gets its own home folder, in which that choice is saved already.
    """
    chosen_home, home = str(cache_home()), own_folder() / "home"
    saved = home / ".cache/jittor/config.json"
    if _read_json(saved).get("JITTOR_HOME") != chosen_home:
        write_json(saved, {"JITTOR_HOME": chosen_home})
    return {"HOME": str(home), "JITTOR_HOME": chosen_home}


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """A context in which os.environ has these variables too."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def importable(choice: Choice) -> Iterator[dict[str, str]]:
    """A context in which `import jittor` finds the chosen one, here and in child processes. Yields variables
    for these."""
    variables = _variables(choice)
    prefix, still = sys.pycache_prefix, sys.dont_write_bytecode
    sys.path.insert(0, str(choice.folder))
    sys.dont_write_bytecode = still or "PYTHONDONTWRITEBYTECODE" in variables
    sys.pycache_prefix = variables.get("PYTHONPYCACHEPREFIX", prefix)
    try:
        with environment(variables), warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)       # of Jittor's strings, from Python 3.12 on
            yield variables
    finally:
        sys.path.remove(str(choice.folder))
        sys.pycache_prefix, sys.dont_write_bytecode = prefix, still
