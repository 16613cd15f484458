"""Where the CUDA toolkit, its libraries and cuDNN are: the system's, or this Python's `nvidia-*` wheels."""
import dataclasses
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from ldm.errors import UserError

# What Jittor's extensions include and link, and the wheel for CUDA 13 that brings it.
LIBRARIES = {"cudart": ("cuda_runtime.h", "nvidia-cuda-runtime"), "cublas": ("cublas.h", "nvidia-cublas"),
             "cublasLt": ("cublasLt.h", "nvidia-cublas"), "curand": ("curand.h", "nvidia-curand"),
             "cufft": ("cufft.h", "nvidia-cufft"), "cusparse": ("cusparse.h", "nvidia-cusparse")}
CUDNN_LIBRARIES = ("cudnn", "cudnn_ops", "cudnn_cnn")       # those that Jittor opens, by their names in 9


@dataclasses.dataclass(frozen=True)
class Toolkit:
    """nvcc, its version, and the folder with its bin, include and lib."""
    nvcc: Path
    version: tuple
    home: Path


@dataclasses.dataclass(frozen=True)
class CuDNN:
    """cuDNN's version and the folders of its headers and of its libraries (None: headers alone)."""
    version: tuple
    include: Path
    library: Path


def dotted(version):
    return ".".join(map(str, version))


def _folders(*candidates):
    """Those that exist, each once and in order."""
    return list(dict.fromkeys(Path(c) for c in candidates if Path(c).is_dir()))


def wheel_folders(major):
    """The folders of the `nvidia-*` wheels for CUDA `major`, each with `include` and `lib` below it."""
    spec = importlib.util.find_spec("nvidia")
    found = []
    for site in (spec and spec.submodule_search_locations) or ():
        shared = (f"cu{major}",) if major >= 13 else sorted(p.name for p in Path(site).iterdir()
                                                           if not re.fullmatch(r"cu\d+", p.name))
        found += [Path(site, name) for name in (*shared, "cudnn")]
    return _folders(*found)


# ---- nvcc --------------------------------------------------------------------------------------------------

def nvcc_candidates():
    """Where an nvcc may be, the user's own word first."""
    variables = (os.environ[v] for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v))
    homes = [*variables, "/usr/local/cuda", "/usr", "/opt/cuda",
             *(folder for major in (13, 12) for folder in wheel_folders(major))]
    named = [os.environ.get("nvcc_path"), shutil.which("nvcc"), *(Path(home, "bin/nvcc") for home in homes)]
    return list(dict.fromkeys(Path(path) for path in named if path))


def _output(*command):
    """What a program says on both channels; "" where it cannot be run."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace").stdout
    except OSError:
        return ""


def find_toolkit():
    """The first nvcc that answers, as a `Toolkit`, or None.

    nvcc itself says where its home is: the program found may be a link or a script that calls another one.
    """
    for nvcc in nvcc_candidates():
        version = re.search(r"release [\d.]+, V(\d+)\.(\d+)\.(\d+)", _output(nvcc, "--version"))
        top = re.search(r"^#\$ TOP=(.+)$", _output(nvcc, "--dryrun", "any.cu"), re.MULTILINE)
        if version and top:
            home = Path(top[1].strip()).resolve()
            return Toolkit(home / "bin/nvcc", tuple(map(int, version.groups())), home)
    return None


def check_nvcc(toolkit):
    """A UserError where nvcc cannot compile an empty kernel: its wheels may be of different versions."""
    done = subprocess.run([toolkit.nvcc, "-x", "cu", "-cubin", "-o", os.devnull, "-"], text=True,
                          input="__global__ void kernel() {}\n", capture_output=True, errors="replace")
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())
        raise UserError(toolkit.nvcc, f"cannot compile an empty kernel (... {words[-200:]})",
                        "nvcc, crt and nvvm must be of one version, and g++ be there")


# ---- headers and libraries ---------------------------------------------------------------------------------

def include_folders(toolkit):
    """Folders of headers, the toolkit's before the wheels'."""
    machine = platform.machine()
    return _folders(toolkit.home / "include", toolkit.home / f"targets/{machine}-linux/include",
                    *(folder / "include" for folder in wheel_folders(toolkit.version[0])))


def library_folders(toolkit):
    """Folders of shared libraries, the toolkit's before the wheels'."""
    machine = platform.machine()
    return _folders(toolkit.home / "lib64", toolkit.home / f"targets/{machine}-linux/lib",
                    toolkit.home / "lib", *(f / "lib" for f in wheel_folders(toolkit.version[0])))


def _holds(folder, name):
    return any(folder.glob(f"lib{name}.so*"))


def check_libraries(toolkit):
    """A UserError that names every library or header of `LIBRARIES` that is in none of the folders."""
    missing = {wheel: name for name, (header, wheel) in LIBRARIES.items()
               if not any(_holds(folder, name) for folder in library_folders(toolkit))
               or not any((folder / header).is_file() for folder in include_folders(toolkit))}
    if missing:
        wheels = " ".join(missing) if toolkit.version[0] >= 13 else "the CUDA toolkit in full"
        names = ", ".join(missing.values())
        raise UserError(toolkit.home, f"has not {names} with its header, nor has a wheel",
                        f"install {wheels}")


# ---- cuDNN -------------------------------------------------------------------------------------------------

def _cudnn_in(include, libraries):
    header = include / "cudnn_version.h"
    if not header.is_file():
        return None
    numbers = dict(re.findall(r"#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)\s+(\d+)", header.read_text()))
    version = tuple(int(numbers.get(k, 0)) for k in ("MAJOR", "MINOR", "PATCHLEVEL"))
    holding = (folder for folder in libraries if all(_holds(folder, name) for name in CUDNN_LIBRARIES))
    return CuDNN(version, include, next(holding, None))


def stock_cudnn(toolkit):
    """The cuDNN that an unprepared Jittor finds, by its own list of places, or None."""
    machine = platform.machine()
    libraries = _folders(*library_folders(toolkit), f"/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib")
    includes = _folders(toolkit.home / "include", toolkit.home / f"targets/{machine}-linux/include",
                        "/usr/include", f"/usr/include/{machine}-linux-gnu")
    found = (_cudnn_in(include, libraries) for include in includes)
    return next((cudnn for cudnn in found if cudnn), None)


def find_cudnn(toolkit):
    """The cuDNN 9 to use with `toolkit`: the system's with its libraries, else the wheel's, or None."""
    wheels = (_cudnn_in(f / "include", [f / "lib"]) for f in wheel_folders(toolkit.version[0]))
    return next((cudnn for cudnn in (stock_cudnn(toolkit), *wheels)
                 if cudnn and cudnn.version[0] == 9 and cudnn.library), None)


def left_alone(toolkit):
    """True where Jittor builds as it is: CUDA 11 or 12 with cuDNN 8."""
    cudnn = stock_cudnn(toolkit)
    return toolkit.version[0] in (11, 12) and cudnn is not None and cudnn.version[0] == 8
