"""Prepares Jittor before anything imports it: oneDNN, CUDA only with a device, a quiet log.

Jittor reads its settings from the environment while it is imported, compiles its core on the first import
(minutes) and can end that import with "please rerun your command"; all of that is dealt with here. Use
`from ldm.backend import jt`, which comes through here, and never `import jittor`.
"""
import atexit
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ldm.errors import UserError
from ldm.files import open_beside
from ldm.platform import cuda

ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"       # the name that Jittor 1.3.11 looks for on x86-64 Linux
CACHE_NAME = "main"                             # Jittor's default is the git branch: a switch compiles anew
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")       # of the networks, see ldm/networks/precision.py
RESTARTS = "IIDM_RESTARTS"                      # counts the restarts of one process, so that they end


def cache_home():
    """The folder that holds `.cache/jittor`, by Jittor's rule: $JITTOR_HOME, a saved choice, $HOME."""
    if "JITTOR_HOME" in os.environ:
        return Path(os.environ["JITTOR_HOME"]).absolute()
    saved = Path.home() / ".cache" / "jittor" / "config.json"
    if saved.exists():
        try:
            return Path(json.loads(saved.read_text()).get("JITTOR_HOME", Path.home()))
        except (ValueError, AttributeError, TypeError):
            raise UserError(saved, "is not JSON as Jittor writes it", "delete it")
    return Path.home()


def cache_folder():
    """Where Jittor keeps what it compiled."""
    return cache_home() / ".cache" / "jittor"


@contextlib.contextmanager
def _writing_cache():
    """An OSError inside becomes a UserError that names the cache."""
    try:
        yield
    except OSError as e:
        raise UserError(cache_folder(), f"cannot be written ({e.strerror or e})",
                        "Jittor compiles there: set HOME to a writable folder with 1 GB free")


# ---- what Jittor finds -------------------------------------------------------------------------------------

def onednn_files():
    """(library, include folder) of the oneDNN package in this environment, or None if it is not installed."""
    library, include = Path(sys.prefix, "lib", "libdnnl.so.2"), Path(sys.prefix, "include")
    return (library, include) if library.exists() and (include / "dnnl.hpp").exists() else None


def onednn_in_cache():
    """What Jittor's cache holds: "download", Jittor's own oneDNN; "linked", one by `link_onednn`; or None."""
    folder = cache_folder() / "mkl" / ONEDNN_FOLDER
    if not (folder / "lib/libmkldnn.so").is_file() or not (folder / "include/dnnl.hpp").is_file():
        return None
    return "linked" if (folder / "include").is_symlink() else "download"


def link_onednn():
    """Put the installed oneDNN where Jittor would unpack its download. True if Jittor will find one there.

    What is there and whole stays, be it Jittor's download or the links of another environment: both have what
    the operators need, and a running process may rest on them.
    """
    if onednn_in_cache():
        return True
    found = onednn_files()
    if found is None:
        return False
    library, include = found
    target = cache_folder() / "mkl" / ONEDNN_FOLDER
    fresh, old = (target.with_name(f".{ONEDNN_FOLDER}.{os.getpid()}.{word}") for word in ("new", "old"))
    with _writing_cache():
        (fresh / "lib").mkdir(parents=True)
        (fresh / "include").symlink_to(include)
        for name in ("libmkldnn.so", "libdnnl.so.2"):
            (fresh / "lib" / name).symlink_to(library)
        with contextlib.suppress(OSError):       # where another process was quicker its links are as good
            if target.exists() and not onednn_in_cache():
                target.rename(old)               # a download cut off, links into a deleted environment
            fresh.rename(target)
        for folder in (fresh, old):
            shutil.rmtree(folder, ignore_errors=True)
    return onednn_in_cache() is not None


def has_cuda_device():
    """True where the kernel driver shows an NVIDIA device; a toolkit may be there without one."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def devices():
    """The NVIDIA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return given.split(",") if given else []
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def on_gpu():
    """Is a GPU to be used? `nvcc_path=` in the environment says that it is not, as docs/gpu.md has it."""
    return has_cuda_device() and os.environ.get("nvcc_path") != ""


def check_precision(kind, where):
    """Refuse a precision that there is not, or not without a GPU; `where` it was asked for."""
    if kind not in PRECISIONS:
        raise UserError(where, f"'{kind}' is none", f"one of {', '.join(PRECISIONS)} is")
    if kind != "fp32" and not on_gpu():
        raise UserError(where, f"is {kind} without a GPU", "fp32 is possible there")


