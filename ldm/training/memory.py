"""The largest amount of memory that this process has used."""
from __future__ import annotations

import resource

from ldm.backend import jt
from ldm.platform.cuda import memory as device

_largest = 0


def peak() -> int:
    """In bytes. On a CPU: the largest resident size of the process. On a GPU: the largest amount in use, by
    all programs, at any call of this function. It includes Jittor's pools, cuDNN's workspaces and CUDA.

    Jittor's pools keep their memory until it runs out or until `jt.gc()`. So a call after a step sees the
    largest amount of the step.
    """
    global _largest
    if not jt.flags.use_cuda:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    free, total = device.info()
    _largest = max(_largest, total - free)
    return _largest
