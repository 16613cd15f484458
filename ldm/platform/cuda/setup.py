"""The set-up for CUDA 13 or cuDNN 9 as a whole: look at the machine, plan the toolchain, undo it."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

from ldm.errors import UserError
from ldm.platform import jittor_copy
from ldm.platform.cuda import in_place, shims, toolchain, toolkit
from ldm.platform.cuda.toolkit import CuDNN, Toolkit
from ldm.platform.patch import VERSION


@dataclasses.dataclass(frozen=True)
class Survey:
    """The CUDA of a machine, and the toolchain `tree` to write to `folder`. If `cudnn` is None, Jittor builds
    without a toolchain, and there is nothing to set up.
    """
    toolkit: Toolkit
    cudnn: Optional[CuDNN] = None
    folder: Optional[Path] = None
    tree: toolchain.Tree = dataclasses.field(default_factory=dict)


def survey(cache: Path) -> Survey:
    """Look for CUDA and cuDNN, and plan a toolchain below Jittor's cache folder; changes nothing.

    UserError: no nvcc or a broken one, CUDA before 11, no cuDNN 9, a missing library, or another version of
    Jittor than the patches are for.
    """
    found = toolkit.find_toolkit()
    if found is None:
        raise UserError("CUDA toolkit",
                        "no nvcc on the PATH, in CUDA_HOME, in /usr/local/cuda, or a wheel of this Python",
                        "install CUDA 13, or the wheels that docs/gpu.md lists")
    if found.version[0] < 11:
        raise UserError(found.home, f"is CUDA {toolkit.dotted(found.version)}", "CUDA 11, 12 or 13 is needed")
    if toolkit.needs_no_toolchain(found):
        return Survey(found)
    version = jittor_copy.version(jittor_copy.installed())
    if version != VERSION:
        raise UserError("jittor", f"is of version {version}", f"the patches for CUDA are made for {VERSION}")
    toolkit.check_libraries(found)
    toolkit.check_nvcc(found)
    cudnn = toolkit.find_cudnn(found)
    if cudnn is None:
        raise UserError("cuDNN 9", f"is neither in {found.home} nor in /usr nor a wheel of this Python",
                        f"run `pip install nvidia-cudnn-cu{found.version[0]}`")
    return Survey(found, cudnn, toolchain.folder(cache), toolchain.plan(found, cudnn, version))


def reasons(tree: toolchain.Tree) -> dict[str, str]:
    """{path: why it is there} of the shims in the plan of a toolchain."""
    return {name: why for name, why in shims.REASONS.items() if "*" in name or not isinstance(
        tree.get(name, Path()), Path)}


def undo(cache: Path) -> tuple[list[str], bool]:
    """Remove the toolchain, and restore what earlier versions of the set-up changed in the installed Jittor.
    Returns (the files restored, whether there was a toolchain)."""
    return in_place.undo(jittor_copy.installed()), toolchain.remove(toolchain.folder(cache))
