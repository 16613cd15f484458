"""Prepares Jittor before anything imports it: oneDNN without a download, CUDA only where a device is, a quiet log.

Jittor reads its settings from the environment while it is imported, compiles its core on the first import (minutes)
and can end that import with "please rerun your command"; all of that is dealt with here. Use `from ldm.backend
import jt`, which comes through here, and never `import jittor`.
"""
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ldm.errors import UserError

ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"       # the name that Jittor 1.3.11 looks for on x86-64 Linux


def cache_home():
    """The folder that holds `.cache/jittor`: Jittor's own rule ($JITTOR_HOME, else its saved choice, else $HOME)."""
    if "JITTOR_HOME" in os.environ:
        return Path(os.environ["JITTOR_HOME"]).absolute()
    saved = Path.home() / ".cache" / "jittor" / "config.json"
    if saved.exists():
        import json
        return Path(json.loads(saved.read_text()).get("JITTOR_HOME", Path.home()))
    return Path.home()


def onednn_files():
    """(library, include folder) of the oneDNN package in this environment, or None where it is not installed."""
    library, include = Path(sys.prefix, "lib", "libdnnl.so.2"), Path(sys.prefix, "include")
    return (library, include) if library.exists() and (include / "dnnl.hpp").exists() else None


def link_onednn():
    """Put the installed oneDNN where Jittor would unpack its download. True if Jittor will find a oneDNN there."""
    target = cache_home() / ".cache" / "jittor" / "mkl" / ONEDNN_FOLDER
    found = onednn_files()
    if found is None or (target / "lib" / "libmkldnn.so").is_file() and not (target / "lib").is_symlink() \
            and not (target / "lib" / "libmkldnn.so").is_symlink():
        return (target / "lib" / "libmkldnn.so").is_file()      # Jittor's own download, or nothing
    library, include = found
    (target / "lib").mkdir(parents=True, exist_ok=True)
    for link, source in ((target / "include", include), (target / "lib" / "libmkldnn.so", library),
                         (target / "lib" / "libdnnl.so.2", library)):
        if not (link.is_symlink() and Path(os.readlink(link)) == source):
            temporary = link.with_name(f".{link.name}.{os.getpid()}")
            temporary.symlink_to(source)
            os.replace(temporary, link)
    return True


def has_cuda_device():
    """True where the kernel driver shows an NVIDIA device; no toolkit is asked, since one may be there without."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def prepare():
    """Set the environment that Jittor reads at import. What the user has set stays."""
    os.environ.setdefault("log_silent", "1")
    if not has_cuda_device():
        os.environ["nvcc_path"] = ""            # a toolkit without a device ends Jittor's import in check_cuda
    if sys.platform == "linux" and os.uname().machine == "x86_64" and not link_onednn():
        os.environ["use_mkl"] = "0"             # correct, but convolutions are 80 times slower; doctor says so


def _stamp(name):
    """A file whose existence says that what `name` stands for has been compiled by this installation."""
    spec = importlib.util.find_spec("jittor")
    if spec is None:
        raise UserError("jittor", "is not installed in this Python", "run `pip install -r requirements.txt`")
    key = "|".join([name, spec.origin, sys.executable, sys.version, os.environ.get("nvcc_path", "auto"),
                    os.environ.get("use_mkl", "1"), os.environ.get("cc_path", ""), os.environ.get("cc_flags", "")])
    folder = cache_home() / ".cache" / "jittor" / "iidm"
    return folder / hashlib.sha256(key.encode()).hexdigest()[:16]


def notice_compile(name, text):
    """Say `text` on standard error if `name` was not compiled yet here; call the result when it has been."""
    stamp = _stamp(name)
    if not stamp.exists():
        print(text, file=sys.stderr, flush=True)

    def done():
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    return done


def _compile_core():
    """Import Jittor in a child process until that ends well: compiles the core, and takes the 'please rerun' exits."""
    if shutil.which(os.environ.get("cc_path", "g++")) is None:
        raise UserError("g++", "is not on the PATH", "Jittor compiles its operators with it (`apt-get install g++`)")
    probe = "import jittor; print('jittor', 'is ready')"
    for _ in range(3):
        child = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, errors="replace")
        if "jittor is ready" in child.stdout:
            return
    words = " ".join((child.stderr or child.stdout).split())
    raise UserError("jittor", f"does not start (... {words[-300:]})", "`python tools/doctor.py` says what is missing")


def load():
    """Import and return Jittor, prepared; CUDA is switched on where a device is."""
    if "jittor" in sys.modules:
        return sys.modules["jittor"]
    prepare()
    done = notice_compile("core", "First use: compiling Jittor's core, about 3 minutes on two cores, once ...")
    if not _stamp("core").exists():
        _compile_core()
        done()
    try:
        import jittor
    except SystemExit:                           # "please rerun your command": Jittor rebuilt a part of itself
        _compile_core()
        sys.stdout.flush()
        os.execv(sys.executable, getattr(sys, "orig_argv", [sys.executable, *sys.argv]))
    jittor.flags.use_cuda = int(bool(jittor.has_cuda))
    return jittor
