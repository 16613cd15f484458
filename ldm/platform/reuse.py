"""Another copy of Jittor takes over what the first one compiled, so that a machine compiles the core once.

Runs of several processes, and new versions of numpy, need a patched copy of Jittor, with a cache of its own
(ldm/platform/jittor_copy.py). Its core is the same but for a few files.
"""
from __future__ import annotations

import re
import shutil
from pathlib import Path

LEFT_OUT = ("tmp", "checkpoints", "iidm", "iidm-core")      # iidm: precompiled headers, which hold paths


def take_over(cache: Path, jittor: Path) -> bool:
    """Copy into `cache`, where the Jittor in the folder `jittor` is about to compile its core, what another
    Jittor of the same compiler, Python and processor compiled. Returns whether there was any.

    Jittor keeps a key with each file: the command, and the content of all that went into it. Here only the
    paths in the keys are changed. So Jittor compiles again whatever really differs.
    """
    others = (folder for folder in cache.parent.parent.glob(f"*/{cache.name}") if folder != cache)
    cores = [core for folder in others for core in folder.glob("jittor_core*.so")]
    if any(cache.glob("jittor_core*.so")) or not cores:
        return False
    old = max(cores, key=lambda core: core.stat().st_mtime).parent
    # Keys first: a file that is written meanwhile is then newer than its key, and not older.
    keys = {path: path.read_text(errors="surrogateescape") for path in _files(old) if path.suffix == ".key"}
    found = next((match for key in keys.values() if (match := re.search(r'-I"([^"]+)/src"', key))), None)
    if found is None:
        return False
    for path in _files(old):
        target = cache / path.relative_to(old)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path in keys:
            key = keys[path].replace(found[1], str(jittor)).replace(str(old), str(cache))
            target.write_text(key, errors="surrogateescape")
        elif path.suffix != ".key":
            shutil.copy2(path, target)
    return True


def _files(folder: Path) -> list[Path]:
    """All files below `folder` but those that nobody else can use."""
    return [path for path in folder.rglob("*")
            if path.is_file() and path.relative_to(folder).parts[0] not in LEFT_OUT]