def run(command):
    """Run a short command; both its channels are in `stdout`."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")


def mpi():
    """(path of mpicc, version of Open MPI or None if it is another MPI), or None without mpicc."""
    mpicc = shutil.which(os.environ.get("mpicc_path", "mpicc"))
    if mpicc is None:
        return None
    said = run([mpicc, "--showme:version"])
    version = re.search(r"Open MPI (\S+)", said.stdout)
    return mpicc, version[1] if version and said.returncode == 0 else None


def in_mpi_run():
    """True in a process that Open MPI's mpirun started."""
    return "OMPI_COMM_WORLD_SIZE" in os.environ


def take_device():
    """Let this rank of an MPI run see the device of its number on this machine alone. Without NCCL, by which
    Jittor chooses it, all would take the first."""
    if found := devices():
        local = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", 0))
        os.environ["CUDA_VISIBLE_DEVICES"] = found[local % len(found)]


def _check_mpi():
    found = mpi()
    if found is None or found[1] is None:
        raise UserError(found[0] if found else "mpicc",
                        "is not Open MPI's" if found else "is not on the PATH",
                        "Jittor compiles with it for a run of several processes: "
                        "`apt-get install openmpi-bin libopenmpi-dev`")


def python_config():
    """The script that tells Jittor where the Python headers are, or None; Jittor omits the last place."""
    folder, name = Path(sys.executable).parent, f"python3.{sys.version_info.minor}-config"
    places = [folder / name, Path(sys.executable + "-config"), Path("/usr/bin", name),
              Path("/usr/local/bin", name), folder / "python3-config", Path(sys.base_prefix, "bin", name)]
    if "python_config_path" in os.environ:
        places.insert(0, Path(os.environ["python_config_path"]))
    return next((place for place in places if place.is_file()), None)


def python_headers():
    """The folder with Python.h as Jittor will be told, or None."""
    config = python_config()
    if config is None:
        return None
    folders = [Path(word[2:]) for word in run([config, "--includes"]).stdout.split() if word.startswith("-I")]
    return next((folder for folder in folders if (folder / "Python.h").is_file()), None)


def compiler():
    """The path of the C++ compiler that Jittor will use, or None."""
    return shutil.which(os.environ.get("cc_path", "g++"))


def prepare():
    """Set the environment that Jittor reads at import. What the user has set stays, unless it cannot work."""
    os.environ.setdefault("log_silent", "1")
    # Jittor compiles in a thread for each 3 GB of memory: on few cores that is slower.
    os.environ.setdefault("use_parallel_op_compiler", str(min(16, os.cpu_count() or 1)))
    os.environ.setdefault("cache_name", CACHE_NAME)
    if has_cuda_device():
        for name, value in cuda.environment(cache_folder()).items():
            os.environ.setdefault(name, value)
    else:
        os.environ["nvcc_path"] = ""            # a toolkit without a device ends Jittor's import
    if sys.platform == "linux" and platform.machine() == "x86_64" and not link_onednn():
        os.environ["use_mkl"] = "0"             # correct, but convolutions are 80 times slower
    if in_mpi_run():
        _check_mpi()
        if os.environ.get("use_nccl") == "0":
            take_device()
    # Elsewhere an mpicc must not matter: Jittor would compile against it, and end its import at another MPI.
    os.environ["use_mpi"] = str(int(in_mpi_run()))
    if found := python_config():
        os.environ["python_config_path"] = str(found)


# ---- what has been compiled --------------------------------------------------------------------------------

def _stamp(name):
    """A file whose existence says that what `name` stands for has been compiled by this installation."""
    spec = importlib.util.find_spec("jittor")
    if spec is None:
        raise UserError("jittor", "is not installed in this Python", "run `pip install -r requirements.txt`")
    variables = ("nvcc_path", "use_mkl", "use_mpi", "cc_flags", "cache_name", "python_config_path")
    key = [name, spec.origin, sys.executable, sys.version, platform.platform(), platform.node(),
           compiler(), in_mpi_run() and mpi(), *(os.environ.get(v) for v in variables)]
    return cache_folder() / "iidm" / hashlib.sha256(os.fsencode("|".join(map(str, key)))).hexdigest()[:16]


