"""The set-up as a whole: what is there, what would be changed, changing it, changing it back."""
import dataclasses
from pathlib import Path

from ldm.errors import UserError
from ldm.platform import jittor_copy
from ldm.platform.cuda import in_place, shims, toolchain, toolkit
from ldm.platform.patch import VERSION


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a machine has. Without `cudnn` Jittor builds as it is, and there is nothing to set up.

    `folder` is to hold `tree`, a toolchain.
    """
    toolkit: toolkit.Toolkit
    cudnn: toolkit.CuDNN = None
    folder: Path = None
    tree: dict = dataclasses.field(default_factory=dict)


def survey(cache):
    """Look at this machine for a set-up below Jittor's cache folder; changes nothing.

    UserError: no nvcc, CUDA before 11, no cuDNN 9, a library missing, nvcc broken, a Jittor of another
    version than the patches are for.
    """
    found = toolkit.find_toolkit()
    if found is None:
        raise UserError("CUDA toolkit",
                        "no nvcc on the PATH, in CUDA_HOME, in /usr/local/cuda, or a wheel of this Python",
                        "install CUDA 13, or the wheels that docs/gpu.md lists")
    if found.version[0] < 11:
        raise UserError(found.home, f"is CUDA {toolkit.dotted(found.version)}", "CUDA 11, 12 or 13 is needed")
    if toolkit.left_alone(found):
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


def reasons(tree):
    """{path: why it is there} of the shims that a toolchain plan has, in a few lines."""
    return {name: why for name, why in shims.REASONS.items() if "*" in name or not isinstance(
        tree.get(name, Path()), Path)}


def undo(cache):
    """Remove the toolchain, and restore what earlier versions of the set-up changed in the installed Jittor.
    -> (the files restored, whether there was a folder)."""
    return in_place.undo(jittor_copy.installed()), toolchain.remove(toolchain.folder(cache))
