"""Jittor's headers, compiled once. Half of the time that an operator took to compile went into reading them.

g++ uses a precompiled header only with the compiler and the options that it was made with; else it reads the
headers themselves. So operators are the same with and without.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any, Iterator

from ldm.errors import UserError
from ldm.files import replacing

# What nearly every operator includes first. JIT is the only macro of an operator that these headers know.
HEADER = """\
#define JIT 1
#include <cmath>
#include <algorithm>
#include <assert.h>
#include "var.h"
#include "fused_op.h"
#include "executor.h"
#include "ops/op_register.h"
#include "ops/broadcast_to_op.h"
#include "ops/binary_op.h"
"""
LINKING = ("-l", "-L", "-Wl,", "-shared")


def install(jt: Any) -> None:
    """Let Jittor compile its operators with precompiled headers, which are made now if they are not there.

    jt: Jittor. Nothing changes with another compiler than g++, where the cache cannot be written, or in a
    version of Jittor that does not name its compiler.
    """
    if getattr(jt.compiler, "cc_type", None) != "g++":
        return
    header = Path(jt.compiler.cache_path) / "iidm/operators.h"
    with contextlib.suppress(OSError, UserError):
        _write(header)
        flags = jt.flags.cc_flags
        jt.flags.cc_flags += f' -include "{header}"'
        _precompile(header, Path(jt.compiler.cc_path), shlex.split(flags),
                    Path(jt.compiler.jittor_path) / "src")


def _write(header):
    """Write the header that is put before each operator, if it is not there."""
    header.parent.mkdir(exist_ok=True)
    if not header.exists() or header.read_bytes() != HEADER.encode():
        with replacing(header) as temporary:
            temporary.write_text(HEADER)


def _precompile(header, compiler, flags, source):
    """Make HEADER.gch/KEY.SIZE, where g++ looks for it. g++ does not notice that a header inside has changed,
    and may fail on a file that was cut: the key and the size tell."""
    folder = header.with_name(f"{header.name}.gch")
    folder.mkdir(exist_ok=True)
    key = _key(compiler, flags, source)
    found = {path: path.name == f"{key}.{path.stat().st_size}" for path in folder.iterdir()}
    for path in (path for path, good in found.items() if not good):
        path.unlink(missing_ok=True)
    if any(found.values()):
        return
    made = header.with_name(f".{header.name}.{os.getpid()}")    # not in the folder: g++ tries all files there
    options = [flag for flag in flags if not flag.startswith(LINKING)]
    done = subprocess.run([compiler, *options, "-g", "-x", "c++-header", header, "-o", made],
                          stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode == 0:
        made.replace(folder / f"{key}.{made.stat().st_size}")
    made.unlink(missing_ok=True)


def _key(compiler, flags, source):
    """A hash of all that a precompiled header depends on."""
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns)
             for path in (compiler, *_headers(source))]
    return hashlib.sha256(repr((HEADER, flags, sorted(files))).encode()).hexdigest()[:16]


def _headers(folder: Path) -> Iterator[Path]:
    return (Path(place) / name for place, _, names in os.walk(folder)
            for name in names if name.endswith(".h"))
