"""What Jittor needs to compile: the C++ compiler and its library, the Python headers, Open MPI."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Sequence

from ldm.errors import UserError

PROGRAM = """#include <string>
#include <sstream>
extern "C" int length(const char* text) { std::stringstream s; s << text; return s.str().size(); }
"""
REMEDIES = {            # by a pattern of what a compiler says
    "Too many open files": "allow more open files with `ulimit -n 1024`",
    "No space left|Disk quota exceeded": "free some space, or set TMPDIR to a folder of another disk",
    "Killed|out of memory|annot allocate memory":
        "free some memory, or compile one operator at a time: use_parallel_op_compiler=1"}
WHERE_LOADED = """import ctypes
ctypes.CDLL("libstdc++.so.6")
print(next(line.split()[-1] for line in open("/proc/self/maps") if "libstdc++" in line))
"""


def run(command: Sequence) -> subprocess.CompletedProcess:
    """Run a short command; `stdout` has the output and the errors."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")


# ---- the C++ compiler --------------------------------------------------------------------------------------

def compiler() -> str | None:
    """The path of the C++ compiler that Jittor will use, or None."""
    return shutil.which(os.environ.get("cc_path", "g++"))


def _check_compiler() -> None:
    """UserError if the compiler cannot make a small shared library."""
    name = os.environ.get("cc_path", "g++")
    if compiler() is None:
        raise UserError(name, "is not on the PATH",
                        "Jittor compiles its operators with it: `apt-get install g++`")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.cc")
        source.write_text(PROGRAM)
        try:
            done = run([compiler(), "-std=c++14", "-shared", "-fPIC", "-fopenmp", source, "-o",
                        source.with_suffix(".so")])
            output, failed = done.stdout, done.returncode != 0
        except OSError as e:
            output, failed = e.strerror or str(e), True
    if failed:
        words = " ".join(output.split())[-200:] or "it says nothing"
        raise UserError(compiler(), f"cannot compile a small program (... {words})",
                        remedy(words) or "repair it: `apt-get install --reinstall g++`, or set cc_path to "
                        "another")


def defines(macro: str) -> bool:
    """Whether the compiler defines this macro for the instructions of this machine: an older one does not
    know them all."""
    path = compiler()
    return path is not None and f" {macro} " in run([path, "-march=native", "-dM", "-E", "-x", "c++",
                                                     "/dev/null"]).stdout


def remedy(words: str) -> str | None:
    """What to do if a compiler that says `words` failed for lack of something; None for other failures."""
    return next((text for pattern, text in REMEDIES.items() if re.search(pattern, words)), None)


def _glibcxx(library: Path) -> tuple[int, ...]:
    """The newest GLIBCXX version that the file of a libstdc++ defines."""
    versions = re.findall(rb"GLIBCXX_(\d+)\.(\d+)\.(\d+)", library.read_bytes())
    return max((tuple(map(int, version)) for version in versions), default=())


def libstdcxx() -> tuple[Path, bool]:
    """(the C++ library that Python loads, whether it is as new as the compiler's). ("", True) if unknown."""
    path = compiler()
    loaded = run([sys.executable, "-c", WHERE_LOADED]).stdout.strip()
    own = run([path, "-print-file-name=libstdc++.so.6"]).stdout.strip() if path else ""
    if not os.path.isfile(loaded) or not os.path.isfile(own):
        return Path(), True
    return Path(loaded), _glibcxx(Path(loaded)) >= _glibcxx(Path(own))


def check_libstdcxx() -> None:
    """UserError if Python loads a libstdc++ that is too old for the compiler's programs."""
    library, new_enough = libstdcxx()
    if not new_enough:
        variables = [name for name in ("LD_PRELOAD", "LD_LIBRARY_PATH") if os.environ.get(name)]
        where = f" (by {' or '.join(variables)})" if variables else ""
        raise UserError(library, f"is loaded{where} and is older than the one of {compiler()}",
                        "unset LD_LIBRARY_PATH, or `conda install -c conda-forge libstdcxx-ng`")


# ---- the Python headers ------------------------------------------------------------------------------------

def python_config() -> Path | None:
    """The script that tells Jittor where the Python headers are; Jittor itself does not look in the last
    folder."""
    folder, name = Path(sys.executable).parent, f"python3.{sys.version_info.minor}-config"
    places = [folder / name, Path(sys.executable + "-config"), Path("/usr/bin", name),
              Path("/usr/local/bin", name), folder / "python3-config", Path(sys.base_prefix, "bin", name)]
    if "python_config_path" in os.environ:
        places.insert(0, Path(os.environ["python_config_path"]))
    return next((place for place in places if place.is_file()), None)


def python_headers() -> Path | None:
    """The folder with Python.h that Jittor will use."""
    config = python_config()
    if config is None:
        return None
    folders = [Path(word[2:]) for word in run([config, "--includes"]).stdout.split() if word.startswith("-I")]
    return next((folder for folder in folders if (folder / "Python.h").is_file()), None)


def check_compilers() -> None:
    """UserError if something that Jittor needs to compile is missing; Jittor itself would end with a long
    traceback."""
    _check_compiler()
    check_libstdcxx()
    if python_headers() is None:
        raise UserError("Python.h", f"is not installed for {sys.executable}",
                        "Jittor compiles against it: `apt-get install python3-dev`")


# ---- Open MPI ----------------------------------------------------------------------------------------------

def in_mpi_run() -> bool:
    """Whether Open MPI's mpirun started this process."""
    return "OMPI_COMM_WORLD_SIZE" in os.environ


def mpi() -> tuple[str, str | None] | None:
    """(path of mpicc, version of Open MPI or None if it is another MPI), or None without mpicc."""
    mpicc = shutil.which(os.environ.get("mpicc_path", "mpicc"))
    if mpicc is None:
        return None
    done = run([mpicc, "--showme:version"])
    version = re.search(r"Open MPI (\S+)", done.stdout)
    return mpicc, version[1] if version and done.returncode == 0 else None


def check_mpi() -> None:
    """UserError if Jittor cannot compile for a run of several processes."""
    found = mpi()
    if found is None or found[1] is None:
        raise UserError(found[0] if found else "mpicc",
                        "is not Open MPI's" if found else "is not on the PATH",
                        "Jittor compiles with it for a run of several processes: "
                        "`apt-get install openmpi-bin libopenmpi-dev`")
