"""The device's memory: its size, errors that mean it was not enough, and a limit for cuDNN."""
from __future__ import annotations

import ctypes
from typing import Any

# Texts of Jittor's errors if memory is not enough: an allocation fails (cuda_device_allocator.cc), or its
# pools hold over 95 % of the device (mem_info.cc); then those of CUDA's libraries.
TEXTS = ("Unable to alloc cuda device memory", "GPU memory is overflow", "cudaErrorMemoryAllocation",
         "CUDNN_STATUS_ALLOC_FAILED", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
         "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
ALGORITHMS = 100_000            # shapes of convolutions; Jittor's 100 are fewer than a model has
WORKSPACE = 2 ** 30             # bytes for one convolution; Jittor's rule is a quarter of the device


def ended(error: BaseException) -> bool:
    """Whether this error of Jittor means that the device's memory is not enough."""
    return any(text in str(error) for text in TEXTS)


def info() -> tuple[int, int]:
    """Bytes (free, in all) of the device that the loaded Jittor computes on."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    status = ctypes.CDLL(None).cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    if status:
        raise RuntimeError(f"cudaMemGetInfo: error {status}")
    return free.value, total.value


def bound_cudnn(jt: Any) -> None:
    """Let cuDNN search the fastest algorithm for every shape, with at most `WORKSPACE` bytes. jt: Jittor.

    Beyond `max_cache_size` shapes Jittor asks cuDNN for advice at each call instead, which is slow and has no
    limit of memory (cudnn_conv_op.cc).
    """
    jt.cudnn.set_algorithm_cache_size(ALGORITHMS)
    jt.cudnn.set_max_workspace_ratio(min(0.25, WORKSPACE / info()[1]))
