"""oneDNN for Jittor's convolutions on the CPU: links to the installed package, where Jittor looks for it."""
from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from ldm.platform.cache import cache_folder, writing_cache

FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"              # the name that Jittor 1.3.11 looks for on x86-64 Linux


def folder() -> Path:
    """Where Jittor looks for oneDNN."""
    return cache_folder() / "mkl" / FOLDER


def package() -> tuple[Path, Path] | None:
    """(library, include folder) of the oneDNN package in this environment, or None if it is not installed."""
    library, include = Path(sys.prefix, "lib", "libdnnl.so.2"), Path(sys.prefix, "include")
    return (library, include) if library.exists() and (include / "dnnl.hpp").exists() else None


def in_cache() -> str | None:
    """The oneDNN in Jittor's cache: "download" for Jittor's own, "linked" for links made by `link`, or
    None."""
    place = folder()
    if not (place / "lib/libmkldnn.so").is_file() or not (place / "include/dnnl.hpp").is_file():
        return None
    return "linked" if (place / "include").is_symlink() else "download"


def link() -> bool:
    """Link the installed oneDNN to the place of Jittor's download. Returns whether Jittor will find one
    there.

    An intact one stays, whether Jittor's download or links of another environment: both work, and a running
    process may use them.
    """
    if in_cache():
        return True
    found = package()
    if found is None:
        return False
    library, include = found
    target = folder()
    fresh, old = (target.with_name(f".{FOLDER}.{os.getpid()}.{word}") for word in ("new", "old"))
    with writing_cache():
        (fresh / "lib").mkdir(parents=True)
        (fresh / "include").symlink_to(include)
        for name in ("libmkldnn.so", "libdnnl.so.2"):
            (fresh / "lib" / name).symlink_to(library)
        with contextlib.suppress(OSError):       # another process may have made the same links meanwhile
            if target.exists() and not in_cache():
                target.rename(old)               # an incomplete download, or links to a deleted environment
            fresh.rename(target)
        for rest in (fresh, old):
            shutil.rmtree(rest, ignore_errors=True)
    return in_cache() is not None
