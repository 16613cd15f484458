"""Runs Jittor 1.3.11 on CUDA 13 and cuDNN 9, which are newer than it.

`toolkit` finds CUDA and cuDNN on the machine. `shims` holds replacements for the headers that newer versions
dropped. `toolchain` makes one folder of links to both (tools/setup_cuda.py does this once), and `environment`
returns the variables that make Jittor use it. `patches` are changes to Jittor itself; they go into a copy of
it. `in_place` undoes the changes that earlier versions made to the installed Jittor.
"""
from __future__ import annotations

from pathlib import Path

from ldm.platform.cuda import memory, toolchain

__all__ = ["environment", "memory"]
# Jittor would download cuTT, CUTLASS and NCCL at its start, in versions older than CUDA 13, and import torch.
SWITCHES = {"use_cutt": "0", "use_cutlass": "0", "use_nccl": "0", "FIX_TORCH_ERROR": "0"}


def environment(cache: Path) -> dict[str, str]:
    """The environment variables with which Jittor uses the toolchain below its cache folder.

    Without a toolchain (CUDA 11 or 12 with cuDNN 8 needs none) they only switch off what Jittor would
    download. UserError if the toolkit of the toolchain was removed.
    """
    folder = toolchain.folder(cache)
    if toolchain.record(folder) is None:
        return dict(SWITCHES)
    return {"nvcc_path": str(folder / "bin/nvcc"), **SWITCHES}