def compiled_core():
    """The file of Jittor's compiled core, or None if it is still to be compiled. Call `prepare` first."""
    try:
        folder = _stamp("core").read_text()
    except OSError:
        return None
    return next(Path(folder).glob("jittor_core*.so"), None) if folder else None


def notice_compile(name, text):
    """Say `text` on standard error if `name` was not compiled yet here; call the result when it has been."""
    prepare()
    stamp, core = _stamp(name), compiled_core()
    if not (core and stamp.exists() and stamp.stat().st_mtime >= core.stat().st_mtime):
        print(text, file=sys.stderr, flush=True)

    def done():
        with _writing_cache():
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
    return done


@contextlib.contextmanager
def _alone(path):
    """Hold the lock file `path`; say so if another process has it."""
    with _writing_cache():
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open_beside(path)
    with os.fdopen(lock, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another process compiles Jittor's core; waiting for it ...", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _import_in_child():
    """Import Jittor in a child process. Return (folder of its core or None, all that it said).

    On a terminal the count of compiled files is shown meanwhile. The child is no rank of an MPI run: it would
    join that as a second process of the same rank.
    """
    probe = "import jittor; print('\\njittor is ready in', jittor.compiler.cache_path)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_"))}
    child = subprocess.Popen([sys.executable, "-u", "-c", probe], env={**environment, "log_silent": "0"},
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, shown = "", None
    while chunk := child.stdout.read1(65536):
        said += chunk.decode(errors="replace")
        counts = re.findall(r"Compiling \S+\((\d+/\d+)\)", said[-2000:])
        if sys.stderr.isatty() and counts and counts[-1] != shown:
            shown = counts[-1]
            print(f"\r{shown} files ", end="", file=sys.stderr, flush=True)
    child.wait()
    if shown:
        print(file=sys.stderr)
    folder = re.search(r"^jittor is ready in (.+)$", said, re.MULTILINE)
    return folder and folder[1].strip(), said


def _check_tools():
    """Raise a UserError for what Jittor needs to compile and would miss with a page of traceback."""
    if compiler() is None:
        raise UserError(os.environ.get("cc_path", "g++"), "is not on the PATH",
                        "Jittor compiles its operators with it: `apt-get install g++`")
    if python_headers() is None:
        raise UserError("Python.h", f"is not installed for {sys.executable}",
                        "Jittor compiles against it: `apt-get install python3-dev`")


def compile_core(again=False):
    """Compile Jittor's core if that has not been done here, or `again` in any case. Says so before.

    Takes the "please rerun" exits of the import; of several processes one compiles and the others wait.
    """
    if compiled_core() and not again:
        return
    _check_tools()
    stamp = _stamp("core")
    with _alone(stamp.with_name("lock")):
        if compiled_core() and not again:
            return
        if not again:
            print("First use: compiling Jittor's core, about 3 minutes on two cores, once ...",
                  file=sys.stderr, flush=True)
        for _ in range(3):
            folder, said = _import_in_child()
            if folder:
                with _writing_cache():
                    stamp.write_text(folder)
                return
    raise _broken(said)


def _broken(said):
    words = " ".join(re.sub(r"\x1b\[[\d;]*m", "", said).split())
    return UserError("jittor", f"does not start (... {words[-300:]})",
                     "`python tools/doctor.py` says what is missing")


def _restart():
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


def load():
    """Import and return Jittor, prepared; CUDA is switched on where a device is."""
    if "jittor" in sys.modules:
        return sys.modules["jittor"]
    prepare()
    import numpy
    if int(numpy.__version__.split(".")[0]) > 1:
        raise UserError("numpy", f"is {numpy.__version__}, under which Jittor computes garbage",
                        "run `pip install 'numpy<2'`")
    compile_core()
    try:
        import jittor
    except SystemExit:                           # "please rerun your command": Jittor rebuilt a part of it
        _restart()
    except Exception as e:
        _check_tools()
        raise _broken(str(e)) from e
    os.environ.pop(RESTARTS, None)
    _end_compilers()
    _take_signals_back()
    jittor.flags.use_cuda = int(bool(jittor.has_cuda) and jittor.get_device_count() > 0)
    if jittor.flags.use_cuda:
        cuda.memory.bound_cudnn(jittor)
    return jittor
