"""Prepares and imports Jittor: oneDNN, CUDA only with a device, a quiet log, patches.

Jittor reads its settings from the environment during its import. Its first import compiles its core, which
takes minutes, and may end with "please rerun your command"; this module handles that. Always use
`from ldm.backend import jt`, which calls `load`, and never `import jittor`.
"""
from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import re
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Callable, Iterator

from ldm.errors import UserError
from ldm.platform import compile_command, cuda, damage, jittor_copy, onednn, precompiled
from ldm.platform.cache import (
    cache_folder,
    check_cache,
    locked,
    own_folder,
    write_json,
    writing_cache,
)
from ldm.platform.compilers import (
    check_compilers,
    check_libstdcxx,
    check_mpi,
    compiler,
    in_mpi_run,
    mpi,
    python_config,
)
from ldm.platform.cuda import toolchain, toolkit
from ldm.platform.devices import check_driver, check_ranks, present_devices, take_device, visible_devices
from ldm.platform.patch import VERSION, Facts
from ldm.platform.trial_import import Notice, TrialImport, failure, repair, report_damage
from ldm.platform.variables import check_variables

CACHE_NAME = "main"                     # Jittor's default is the git branch: each branch would compile again
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")       # of the networks, see ldm/networks/precision.py
# What DNNL_MAX_CPU_ISA may hold oneDNN to, without bf16.
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_MIC", "AVX512_MIC_4OPS", "AVX512_CORE",
                "AVX512_CORE_VNNI")
NO_BF16 = "this processor has no AVX512_BF16 or AMX, there is no oneDNN, or DNNL_MAX_CPU_ISA forbids it"
RESTARTS = "IIDM_RESTARTS"                      # counts the restarts of one process, to limit them


def on_gpu() -> bool:
    """Whether networks run on a GPU."""
    return bool(visible_devices())


def cpu_flags() -> set[str]:
    """The features of this processor, with the names of Linux' /proc/cpuinfo."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers, and oneDNN, which uses that, is installed and may."""
    has_onednn = onednn.package() is not None or onednn.in_cache() is not None
    held = os.environ.get("DNNL_MAX_CPU_ISA", "").upper() in WITHOUT_BF16
    return has_onednn and not held and bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def check_precision(kind: str, where: str) -> None:
    """UserError if this machine cannot compute with the precision `kind`. where: the option that names it.

    Every machine has fp32, some processors have bf16; the others need a GPU.
    """
    if kind not in PRECISIONS:
        raise UserError(where, f"unknown precision '{kind}'", f"choose {', '.join(PRECISIONS)}")
    if kind == "fp32" or on_gpu() or kind == "bf16" and cpu_has_bf16():
        return
    why = f", and {NO_BF16}" if kind == "bf16" else ""
    raise UserError(where, f"is {kind} without a GPU{why}", "choose fp32")


def prepare() -> None:
    """Set the environment variables that Jittor reads. The user's values stay, unless they cannot work."""
    check_variables()
    os.environ.setdefault("log_silent", "1")
    # Jittor compiles in a thread for each 3 GB of memory: on few cores that is slower.
    os.environ.setdefault("use_parallel_op_compiler", str(min(16, os.cpu_count() or 1)))
    os.environ.setdefault("cache_name", CACHE_NAME)
    if visible_devices():
        for name, value in cuda.environment(cache_folder()).items():
            os.environ.setdefault(name, value)
    else:
        os.environ["nvcc_path"] = ""            # with a toolkit but no device Jittor's import would fail
    if sys.platform == "linux" and platform.machine() == "x86_64" and not onednn.link():
        os.environ["use_mkl"] = "0"             # correct, but convolutions are 80 times slower
    if in_mpi_run():
        check_mpi()
        check_ranks()
        if os.environ.get("use_nccl") == "0":
            take_device()
    # Outside MPI runs, hide mpicc: Jittor would compile with it, and its import fails with another MPI.
    os.environ["use_mpi"] = str(int(in_mpi_run()))
    if found := python_config():
        os.environ["python_config_path"] = str(found)


# ---- which Jittor ------------------------------------------------------------------------------------------

def numpy_version() -> tuple[int, ...]:
    """The version of the installed numpy; imports nothing."""
    try:
        version = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("numpy", f"is not installed in {sys.executable}",
                        "run `pip install -r requirements.txt`") from None
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


@functools.lru_cache
def _cuda_versions(nvcc: str | None, cache: Path) -> tuple:
    facts = toolchain.record(toolchain.folder(cache))
    if facts and nvcc == str(toolchain.folder(cache) / "bin/nvcc"):
        return tuple(tuple(map(int, facts[name].split("."))) for name in ("cuda", "cudnn"))
    found = toolkit.find_toolkit()
    library = toolkit.stock_cudnn(found) if found else None
    return found and found.version, library and library.version


