"""How much memory this process has needed at most."""
from __future__ import annotations

import resource

from ldm.backend import jt
from ldm.platform.cuda import memory as device

_most = 0


def peak() -> int:
    """Bytes. On CPU the largest resident size of the process. On a GPU the most of its memory that was taken
    at a call of this function: Jittor's pools, cuDNN's workspaces, CUDA's own, and what other programs have.

    Jittor's pools keep what they once took, until memory ends or `jt.gc()`: a call after a step sees the
    step's most.
    """
    global _most
    if not jt.flags.use_cuda:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    free, total = device.info()
    _most = max(_most, total - free)
    return _most
