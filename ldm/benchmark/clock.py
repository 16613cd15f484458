"""Timing of computations that Jittor would put off."""
import time
from typing import NamedTuple

from ldm.backend import jt, nn

PEAK_SIDE = 2048                    # of the square matrices whose product is the machine's peak


class Time(NamedTuple):
    """Seconds on the clock, and of processor time: of all threads, and less disturbed by other programs. On a
    GPU, for which the processor only waits, both are of the clock."""

    wall: float
    cpu: float


def timed(run):
    """-> (what `run()` gives, computed; its Time)."""
    jt.sync_all(True)
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    jt.sync_all(True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, Time(wall, wall if jt.flags.use_cuda else cpu)


def best(times):
    """The least wall and the least processor time: what disturbs only ever adds."""
    return Time(min(t.wall for t in times), min(t.cpu for t in times))


class Peak:
    """Multiply-adds a second of a large matrix product, measured again and again through a run."""

    def __init__(self):
        self._matrices = [jt.randn((PEAK_SIDE, PEAK_SIDE)) for _ in range(2)]
        self._times = [timed(self._product)[1] for _ in range(2)][1:]      # the first one may compile

    def _product(self):
        return nn.matmul(*self._matrices)

    def measure(self):
        self._times.append(timed(self._product)[1])

    def share(self, multiplications, time):
        """The part of the peak that so many multiply-adds in that Time reached, by processor time."""
        return multiplications / time.cpu / (PEAK_SIDE ** 3 / best(self._times).cpu)

    @property
    def gflops(self):
        return 2 * PEAK_SIDE ** 3 / best(self._times).cpu / 1e9
