"""Jittor 1.3.11 on CUDA 13 and cuDNN 9, for which it was not written.

`toolkit` finds what the machine has, `shims` holds the few headers that stand in for what was dropped,
`toolchain` makes one folder of both: `tools/setup_cuda.py` does that once, and `environment` is how the
runtime uses it. `patches` are the changes to Jittor itself, which go into a copy of it; `in_place` undoes
what earlier versions changed in the installed one.
"""
from ldm.platform.cuda import memory, toolchain

__all__ = ["environment", "memory"]
# cuTT, CUTLASS and NCCL would be downloaded at the start, and are older than CUDA 13; torch is not to be
# imported.
SWITCHES = {"use_cutt": "0", "use_cutlass": "0", "use_nccl": "0", "FIX_TORCH_ERROR": "0"}


def environment(cache):
    """The variables with which Jittor uses the toolchain below its cache folder; where none was
    set up, what is switched off: with CUDA 11 or 12 and cuDNN 8 Jittor needs no toolchain.

    A UserError where a toolkit was removed since.
    """
    folder = toolchain.folder(cache)
    if toolchain.record(folder) is None:
        return dict(SWITCHES)
    return {"nvcc_path": str(folder / "bin/nvcc"), **SWITCHES}
