"""How much memory this process has needed at most."""
import resource

from ldm.backend import jt


def peak():
    """Bytes: what Jittor holds of the device's memory (it keeps what it once took), or on CPU the largest
    resident size of the process."""
    if jt.flags.use_cuda:
        return jt.get_mem_info().total_cuda_used
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
