"""The set-up as a whole: what is there, what would be changed, changing it, changing it back."""
import dataclasses
from pathlib import Path

from ldm.errors import UserError
from ldm.platform.cuda import patches, shims, toolchain, toolkit


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a machine has. Without `cudnn` Jittor builds as it is, and there is nothing to set up.

    `jittor` is its package's folder, `pending` the patches it lacks; `folder` is to hold `tree`, a toolchain.
    """
    toolkit: toolkit.Toolkit
    cudnn: toolkit.CuDNN = None
    jittor: Path = None
    pending: tuple = ()
    folder: Path = None
    tree: dict = dataclasses.field(default_factory=dict)


def survey(cache):
    """Look at this machine for a set-up below Jittor's cache folder; changes nothing.

    UserError: no nvcc, CUDA before 11, no cuDNN 9, a library missing, nvcc broken, a Jittor that the patches
    are not for.
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
    root = patches.installed()
    pending = tuple(patches.pending(root))
    toolkit.check_libraries(found)
    toolkit.check_nvcc(found)
    cudnn = toolkit.find_cudnn(found)
    if cudnn is None:
        raise UserError("cuDNN 9", f"is neither in {found.home} nor in /usr nor a wheel of this Python",
                        f"run `pip install nvidia-cudnn-cu{found.version[0]}`")
    tree = toolchain.plan(found, cudnn, patches.version(root))
    return Survey(found, cudnn, root, pending, toolchain.folder(cache), tree)


def reasons(tree):
    """{path: why it is there} of the shims that a toolchain plan has, in a few lines."""
    return {name: why for name, why in shims.REASONS.items() if "*" in name or not isinstance(
        tree.get(name, Path()), Path)}


def apply(found):
    """Patch Jittor and make the toolchain folder. -> (patches applied now, whether the folder is new)."""
    return patches.apply(found.jittor), toolchain.write(found.tree, found.folder)


def undo(cache):
    """Take back what `apply` did. -> (patches taken away, whether there was a folder)."""
    return patches.undo(patches.installed()), toolchain.remove(toolchain.folder(cache))