def facts() -> Facts:
    """The versions that decide which patches Jittor needs here. Call `prepare` first."""
    versions = (None, None)
    if visible_devices():
        versions = _cuda_versions(os.environ.get("nvcc_path"), cache_folder())
        if present_devices() and versions[0]:
            check_driver(versions[0])
    return Facts(tuple(sys.version_info[:3]), numpy_version(), in_mpi_run(), *versions)


# ---- what has been compiled --------------------------------------------------------------------------------

def _system() -> str:
    """The name of this system in the path of Jittor's cache. It contains two digits of a hash of the host
    name, so a container with another name nearly always compiles again."""
    name = platform.platform() + platform.node()
    return name[:14] + "x" + hashlib.md5(name.encode()).hexdigest()[:2] if len(name) > 14 else name


def _stamp(name: str) -> Path:
    """A file that exists once `name` (the core, or a model's operators) was compiled with this Jittor and
    these settings into this cache."""
    variables = ("nvcc_path", "use_mkl", "use_mpi", "cc_flags", "cache_name", "python_config_path")
    key = [name, name != "core" and (precompiled.HEADER, compile_command.SCRIPT), cache_folder(),
           jittor_copy.choose(facts(), make=False).folder, compile_command.interpreter(), sys.version,
           _system(), compiler(), in_mpi_run() and mpi(), *(os.environ.get(v) for v in variables)]
    return own_folder() / hashlib.sha256(os.fsencode("|".join(map(str, key)))).hexdigest()[:16]


def _cores(folder: Path) -> dict[str, list[int]]:
    """{path: [size, time of last change]} of the core's libraries below Jittor's folder."""
    patterns = ("jit_utils_core*.so", "jittor_core*.so", "cu*/jittor_core*.so")
    found = (path for pattern in patterns for path in folder.glob(pattern))
    return {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(found)}


def compiled_core() -> Path | None:
    """The file of Jittor's compiled core; None if it is not compiled yet, or was changed since.

    Call `prepare` first."""
    try:
        written = json.loads(_stamp("core").read_text())
        if written["cores"] != _cores(Path(written["folder"])):
            return None
        return next((Path(path) for path in written["cores"] if "jittor_core" in path), None)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_compiled(name: str) -> bool:
    """Whether `name` (see `notice_compile`) was compiled on this machine."""
    prepare()
    stamp, core = _stamp(name), compiled_core()
    return bool(core and stamp.exists() and stamp.stat().st_mtime >= core.stat().st_mtime)


def notice_compile(name: str, text: str) -> Callable[[], None]:
    """Print `text` to standard error if the operators of `name` were not compiled on this machine yet.

    Returns a function to call when they are compiled."""
    if not is_compiled(name):
        check_compilers()                        # Jittor itself would fail with a long traceback
        print(text, file=sys.stderr, flush=True)
    stamp = _stamp(name)

    def done():
        with writing_cache():
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
    return done


# ---- compiling the core ------------------------------------------------------------------------------------

NOTICE = "First use: compiling Jittor's core, about 3 minutes on two cores, once ..."


def compile_core(again: bool = False) -> None:
    """Compile Jittor's core, with a notice, if it is not compiled yet; with `again` in any case.

    Repeats an import that ends with "please rerun". Of several processes one compiles and the others wait.
    """
    if compiled_core() and not again:
        return
    check_cache()
    check_compilers()
    with locked("lock", "Another process compiles Jittor's core; waiting for it ..."):
        if compiled_core() and not again:
            return
        choice, notice = jittor_copy.choose(facts()), Notice(None if again else NOTICE)
        if not any(cache_folder().glob("jt*/**/jittor_core*.so")):
            notice()                             # later imports print it only if they take long
        repaired = False
        for _ in range(4):
            child = TrialImport(choice, notice)
            if child.ready:
                write_json(_stamp("core"), {"folder": str(child.compiles), "cores": _cores(child.compiles)})
                return
            if not repaired and repair(child):
                repaired, notice.text = True, None
            elif "please rerun" not in child.output:
                break
    raise failure(child.output)


def explain(error: RuntimeError) -> UserError | None:
    """The UserError for an error that Jittor raised while it compiled or loaded an operator; None for other
    errors."""
    text = str(error)
    if not re.search("Run cmd failed|dlopen|cannot open shared object|file too short|No space left", text):
        return None
    return failure(text, "cannot compile or load an operator")


