"""What Jittor needs of a machine, what is there, and how to mend what is not."""
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

from ldm.errors import UserError
from ldm.platform import cache as caches
from ldm.platform import compilers, devices, jittor_copy, runtime
from ldm.platform import onednn as onednns
from ldm.platform.cuda import environment, toolchain
from ldm.platform.cuda import toolkit as toolkits

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "requirements-nodeps.txt")
PYTHONS = ((3, 9), (3, 14))                     # those that were tried, see docs/install.md
NEW_PYTHON = sys.version_info >= (3, 13)        # there Jittor is installed without what its metadata wants
GUIDE = "install {}, see docs/gpu.md"
DISK = {False: 1 << 30, True: 1 << 27}          # bytes, by "is the core compiled?"; all operators: 0.7 GB
TOLERANCE = 5e-3                                # of a convolution whose results are about 1; TF32 keeps it
SAME_MODULE = {"opencv-python-headless":        # other packages that bring the same module
               ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing looked for. If it is `needed` and not `ok`, nothing works; `mend` says what to do."""
    name: str
    ok: bool
    needed: bool
    found: str
    mend: str = ""


def inspect(requirements=REQUIREMENTS):
    """Look at everything, without importing Jittor; a list of Findings."""
    return [python(), compiler(), library(), headers(), packages(requirements), jittor(), onednn(),
            device(), *cuda(), mpi(), cache(), disk()]


def python():
    low, high = (".".join(map(str, v)) for v in PYTHONS)
    return Finding("Python", PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1], True,
                   f"{platform.python_version()} at {sys.executable}", f"Python {low} to {high} is needed")


def _first_line(command):
    """The first line that a program says; "" if it cannot be run."""
    try:
        return next(iter(compilers.run(command).stdout.splitlines()), "")
    except OSError:
        return ""


def compiler():
    path = compilers.compiler()
    found = f"{_first_line([path, '--version'])} at {path}" if path else "none"
    return Finding("compiler", path is not None, True, found, "`apt-get install g++`")


def library():
    """The C++ library that Jittor's compiled parts meet in Python."""
    path, new_enough = compilers.libstdcxx()
    return Finding("libstdc++", new_enough, True, f"{path}" if path.name else "not found, not compared",
                   "it is older than the compiler's: unset LD_LIBRARY_PATH, or "
                   "`conda install -c conda-forge libstdcxx-ng`")


def headers():
    folder = compilers.python_headers()
    return Finding("Python headers", folder is not None, True, str(folder or "none"),
                   "`apt-get install python3-dev`")


# ---- packages ----------------------------------------------------------------------------------------------

def _numbers(version):
    return [int(n) for n in re.findall(r"\d+", version)]


COMPARISONS = {"==": lambda a, b: a == b, "<": lambda a, b: _numbers(a) < _numbers(b),
               ">=": lambda a, b: _numbers(a) >= _numbers(b)}


def requirements_of(*paths):
    """Read the lines of requirements files that hold on this machine: a list of (name, operator, version).

    It knows what ours use: `name`, `name==1.2`, `name<2`, `name>=2`, and markers that compare the version of
    Python, the system and the machine.
    """
    facts = {"platform_system": platform.system(), "platform_machine": platform.machine(),
             "python_version": "{}.{}".format(*sys.version_info)}
    wanted = []
    for line in (line for path in paths for line in Path(path).read_text().splitlines()):
        requirement, _, marker = line.split("#")[0].partition(";")
        conditions = re.findall(r'(\w+) (==|<|>=) "([\w.]+)"', marker)
        if requirement.strip() and all(COMPARISONS[how](facts[k], v) for k, how, v in conditions):
            wanted.append(re.fullmatch(r"([\w-]+)(?:(==|<|>=)([\w.]+))?", requirement.strip()).groups())
    return wanted


def _installed(name):
    for candidate in (name, *SAME_MODULE.get(name, ())):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _holds(name, found, operator, version):
    if operator is None or name == "numpy":      # which numpy is chosen for a new environment; 1 and 2 work
        return True
    return COMPARISONS[operator](found, version)


def packages(requirements=REQUIREMENTS, extra=()):
    """Compare what is installed with requirements files and further names; imports nothing."""
    there, wrong = [], []
    for name, operator, version in [*requirements_of(*requirements), *((name, None, None) for name in extra)]:
        found = _installed(name)
        if found and _holds(name, found, operator, version):
            there.append(f"{name} {found}")
        elif not (name.startswith("onednn") and onednns.in_cache() == "download"):
            wrong.append(f"{name}{operator or ''}{version or ''} ({found or 'none'} here)")
    return Finding("packages", not wrong, True, "missing: " + ", ".join(wrong) if wrong else ", ".join(there),
                   f"`pip install {' '.join(['-r requirements.txt', *extra])}`"
                   + (", then `pip install --no-deps -r requirements-nodeps.txt`" if NEW_PYTHON else ""))


def jittor():
    """Which Jittor is used, with which patches and why."""
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


def onednn():
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return Finding("oneDNN", True, False, "left to Jittor on this machine")
    state = onednns.in_cache() or (onednns.package() and "linked")
    found = {"download": "Jittor's own download", "linked": "the package of requirements.txt"}
    return Finding("oneDNN", state is not None, False,
                   found.get(state, "none: convolutions on the CPU are 80 times slower"),
                   "`pip install -r requirements.txt`")


def processor():
    """What of the processor makes networks fast; bf16 is for --precision and training.precision."""
    names = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX512_BF16", "amx_bf16": "AMX"}
    flags = runtime.cpu_flags()
    found = ", ".join(name for flag, name in names.items() if flag in flags) or "nothing that is looked for"
    has = runtime.cpu_has_bf16()
    return Finding("processor", has, False, found + (": bf16 is possible" if has else ""),
                   "networks compute in fp32")


# ---- CUDA, MPI ---------------------------------------------------------------------------------------------

def device():
    if hidden := devices.hidden_by():
        return Finding("NVIDIA device", False, False, f"there, but not used: {hidden} is set")
    if not runtime.on_gpu():
        return Finding("NVIDIA device", False, False, "none: everything runs on the CPU")
    names = re.sub(r" \(UUID.*?\)", "", _first_line(["nvidia-smi", "-L"]))
    return Finding("NVIDIA device", True, False, names or "there, but nvidia-smi is not")


def cuda():
    """The CUDA toolkit, cuDNN, and whether Jittor can use the two: three Findings."""
    found = toolkits.find_toolkit()
    return [toolkit(found), cudnn(found), cuda_setup(found)]


def toolkit(found):
    wanted = runtime.on_gpu()
    if found is None:
        return Finding("CUDA toolkit", False, False, "none", GUIDE.format("CUDA 13") if wanted else "")
    return Finding("CUDA toolkit", wanted and found.version[0] >= 11, False,
                   f"{toolkits.dotted(found.version)} in {found.home}" + ("" if wanted else ", unused"),
                   "CUDA 11, 12 or 13 is needed" if wanted else "")


def cudnn(found):
    """The cuDNN that would be used: version 8 as Jittor finds it, or one that `cuda_setup` can use."""
    wanted = runtime.on_gpu()
    look = toolkits.stock_cudnn if found and toolkits.left_alone(found) else toolkits.find_cudnn
    library = look(found) if found else None
    if library is None:
        return Finding("cuDNN", False, False, "none", GUIDE.format("cuDNN 9") if wanted else "")
    return Finding("cuDNN", wanted, False, f"{toolkits.dotted(library.version)} in {library.include}")


def cuda_setup(found):
    """Whether tools/setup_cuda.py was run: with CUDA 13 or cuDNN 9 Jittor does not start before."""
    wanted, cache = runtime.on_gpu(), caches.cache_folder()
    if found is None or toolkits.left_alone(found):
        return Finding("CUDA set-up", wanted and found is not None, False, "not needed")
    try:
        facts = environment(cache) and toolchain.record(toolchain.folder(cache))
    except UserError as e:
        return Finding("CUDA set-up", False, wanted, str(e))
    if facts:
        made = f"CUDA {facts['cuda']} with cuDNN {facts['cudnn']}"
        return Finding("CUDA set-up", wanted, False, made)
    return Finding("CUDA set-up", False, wanted, "none", "run `python tools/setup_cuda.py`" if wanted else "")


def mpi():
    found = compilers.mpi()
    mend = "for several devices only: `apt-get install openmpi-bin libopenmpi-dev`"
    if found is None:
        return Finding("MPI", False, False, "none", mend)
    path, version = found
    return Finding("MPI", version is not None, False, f"Open MPI {version} at {path}" if version else
                   f"{path} is not Open MPI's, which alone works with Jittor", mend)


# ---- cache, disk -------------------------------------------------------------------------------------------

def _core():
    try:
        return runtime.compiled_core()
    except UserError:                            # the finding that is about it says it
        return None


def cache():
    folder = caches.cache_folder()
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if importlib.util.find_spec("jittor") is None:
        state = "Jittor is not installed"
    else:
        state = "core compiled" if _core() else "core still to be compiled: 3 minutes"
    return Finding("cache", os.access(nearest, os.W_OK), True, f"{folder}, {size / 2**20:.0f} MiB, {state}",
                   "set JITTOR_HOME to a folder of yours")


def disk():
    folder = caches.cache_folder()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    free, wanted = shutil.disk_usage(nearest).free, DISK[bool(_core())]
    return Finding("disk", free >= wanted, True, f"{free / 2**30:.1f} GiB free for the cache",
                   f"{wanted / 2**30:.1f} GiB is needed")


# ---- self-test ---------------------------------------------------------------------------------------------

def reference_convolution(x, w):
    """3 x 3 convolution with zero padding in float64: N x C x H x W and K x C x 3 x 3 to N x K x H x W."""
    import numpy as np
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,kcij->nkhw", windows, w.astype(np.float64))


def convolution():
    """Run a small convolution in Jittor against numpy, and time one of 3.6 GFLOP.

    Returns {"device", "error": the largest difference of results that are about 1, "gflops": per second}.
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


def self_test():
    """`convolution` in a child process, so that a crash is a message too. UserError if it fails or errs."""
    runtime.prepare()
    runtime.compile_core()
    code = f"import json, sys; sys.path.insert(0, {str(ROOT)!r}); from ldm import diagnosis; " \
        "print('\\nresult', json.dumps(diagnosis.convolution()))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, errors="replace",
                           stdin=subprocess.DEVNULL)
    result = re.search(r"^result (.+)$", child.stdout, re.MULTILINE)
    if result is None:
        words = " ".join((child.stderr or child.stdout).split())
        raise UserError("self-test", f"a convolution ends with {child.returncode} (... {words[-300:]})",
                        f"delete {caches.cache_folder()} if all else here is ok")
    result = json.loads(result[1])
    if not result["error"] < TOLERANCE:          # a NaN is wrong too
        raise UserError("self-test", f"a convolution in Jittor is off by {result['error']:.1e}",
                        f"less than {TOLERANCE} is right")
    return result
