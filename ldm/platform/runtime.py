"""Prepares Jittor before anything imports it: oneDNN, CUDA only with a device, a quiet log, patches.

Jittor reads its settings from the environment while it is imported, compiles its core on the first import
(minutes) and can end that import with "please rerun your command"; all of that is dealt with here. Use
`from ldm.backend import jt`, which comes through here, and never `import jittor`.
"""
from __future__ import annotations

import atexit
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
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Callable

from ldm.errors import UserError
from ldm.platform import cuda, damage, jittor_copy, onednn
from ldm.platform.cache import (
    REMEDY,
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
from ldm.platform.variables import check_variables

CACHE_NAME = "main"                             # Jittor's default is the git branch: a switch compiles anew
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")       # of the networks, see ldm/networks/precision.py
RESTARTS = "IIDM_RESTARTS"                      # counts the restarts of one process, so that they end
PATIENCE = 5                                    # seconds that an import may take before a notice is printed


def on_gpu() -> bool:
    """Is a GPU to be used?"""
    return bool(visible_devices())


def cpu_flags() -> set[str]:
    """What this processor can do, in the words of Linux' /proc/cpuinfo."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def cpu_has_bf16() -> bool:
    """Does this processor multiply bf16 numbers, and is oneDNN here, which knows how?"""
    has_onednn = onednn.package() is not None or onednn.in_cache() is not None
    return has_onednn and bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def check_precision(kind: str, where: str) -> None:
    """Refuse a precision that does not exist, or not on this machine; `where` it was asked for. A processor
    may have bf16; all else but fp32 is a GPU's."""
    if kind not in PRECISIONS:
        raise UserError(where, f"'{kind}' is none", f"one of {', '.join(PRECISIONS)} is")
    if kind == "fp32" or on_gpu() or kind == "bf16" and cpu_has_bf16():
        return
    why = ", and this processor has no AVX512_BF16 or AMX, or no oneDNN" if kind == "bf16" else ""
    raise UserError(where, f"is {kind} without a GPU{why}", "fp32 is possible there")


def prepare() -> None:
    """Set the environment that Jittor reads at import. What the user has set stays, unless it cannot work."""
    check_variables()
    os.environ.setdefault("log_silent", "1")
    # Jittor compiles in a thread for each 3 GB of memory: on few cores that is slower.
    os.environ.setdefault("use_parallel_op_compiler", str(min(16, os.cpu_count() or 1)))
    os.environ.setdefault("cache_name", CACHE_NAME)
    if visible_devices():
        for name, value in cuda.environment(cache_folder()).items():
            os.environ.setdefault(name, value)
    else:
        os.environ["nvcc_path"] = ""            # a toolkit without a device ends Jittor's import
    if sys.platform == "linux" and platform.machine() == "x86_64" and not onednn.link():
        os.environ["use_mkl"] = "0"             # correct, but convolutions are 80 times slower
    if in_mpi_run():
        check_mpi()
        check_ranks()
        if os.environ.get("use_nccl") == "0":
            take_device()
    # Elsewhere an mpicc must not matter: Jittor would compile against it, and end its import at another MPI.
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
    """What decides which patches Jittor needs here. Call `prepare` first."""
    versions = (None, None)
    if visible_devices():
        versions = _cuda_versions(os.environ.get("nvcc_path"), cache_folder())
        if present_devices() and versions[0]:
            check_driver(versions[0])
    return Facts(tuple(sys.version_info[:3]), numpy_version(), in_mpi_run(), *versions)


# ---- what has been compiled --------------------------------------------------------------------------------

def _system() -> str:
    """This system as Jittor has it in the path of what it compiles. Two digits of a hash are what it keeps of
    the host's name, so a container of another name compiles anew, nearly always."""
    name = platform.platform() + platform.node()
    return name[:14] + "x" + hashlib.md5(name.encode()).hexdigest()[:2] if len(name) > 14 else name


def _stamp(name: str) -> Path:
    """A file that says that what `name` stands for has been compiled, by this Jittor into this cache."""
    variables = ("nvcc_path", "use_mkl", "use_mpi", "cc_flags", "cache_name", "python_config_path")
    key = [name, cache_folder(), jittor_copy.choose(facts(), make=False).folder, sys.executable, sys.version,
           _system(), compiler(), in_mpi_run() and mpi(), *(os.environ.get(v) for v in variables)]
    return own_folder() / hashlib.sha256(os.fsencode("|".join(map(str, key)))).hexdigest()[:16]


def _cores(folder: Path) -> dict[str, list[int]]:
    """{path: [size, time of its last change]} of the core's libraries below Jittor's folder."""
    patterns = ("jit_utils_core*.so", "jittor_core*.so", "cu*/jittor_core*.so")
    found = (path for pattern in patterns for path in folder.glob(pattern))
    return {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(found)}


def compiled_core() -> Path | None:
    """The file of Jittor's compiled core; None if it is still to be compiled, or is not as it was left. Call
    `prepare` first."""
    try:
        written = json.loads(_stamp("core").read_text())
        if written["cores"] != _cores(Path(written["folder"])):
            return None
        return next((Path(path) for path in written["cores"] if "jittor_core" in path), None)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_compiled(name: str) -> bool:
    """Has what `name` stands for been compiled on this machine?"""
    prepare()
    stamp, core = _stamp(name), compiled_core()
    return bool(core and stamp.exists() and stamp.stat().st_mtime >= core.stat().st_mtime)


def notice_compile(name: str, text: str) -> Callable[[], None]:
    """Print `text` to standard error if `name` has not been compiled on this machine. Returns a function to
    call once it has."""
    if not is_compiled(name):
        check_compilers()                        # before Jittor fails with a page of traceback
        print(text, file=sys.stderr, flush=True)
    stamp = _stamp(name)

    def done():
        with writing_cache():
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
    return done


# ---- compiling the core ------------------------------------------------------------------------------------

NOTICE = "First use: compiling Jittor's core, about 3 minutes on two cores, once ..."
PROBE = ("import jittor_utils; print('\\njittor compiles in', jittor_utils.cache_path, flush=True); "
         "import jittor; print('\\njittor is ready in', jittor.compiler.cache_path)")


class _Import:
    """An import of Jittor in a child process: `ready` and `compiles` are folders or None, `said` is all that
    the child printed, `killed` whether it died of a signal."""

    def __init__(self, choice: jittor_copy.Choice, notice: Callable[[], None]):
        # No rank of an MPI run: the child would join that as a second process of the same rank.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_"))}
        with jittor_copy.importable(choice) as more:
            self._child = subprocess.Popen(
                [sys.executable, "-u", "-c", PROBE],
                env={**environment, **more, **jittor_copy.home_variables(), "log_silent": "0"},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = ""
        self._follow(notice)
        self.ready, self.compiles = self._folder("is ready"), self._folder("compiles")
        self.killed = self._child.returncode < 0 or bool(re.search("Caught segfault|Get signal", self.said))

    def _follow(self, notice):
        """Take in what the child says; on a terminal the count of compiled files is shown."""
        timer, shown = threading.Timer(PATIENCE, notice), None
        timer.start()
        while chunk := self._child.stdout.read1(65536):
            self.said += chunk.decode(errors="replace")
            counts = re.findall(r"Compiling \S+\((\d+/\d+)\)", self.said[-2000:])
            if counts and counts[-1] != shown:
                shown = counts[-1]
                notice()
                if sys.stderr.isatty():
                    print(f"\r{shown} files ", end="", file=sys.stderr, flush=True)
        self._child.wait()
        timer.cancel()
        if shown and sys.stderr.isatty():
            print(file=sys.stderr)

    def _folder(self, words):
        found = re.search(f"^jittor {words} in (.+)$", self.said, re.MULTILINE)
        return Path(found[1].strip()) if found else None


class _Notice:
    """Prints its text once."""

    def __init__(self, text):
        self.text = text

    def __call__(self):
        text, self.text = self.text, None
        if text:
            print(text, file=sys.stderr, flush=True)


def compile_core(again: bool = False) -> None:
    """Compile Jittor's core if that has not been done here, or `again` in any case. Says so before.

    Takes the "please rerun" exits of the import; of several processes one compiles and the others wait.
    """
    if compiled_core() and not again:
        return
    check_cache()
    check_compilers()
    with locked("lock", "Another process compiles Jittor's core; waiting for it ..."):
        if compiled_core() and not again:
            return
        choice, notice = jittor_copy.choose(facts()), _Notice(None if again else NOTICE)
        if not any(cache_folder().glob("jt*/**/jittor_core*.so")):
            notice()                             # a later start takes seconds, if nothing has changed
        repaired = False
        for _ in range(4):
            child = _Import(choice, notice)
            if child.ready:
                write_json(_stamp("core"), {"folder": str(child.compiles), "cores": _cores(child.compiles)})
                return
            if not repaired and _repair(child):
                repaired, notice.text = True, None
            elif "please rerun" not in child.said:
                break
    raise _broken(child.said)


def _repair(child: _Import) -> bool:
    """Remove what is damaged in the cache that `child` failed on. False where nothing was found."""
    if child.compiles is None:
        return False
    removed = damage.remove_damaged(child.compiles)
    if child.killed and not removed:
        removed = [path for path in child.compiles.rglob("*.so") if "core" in path.name]
        for path in removed:
            damage.remove_compiled(path)
    _say_damaged(removed, "compiling Jittor's core again, about 3 minutes ...")
    return bool(removed)


def _say_damaged(removed: list[Path], what_now: str) -> None:
    if removed:
        more = f" and {len(removed) - 1} more files" if removed[1:] else ""
        print(f"{removed[0]}{more}: damaged in Jittor's cache; {what_now}", file=sys.stderr, flush=True)


def _broken(said: str, fault: str = "does not start") -> UserError:
    """Why Jittor does not start or has another `fault`, from what it said and from what can be looked at."""
    plain = re.sub(r"\x1b\[[\d;]*[mK]", "", said)
    words = " ".join(plain.split())
    if found := re.search("No space left on device|Disk quota exceeded|Read-only file system", words):
        return UserError(cache_folder(), f"cannot be written ({found[0]})", REMEDY)
    try:
        check_cache()
        check_compilers()
    except UserError as e:
        return e
    # The compiler's own first error says more than the long command that Jittor ends with.
    first = re.search(r"^.*\b(?:fatal )?error: .*$", plain, re.MULTILINE)
    reason = " ".join(first[0].split())[:300] if first else words[-300:]
    return UserError("jittor", f"{fault} (... {reason})",
                     f"`python tools/doctor.py` says what is missing; if nothing is, delete {cache_folder()}")


def explain(error: RuntimeError) -> UserError | None:
    """What a user can do about an error that Jittor raised while it compiled or loaded an operator; None for
    any other error."""
    text = " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(error)).split())
    if not re.search("Run cmd failed|dlopen|cannot open shared object|file too short|No space left", text):
        return None
    return _broken(text, "cannot compile or load an operator")


def _restart() -> None:
    """Start this very command again in this process: its Jittor is half loaded and half rebuilt."""
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
    """End the idle processes that Jittor's import compiled with; it starts them again if it needs them.

    At Ctrl-C they would die with the lock of their queue, and this process would wait for that at its exit.
    """
    import jittor_utils
    if jittor_utils.pool_size:
        atexit.unregister(jittor_utils.pool_cleanup)
        jittor_utils.pool_cleanup()
        jittor_utils.pool_size = 0


def _take_signals_back():
    """Give SIGINT and SIGCHLD their handlers back.

    Jittor's end the process at once, without a `finally`, at Ctrl-C and whenever a child dies by a signal. It
    has no switch for that; the second guards its data loader's processes, which are not used here.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.getsignal(number) or signal.SIG_DFL)


_loaded: ModuleType | None = None


def _check_operators() -> None:
    """Have damaged operators compiled again, under Jittor's locks: another process may be writing one."""
    folder = Path(json.loads(_stamp("core").read_text())["folder"])
    if not any(map(damage.is_damaged, folder.rglob("*.so"))):
        return
    with open(folder.parent / "jittor.lock", "a") as lock:
        # Two locks: the import takes one by flock, the C++ code one by fcntl, and neither excludes the other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.lockf(lock, fcntl.LOCK_EX)
        _say_damaged(damage.remove_damaged(folder), "compiled again when it is needed")


def _check_arrays(jittor: ModuleType, choice: jittor_copy.Choice) -> None:
    """UserError where an unpatched Jittor hands numpy's arrays over wrongly."""
    import numpy
    array = numpy.arange(6, dtype=numpy.float64).reshape(2, 3).T
    if choice.warning and not numpy.array_equal(jittor.array(array).numpy(), array):
        raise UserError("jittor", f"this version does not work with numpy {numpy.__version__}",
                        f"run `pip install --no-deps jittor=={VERSION}`, or `pip install 'numpy<2'`")


def load() -> ModuleType:
    """Import and return Jittor, prepared; CUDA is switched on where a device is."""
    global _loaded
    if _loaded is not None:
        return _loaded
    if "jittor" in sys.modules or "jittor_utils" in sys.modules:
        raise UserError("jittor", "was imported before ldm, without the settings and patches it needs here",
                        "import ldm.backend first, and take jt from it")
    prepare()
    import numpy
    for kind in (numpy.float32, numpy.float64):
        numpy.finfo(kind)                        # kept: later it would warn of Jittor's flush-to-zero
    check_cache()
    if os.environ.get("LD_LIBRARY_PATH") or os.environ.get("LD_PRELOAD"):
        check_libstdcxx()
    choice = jittor_copy.choose(facts())
    if choice.warning:                           # before minutes of compiling that it may end
        print(choice.warning, file=sys.stderr, flush=True)
    compile_core()
    try:
        _check_operators()
        with jittor_copy.importable(choice):
            with jittor_copy.environment(jittor_copy.home_variables()):
                importlib.import_module("jittor_utils")      # it alone asks where the cache is
            import jittor
    except SystemExit:                           # "please rerun your command": Jittor rebuilt a part of it
        _restart()
    except UserError:
        raise
    except Exception as e:
        raise _broken(str(e)) from e
    os.environ.pop(RESTARTS, None)
    _end_compilers()
    _take_signals_back()
    jittor.flags.use_cuda = int(bool(jittor.has_cuda) and jittor.get_device_count() > 0)
    if jittor.flags.use_cuda:
        cuda.memory.bound_cudnn(jittor)
    _check_arrays(jittor, choice)
    _loaded = jittor
    return jittor
