"""Checks that a machine has what Jittor needs, and says how to get what is missing (tools/doctor.py)."""
from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Optional, Sequence

from ldm.errors import UserError
from ldm.platform import cache as caches
from ldm.platform import compilers, devices, jittor_copy, runtime
from ldm.platform import onednn as onednns
from ldm.platform.cuda import environment, toolchain
from ldm.platform.cuda import toolkit as toolkits

if TYPE_CHECKING:               # the doctor itself runs without numpy
    import numpy as np

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "requirements-nodeps.txt")
PYTHONS = ((3, 9), (3, 14))                     # the oldest and newest tried, see docs/install.md
NEW_PYTHON = sys.version_info >= (3, 13)        # there Jittor is installed without its declared dependencies
GUIDE = "install {}, see docs/gpu.md"
DISK = {False: 1 << 30, True: 1 << 27}          # bytes, by whether the core is compiled
TOLERANCE = 5e-3                                # of a convolution with results of about 1; TF32 passes
SAME_MODULE = {"opencv-python-headless":        # packages that contain the same module
               ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")}


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check. If it is `needed` and not `ok`, nothing works; `remedy` says what to do."""
    name: str
    ok: bool
    needed: bool
    found: str
    remedy: str = ""


def inspect(requirements: Iterable[Path] = REQUIREMENTS) -> list[Finding]:
    """Run all checks; Jittor is not imported."""
    return [python(), compiler(), library(), headers(), packages(requirements), jittor(), onednn(),
            processor(), device(), *cuda(), mpi(), cache(), disk()]


def python() -> Finding:
    low, high = (".".join(map(str, v)) for v in PYTHONS)
    return Finding("Python", PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1], True,
                   f"{platform.python_version()} at {sys.executable}", f"use Python {low} to {high}")


def _first_line(command: Sequence[str]) -> str:
    """The first line that a program prints; "" if it cannot be run."""
    try:
        return next(iter(compilers.run(command).stdout.splitlines()), "")
    except OSError:
        return ""


def compiler() -> Finding:
    path = compilers.compiler()
    found = f"{_first_line([path, '--version'])} at {path}" if path else "none"
    return Finding("compiler", path is not None, True, found, "`apt-get install g++`")


def library() -> Finding:
    """The C++ library that Jittor's compiled parts find in Python."""
    path, new_enough = compilers.libstdcxx()
    return Finding("libstdc++", new_enough, True, f"{path}" if path.name else "not found, not compared",
                   "unset LD_LIBRARY_PATH, since this one is older than the compiler's, or run "
                   "`conda install -c conda-forge libstdcxx-ng`")


def headers() -> Finding:
    folder = compilers.python_headers()
    return Finding("Python headers", folder is not None, True, str(folder or "none"),
                   "`apt-get install python3-dev`")


# ---- packages ----------------------------------------------------------------------------------------------

def _numbers(version: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", version)]


COMPARISONS = {"==": lambda a, b: a == b, "<": lambda a, b: _numbers(a) < _numbers(b),
               ">=": lambda a, b: _numbers(a) >= _numbers(b)}


def requirements_of(*paths: Path) -> list[tuple[str, Optional[str], Optional[str]]]:
    """(name, operator, version) of each line of requirements files that applies to this machine.

    It reads the forms that our files use: `name`, `name==1.2`, `name<2`, `name>=2`, and markers that compare
    the version of Python, the system and the machine.
    """
    facts = {"platform_system": platform.system(), "platform_machine": platform.machine(),
             "python_version": "{}.{}".format(*sys.version_info)}
    wanted = []
    for line in (line for path in paths for line in Path(path).read_text().splitlines()):
        requirement, _, marker = line.split("#")[0].partition(";")
        conditions = re.findall(r'(\w+) (==|<|>=) "([\w.]+)"', marker)
        if requirement.strip() and all(COMPARISONS[how](facts[k], v) for k, how, v in conditions):
            found = re.fullmatch(r"([\w-]+)(?:(==|<|>=)([\w.]+))?", requirement.strip())
            if found is None:
                raise ValueError(f"a line of requirements in another form: {line!r}")
            wanted.append((found[1], found[2], found[3]))
    return wanted


def _installed(name: str) -> Optional[str]:
    for candidate in (name, *SAME_MODULE.get(name, ())):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _holds(name: str, found: str, operator: Optional[str], version: Optional[str]) -> bool:
    if operator is None or version is None or name == "numpy":      # any numpy works, 1 and 2
        return True
    return COMPARISONS[operator](found, version)


def packages(requirements: Iterable[Path] = REQUIREMENTS, extra: Sequence[str] = ()) -> Finding:
    """Compare the installed packages with requirements files and with the names `extra`; imports nothing."""
    there, wrong = [], []
    for name, operator, version in [*requirements_of(*requirements), *((name, None, None) for name in extra)]:
        found = _installed(name)
        if found and _holds(name, found, operator, version):
            there.append(f"{name} {found}")
        elif not (name.startswith("onednn") and onednns.in_cache() == "download"):
            wrong.append(f"{name}{operator or ''}{version or ''} (installed: {found or 'none'})")
    return Finding("packages", not wrong, True, "missing: " + ", ".join(wrong) if wrong else ", ".join(there),
                   f"`pip install {' '.join(['-r requirements.txt', *extra])}`"
                   + (", then `pip install --no-deps -r requirements-nodeps.txt`" if NEW_PYTHON else ""))


def jittor() -> Finding:
    """Which Jittor is used, with which patches, and why."""
    try:
        choice = jittor_copy.choose(runtime.facts(), make=False)
    except UserError as e:
        return Finding("Jittor", False, True, str(e))
    if not choice.patches:
        unneeded = "" if choice.warning else ", no patch is needed"
        return Finding("Jittor", not choice.warning, False, f"the installed one in {choice.folder}{unneeded}",
                       choice.warning)
    reasons = "".join(f"\n    {patch.path}: {patch.why}" for patch in choice.patches)
    return Finding("Jittor", True, False,
                   f"a patched copy of the installed one, {choice.folder}; its patches:{reasons}")


def onednn() -> Finding:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return Finding("oneDNN", True, False, "not set up by us on this machine: Jittor decides")
    state = onednns.in_cache() or (onednns.package() and "linked")
    found = {"download": "Jittor's own download", "linked": "the package of requirements.txt"}
    return Finding("oneDNN", state is not None, False,
                   found[state] if state else "none: convolutions on the CPU are 80 times slower",
                   "`pip install -r requirements.txt`")


def processor() -> Finding:
    """The processor's features that make networks fast."""
    names = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX512_BF16", "amx_bf16": "AMX"}
    flags = runtime.cpu_flags()
    found = ", ".join(name for flag, name in names.items() if flag in flags) or "none of AVX2, AVX-512, AMX"
    has = runtime.cpu_has_bf16()
    return Finding("processor", has, False,
                   found + (": precision bf16 is possible, auto measures it" if has else ""),
                   "networks compute in fp32")


# ---- CUDA, MPI ---------------------------------------------------------------------------------------------

def device() -> Finding:
    if hidden := devices.hidden_by():
        return Finding("NVIDIA device", False, False, f"present, but {hidden} hides it")
    if not runtime.on_gpu():
        return Finding("NVIDIA device", False, False, "none: everything runs on the CPU")
    names = re.sub(r" \(UUID.*?\)", "", _first_line(["nvidia-smi", "-L"]))
    return Finding("NVIDIA device", True, False, names or "present, but nvidia-smi is missing")


def cuda() -> list[Finding]:
    """Three Findings: the CUDA toolkit, cuDNN, and whether Jittor can use them."""
    found = toolkits.find_toolkit()
    return [toolkit(found), cudnn(found), cuda_setup(found)]


def toolkit(found: Optional[toolkits.Toolkit]) -> Finding:
    wanted = runtime.on_gpu()
    if found is None:
        return Finding("CUDA toolkit", False, False, "none", GUIDE.format("CUDA 13") if wanted else "")
    return Finding("CUDA toolkit", wanted and found.version[0] >= 11, False,
                   f"{toolkits.dotted(found.version)} in {found.home}" + ("" if wanted else ", unused"),
                   "install CUDA 11, 12 or 13" if wanted else "")


def cudnn(found: Optional[toolkits.Toolkit]) -> Finding:
    """The cuDNN to use: version 8 as Jittor finds it, or one for which a toolchain can be made."""
    wanted = runtime.on_gpu()
    look = toolkits.stock_cudnn if found and toolkits.needs_no_toolchain(found) else toolkits.find_cudnn
    library = look(found) if found else None
    if library is None:
        return Finding("cuDNN", False, False, "none", GUIDE.format("cuDNN 9") if wanted else "")
    return Finding("cuDNN", wanted, False, f"{toolkits.dotted(library.version)} in {library.include}")


def cuda_setup(found: Optional[toolkits.Toolkit]) -> Finding:
    """Whether tools/setup_cuda.py was run; Jittor needs it with CUDA 13 or cuDNN 9."""
    wanted, cache = runtime.on_gpu(), caches.cache_folder()
    if found is None or toolkits.needs_no_toolchain(found):
        return Finding("CUDA set-up", wanted and found is not None, False, "not needed")
    try:
        facts = environment(cache) and toolchain.record(toolchain.folder(cache))
    except UserError as e:
        return Finding("CUDA set-up", False, wanted, str(e))
    if facts:
        made = f"CUDA {facts['cuda']} with cuDNN {facts['cudnn']}"
        return Finding("CUDA set-up", wanted, False, made)
    return Finding("CUDA set-up", False, wanted, "none", "run `python tools/setup_cuda.py`" if wanted else "")


def mpi() -> Finding:
    found = compilers.mpi()
    remedy = "to train on several devices: `apt-get install openmpi-bin libopenmpi-dev`"
    if found is None:
        return Finding("MPI", False, False, "none", remedy)
    path, version = found
    return Finding("MPI", version is not None, False, f"Open MPI {version} at {path}" if version else
                   f"{path} is not Open MPI's; Jittor works with Open MPI only", remedy)


# ---- cache, disk -------------------------------------------------------------------------------------------

def _core() -> Optional[Path]:
    try:
        return runtime.compiled_core()
    except UserError:                            # another finding reports it
        return None


def cache() -> Finding:
    folder = caches.cache_folder()
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if importlib.util.find_spec("jittor") is None:
        state = "Jittor is not installed"
    else:
        state = "core compiled" if _core() else "core still to be compiled: 3 minutes"
    return Finding("cache", os.access(nearest, os.W_OK), True, f"{folder}, {size / 2**20:.0f} MiB, {state}",
                   "set JITTOR_HOME to a folder of yours")


def disk() -> Finding:
    folder = caches.cache_folder()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    free, wanted = shutil.disk_usage(nearest).free, DISK[bool(_core())]
    return Finding("disk", free >= wanted, True, f"{free / 2**30:.1f} GiB free for the cache",
                   f"free space: {wanted / 2**30:.1f} GiB are needed")


# ---- self-test ---------------------------------------------------------------------------------------------

def reference_convolution(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """3 x 3 convolution with zero padding in float64: N x C x H x W and K x C x 3 x 3 to N x K x H x W."""
    import numpy as np
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))      # type: ignore[call-overload]
    return np.einsum("nchwij,kcij->nkhw", windows, w.astype(np.float64))


def convolution() -> dict[str, Any]:
    """Run a small convolution in Jittor against numpy, and time one of 3.6 GFLOP.

    Returns {"device": "CPU" or "CUDA", "error": the largest difference of results of about 1, "gflops": per
    second}.
    """
    import numpy as np

    from ldm.backend import jt, nn
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 16, 12, 16)).astype(np.float32)
    w = (rng.standard_normal((8, 16, 3, 3)) / 12).astype(np.float32)
    got = nn.conv2d(jt.array(x), jt.array(w), padding=1).numpy()
    image, kernel = jt.randn(1, 128, 96, 128), jt.randn(128, 128, 3, 3)
    seconds = []
    for _ in range(4):                           # the first is compiled
        jt.sync_all(True)
        start = time.perf_counter()
        result = nn.conv2d(image, kernel, padding=1)
        result.sync()
        jt.sync_all(True)
        seconds.append(time.perf_counter() - start)
    return {"device": "CUDA" if jt.flags.use_cuda else "CPU",
            "error": float(np.abs(got - reference_convolution(x, w)).max()),
            "gflops": 2 * 128 * 128 * 9 * 96 * 128 / min(seconds[1:]) / 1e9}


def self_test() -> dict[str, Any]:
    """`convolution` in a child process, so that a crash becomes a message. UserError if it crashes or its
    numbers are wrong."""
    runtime.prepare()
    runtime.compile_core()
    code = f"import json, sys; sys.path.insert(0, {str(ROOT)!r}); from ldm import diagnosis; " \
        "print('\\nresult', json.dumps(diagnosis.convolution()))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, errors="replace",
                           stdin=subprocess.DEVNULL)
    result = re.search(r"^result (.+)$", child.stdout, re.MULTILINE)
    if result is None:
        words = " ".join((child.stderr or child.stdout).split())
        raise UserError("self-test", f"a convolution ended with status {child.returncode} "
                        f"(... {words[-300:]})", f"delete {caches.cache_folder()} if all else is ok")
    facts = json.loads(result[1])
    if not facts["error"] < TOLERANCE:           # a NaN is wrong too
        raise UserError("self-test", f"a convolution in Jittor has an error of {facts['error']:.1e}, more "
                        f"than {TOLERANCE}", f"delete {caches.cache_folder()} and try again")
    return facts
