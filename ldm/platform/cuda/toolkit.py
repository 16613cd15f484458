"""Finds the CUDA toolkit, its libraries and cuDNN, in the system or in this Python's `nvidia-*` wheels."""
from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Iterable, Optional, Union

from ldm.errors import UserError

# Libraries of Jittor's extensions: name: (header, wheel for CUDA 13).
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
    library: Optional[Path]


def dotted(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


def _folders(*candidates: Union[str, Path]) -> list[Path]:
    """The existing ones, each once, in order."""
    return list(dict.fromkeys(Path(c) for c in candidates if Path(c).is_dir()))


def wheel_folders(major: int) -> list[Path]:
    """The folders of the `nvidia-*` wheels for CUDA `major`, each with `include` and `lib` below it."""
    spec = importlib.util.find_spec("nvidia")
    found = []
    for site in (spec and spec.submodule_search_locations) or ():
        shared = (f"cu{major}",) if major >= 13 else sorted(p.name for p in Path(site).iterdir()
                                                           if not re.fullmatch(r"cu\d+", p.name))
        found += [Path(site, name) for name in (*shared, "cudnn")]
    return _folders(*found)


# ---- nvcc --------------------------------------------------------------------------------------------------

def nvcc_candidates() -> list[Path]:
    """Paths where nvcc may be; what the user set comes first."""
    variables = (os.environ[v] for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v))
    homes: list[Union[str, Path]] = [*variables, "/usr/local/cuda", "/usr", "/opt/cuda",
                                     *(folder for major in (13, 12) for folder in wheel_folders(major))]
    named = [os.environ.get("nvcc_path"), shutil.which("nvcc"), *(Path(home, "bin/nvcc") for home in homes)]
    return list(dict.fromkeys(Path(path) for path in named if path))


def _output(*command: Union[str, Path]) -> str:
    """The output of a program, with its errors; "" if it cannot be run."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace").stdout
    except OSError:
        return ""


def find_toolkit() -> Optional[Toolkit]:
    """The Toolkit of the first nvcc that works, or None.

    nvcc itself prints its folder: the program found may be a link, or a script that calls another nvcc.
    """
    for nvcc in nvcc_candidates():
        version = re.search(r"release [\d.]+, V(\d+)\.(\d+)\.(\d+)", _output(nvcc, "--version"))
        top = re.search(r"^#\$ TOP=(.+)$", _output(nvcc, "--dryrun", "any.cu"), re.MULTILINE)
        if version and top:
            home = Path(top[1].strip()).resolve()
            return Toolkit(home / "bin/nvcc", tuple(map(int, version.groups())), home)
    return None


def check_nvcc(toolkit: Toolkit) -> None:
    """UserError if nvcc cannot compile an empty kernel: its wheels may have different versions."""
    done = subprocess.run([toolkit.nvcc, "-x", "cu", "-cubin", "-o", os.devnull, "-"], text=True,
                          input="__global__ void kernel() {}\n", capture_output=True, errors="replace")
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())
        raise UserError(toolkit.nvcc, f"cannot compile an empty kernel (... {words[-200:]})",
                        "install nvcc, crt and nvvm of one version, and g++")


# ---- headers and libraries ---------------------------------------------------------------------------------

def include_folders(toolkit: Toolkit) -> list[Path]:
    """Folders of headers: the toolkit's, then the wheels'."""
    machine = platform.machine()
    return _folders(toolkit.home / "include", toolkit.home / f"targets/{machine}-linux/include",
                    *(folder / "include" for folder in wheel_folders(toolkit.version[0])))


def library_folders(toolkit: Toolkit) -> list[Path]:
    """Folders of shared libraries: the toolkit's, then the wheels'."""
    machine = platform.machine()
    return _folders(toolkit.home / "lib64", toolkit.home / f"targets/{machine}-linux/lib",
                    toolkit.home / "lib", *(f / "lib" for f in wheel_folders(toolkit.version[0])))


def _holds(folder: Path, name: str) -> bool:
    return any(folder.glob(f"lib{name}.so*"))


def check_libraries(toolkit: Toolkit) -> None:
    """UserError that names every library of `LIBRARIES` that no folder has, with its header."""
    missing = {wheel: name for name, (header, wheel) in LIBRARIES.items()
               if not any(_holds(folder, name) for folder in library_folders(toolkit))
               or not any((folder / header).is_file() for folder in include_folders(toolkit))}
    if missing:
        wheels = " ".join(missing) if toolkit.version[0] >= 13 else "the CUDA toolkit in full"
        names = ", ".join(missing.values())
        raise UserError(toolkit.home, f"lacks {names} or their headers, and no wheel has them",
                        f"install {wheels}")


# ---- cuDNN -------------------------------------------------------------------------------------------------

def _cudnn_in(include: Path, libraries: Iterable[Path]) -> Optional[CuDNN]:
    header = include / "cudnn_version.h"
    if not header.is_file():
        return None
    numbers = dict(re.findall(r"#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)\s+(\d+)", header.read_text()))
    version = tuple(int(numbers.get(k, 0)) for k in ("MAJOR", "MINOR", "PATCHLEVEL"))
    holding = (folder for folder in libraries if all(_holds(folder, name) for name in CUDNN_LIBRARIES))
    return CuDNN(version, include, next(holding, None))


def stock_cudnn(toolkit: Toolkit) -> Optional[CuDNN]:
    """The cuDNN that Jittor finds without a toolchain, in its own list of folders, or None."""
    machine = platform.machine()
    libraries = _folders(*library_folders(toolkit), f"/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib")
    includes = _folders(toolkit.home / "include", toolkit.home / f"targets/{machine}-linux/include",
                        "/usr/include", f"/usr/include/{machine}-linux-gnu")
    found = (_cudnn_in(include, libraries) for include in includes)
    return next((cudnn for cudnn in found if cudnn), None)


def find_cudnn(toolkit: Toolkit) -> Optional[CuDNN]:
    """The cuDNN 9 to use with `toolkit`: the system's if it has libraries, else the wheel's, or None."""
    wheels = (_cudnn_in(f / "include", [f / "lib"]) for f in wheel_folders(toolkit.version[0]))
    return next((cudnn for cudnn in (stock_cudnn(toolkit), *wheels)
                 if cudnn and cudnn.version[0] == 9 and cudnn.library), None)


def needs_no_toolchain(toolkit: Toolkit) -> bool:
    """Whether Jittor compiles without a toolchain: with CUDA 11 or 12 and cuDNN 8."""
    cudnn = stock_cudnn(toolkit)
    return toolkit.version[0] in (11, 12) and cudnn is not None and cudnn.version[0] == 8
