"""Jittor's headers, compiled once. Half of the time that a file of its core, or an operator, took to compile
went into reading them.

g++ uses a precompiled header only with the compiler and the options that it was made with; else it reads the
headers themselves. So what is compiled is the same with and without.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import subprocess
import sys
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
# What most files of the core include. Jittor compiles its first files without the folder of these headers.
CORE_HEADER = """\
#include <cmath>
#include <sstream>
#include <algorithm>
#if __has_include("var.h")
#include "var.h"
#include "op.h"
#include "pyjt/py_converter.h"
#endif
"""
CORE_OPTION = re.compile(r' -include "[^"]*/iidm/core-[^"/]*\.h"')
LINKING = ("-l", "-L", "-Wl,", "-shared")


# ---- the core ----------------------------------------------------------------------------------------------

def core_header(folder: Path) -> Path:
    """The file in `folder` for CORE_HEADER. Each version of Python has one, since it includes Python.h."""
    return folder / "iidm" / f"core-{sys.implementation.cache_tag}.h"


def core_options(flags: str, folder: Path) -> str:
    """`flags`, the user's flags for the compiler, with the one that puts CORE_HEADER before each file.

    Jittor compares the flags with those of its last import, so every import needs the same.
    """
    return CORE_OPTION.sub("", flags) + f' -include "{core_header(folder)}"'


def write_core_header(folder: Path) -> None:
    """Write CORE_HEADER where `core_options` says it is. UserError if that is not possible."""
    with replacing(core_header(folder)) as temporary:
        temporary.write_text(CORE_HEADER)


def precompile_core(jittor_utils: Any, folder: Path) -> None:
    """Let the import of Jittor that follows in this process compile its core with a precompiled header.

    It has 70 MB and is not needed afterwards, so it is removed when the core is compiled.
    """
    compile_all = jittor_utils.run_cmds
    made = Path(f"{core_header(folder)}.gch")

    def run_cmds(commands, *arguments):
        made.unlink(missing_ok=True)                # of a process that was killed
        try:
            if CORE_OPTION.search(commands[0]) and "jittor_core" in str(arguments):
                _precompile_for(commands[0], core_header(folder), made)
            return compile_all(commands, *arguments)
        finally:
            made.unlink(missing_ok=True)
    jittor_utils.run_cmds = run_cmds


def _precompile_for(command, header, made):
    """Make the header for a command of Jittor's: COMPILER SOURCE OPTION... -c -o OBJECT."""
    words = shlex.split(CORE_OPTION.sub("", command))
    subprocess.run([words[0], *words[2:words.index("-c")], "-x", "c++-header", header, "-o", made],
                   stdin=subprocess.DEVNULL, capture_output=True)


# ---- operators ---------------------------------------------------------------------------------------------

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
        flags = CORE_OPTION.sub("", jt.flags.cc_flags)
        jt.flags.cc_flags = flags + f' -include "{header}"'
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