def _restart() -> None:
    """Start the same command again in this process: Jittor rebuilt a part of itself during its import."""
    count = int(os.environ.get(RESTARTS, 0))
    if count == 3:
        raise UserError("jittor", "rebuilt itself at three starts in a row",
                        f"end other programs that use Jittor with other flags, or delete {cache_folder()}")
    compile_core(again=True)
    os.environ[RESTARTS] = str(count + 1)
    arguments = getattr(sys, "orig_argv", None)             # from Python 3.10 on
    if arguments is None:
        arguments = [os.fsdecode(a) for a in Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *arguments[1:]])


# ---- the import --------------------------------------------------------------------------------------------

def _end_compilers():
    """End the idle compiler processes of Jittor's import; Jittor starts new ones if it needs them.

    Ctrl-C would kill them while they hold the lock of their queue, and this process would wait for that lock.
    """
    import jittor_utils
    if jittor_utils.pool_size:
        atexit.unregister(jittor_utils.pool_cleanup)
        jittor_utils.pool_cleanup()
        jittor_utils.pool_size = 0


def _take_signals_back():
    """Restore Python's handlers of SIGINT and SIGCHLD.

    Jittor's handlers end the process at once, without `finally`, at Ctrl-C and when a child dies from a
    signal, and Jittor has no switch for them. The second is for its data loader, which we do not use.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.getsignal(number) or signal.SIG_DFL)


@contextlib.contextmanager
def _python_kept() -> Iterator[None]:
    """Restore what Jittor's import changes in Python itself: https would accept any certificate, and Python
    would recurse so deep that a nested JSON file of a stranger ends the process."""
    import ssl
    context, depth = ssl._create_default_https_context, sys.getrecursionlimit()
    try:
        yield
    finally:
        ssl._create_default_https_context = context
        sys.setrecursionlimit(depth)


_loaded: ModuleType | None = None


def _check_operators() -> None:
    """Remove damaged operators, so that Jittor compiles them again. This holds Jittor's locks, since another
    process may be writing an operator."""
    folder = Path(json.loads(_stamp("core").read_text())["folder"])
    if not any(map(damage.is_damaged, folder.rglob("*.so"))):
        return
    with open(folder.parent / "jittor.lock", "a") as lock:
        # Two locks: the import takes one by flock, the C++ code one by fcntl, and neither excludes the other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.lockf(lock, fcntl.LOCK_EX)
        report_damage(damage.remove_damaged(folder), "compiled again when it is needed")


def _check_arrays(jittor: ModuleType, choice: jittor_copy.Choice) -> None:
    """UserError if an unpatched Jittor reads numpy's arrays wrongly."""
    import numpy
    array = numpy.arange(6, dtype=numpy.float64).reshape(2, 3).T
    if choice.warning and not numpy.array_equal(jittor.array(array).numpy(), array):
        raise UserError("jittor", f"this version does not work with numpy {numpy.__version__}",
                        f"run `pip install --no-deps jittor=={VERSION}`, or `pip install 'numpy<2'`")


def load() -> ModuleType:
    """Prepare, import and return Jittor; with a device, CUDA is on."""
    global _loaded
    if _loaded is not None:
        return _loaded
    if "jittor" in sys.modules or "jittor_utils" in sys.modules:
        raise UserError("jittor", "was imported before ldm, without the settings and patches it needs here",
                        "import ldm.backend first, and take jt from it")
    prepare()
    import numpy
    for kind in (numpy.float32, numpy.float64):
        numpy.finfo(kind)                        # numpy keeps it; later this would warn
    check_cache()
    if os.environ.get("LD_LIBRARY_PATH") or os.environ.get("LD_PRELOAD"):
        check_libstdcxx()
    choice = jittor_copy.choose(facts())
    if choice.warning:                           # print it before minutes of compiling
        print(choice.warning, file=sys.stderr, flush=True)
    compile_core()
    try:
        _check_operators()
        with _python_kept(), jittor_copy.importable(choice):
            with jittor_copy.environment(jittor_copy.home_variables()):
                importlib.import_module("jittor_utils")      # the module that looks for the cache
            import jittor
    except SystemExit:                           # "please rerun your command": Jittor rebuilt a part of it
        _restart()
    except UserError:
        raise
    except Exception as e:
        raise failure(str(e)) from e
    os.environ.pop(RESTARTS, None)
    _end_compilers()
    _take_signals_back()
    jittor.flags.use_cuda = int(bool(jittor.has_cuda) and jittor.get_device_count() > 0)
    if jittor.flags.use_cuda:
        cuda.memory.bound_cudnn(jittor)
    compile_command.install(jittor)
    precompiled.install(jittor)
    _check_arrays(jittor, choice)
    _loaded = jittor
    return jittor
