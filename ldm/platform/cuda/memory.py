"""The device's memory: how much is taken, what says that it was not enough, what cuDNN may take of it."""
from __future__ import annotations

import ctypes

# What Jittor says when the device's memory ends: where an allocation fails (cuda_device_allocator.cc), or,
# in place of that, where its pools hold over 95 % of the device (mem_info.cc); then CUDA's own.
TEXTS = ("Unable to alloc cuda device memory", "GPU memory is overflow", "cudaErrorMemoryAllocation",
         "CUDNN_STATUS_ALLOC_FAILED", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
         "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
ALGORITHMS = 100_000            # shapes of convolutions; Jittor's 100 are fewer than a model has
WORKSPACE = 2 ** 30             # bytes for one convolution; Jittor's rule is a quarter of the device


def ended(error: BaseException) -> bool:
    """Does this error of Jittor's say that the device's memory does not suffice?"""
    return any(text in str(error) for text in TEXTS)


def info() -> tuple[int, int]:
    """Bytes (free, in all) of the device that Jittor, which is loaded, computes on."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    status = ctypes.CDLL(None).cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    if status:
        raise RuntimeError(f"cudaMemGetInfo: error {status}")
    return free.value, total.value


def bound_cudnn(jt) -> None:
    """Let cuDNN's search for the fastest algorithm cover every shape, within `WORKSPACE`.

    Beyond `max_cache_size` shapes Jittor asks cuDNN's advice at each call instead, which is slow and knows no
    bound of memory (cudnn_conv_op.cc).
    """
    jt.cudnn.set_algorithm_cache_size(ALGORITHMS)
    jt.cudnn.set_max_workspace_ratio(min(0.25, WORKSPACE / info()[1]))
