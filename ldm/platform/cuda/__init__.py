"""Jittor 1.3.11 on CUDA 13 and cuDNN 9, for which it was not written.

`toolkit` finds what the machine has, `shims` holds the few headers that stand in for what was dropped,
`toolchain` makes one folder of both, `patches` changes the installed Jittor and changes it back.
`tools/setup_cuda.py` does all that once; `environment` is how the runtime uses it from then on.
"""
from ldm.errors import UserError
from ldm.platform.cuda import memory, patches, toolchain

__all__ = ["environment", "memory"]
# cuTT, CUTLASS and NCCL would be downloaded, and are older than CUDA 13; torch is not to be imported.
SWITCHES = {"use_cutt": "0", "use_cutlass": "0", "use_nccl": "0", "FIX_TORCH_ERROR": "0"}


def environment(cache):
    """The variables with which Jittor uses the toolchain below its cache folder; {} where none was set up.

    A UserError where the set-up is incomplete: Jittor was installed anew, or a toolkit removed, since.
    """
    folder = toolchain.folder(cache)
    if toolchain.record(folder) is None:
        return {}
    root = patches.installed()
    if patches.pending(root):
        raise UserError(root, "has lost its patches for CUDA since it was set up",
                        "run `python tools/setup_cuda.py` again, or with --undo")
    return {"nvcc_path": str(folder / "bin/nvcc"), **SWITCHES}
