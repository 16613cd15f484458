"""Jittor's headers, compiled once. Half of the time that a file of its core, or an operator, took to compile
went into reading them.

g++ uses a precompiled header only with the compiler and the options that it was made with; else it reads the
headers themselves. So what is compiled is the same with and without.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterable, Iterator

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
# What most files of the core include.
CORE_HEADER = """\
#include <cmath>
#include <sstream>
#include <algorithm>
#include "var.h"
#include "op.h"
#include "pyjt/py_converter.h"
"""
LINKING = ("-l", "-L", "-Wl,", "-shared")


# ---- the core ----------------------------------------------------------------------------------------------

def precompile_core(jittor_utils: Any, cache: Path) -> None:
    """Let the import of Jittor that follows in this process compile its core with a precompiled header, which
    has 70 MB and is removed when that is done. cache: where Jittor compiles.

    Jittor keeps the command of each file that it made, and compiles the file again if another one comes. The
    header changes nothing that is made, so what names it is taken out of the command that is kept. It is one
    word, or Jittor would take the header for a source.
    """
    compile_all, header = jittor_utils.run_cmds, cache / "iidm-core" / "core.h"
    option = f' -include"{header}"'

    def run_cmds(commands, *arguments):
        if "jittor_core" not in str(arguments):
            return compile_all(commands, *arguments)
        outputs = {command: shlex.split(command)[-1] for command in commands}
        _take_out(option, outputs.values())                 # of a process that was killed
        new = [command for command in commands if not os.path.exists(outputs[command])]
        try:
            if new and _precompile_for(new[0], header):
                commands = [command.replace(" -c -o ", f"{option} -c -o ") if command in new else command
                            for command in commands]
            compile_all(commands, *arguments)
        finally:
            shutil.rmtree(header.parent, ignore_errors=True)
            _take_out(option, outputs.values())
    jittor_utils.run_cmds = run_cmds


def _take_out(option: str, outputs: Iterable[str]) -> None:
    """Remove an option from the commands that Jittor keeps in OUTPUT.key."""
    for key in (Path(f"{output}.key") for output in outputs):
        if key.exists() and option.encode() in (text := key.read_bytes()):
            with replacing(key) as temporary:
                temporary.write_bytes(text.replace(option.encode(), b""))


def _precompile_for(command: str, header: Path) -> bool:
    """Write the header and precompile it for commands like this one: COMPILER SOURCE OPTION... -c -o OUTPUT.
    Returns whether g++ can."""
    compiler, _, *options = shlex.split(command)[:-3]
    if "g++" not in Path(compiler).name:
        return False
    shutil.rmtree(header.parent, ignore_errors=True)        # of a process that was killed
    header.parent.mkdir()
    header.write_text(CORE_HEADER)
    done = subprocess.run([compiler, *options, "-x", "c++-header", header, "-o", f"{header}.gch"],
                          stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode == 0


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
