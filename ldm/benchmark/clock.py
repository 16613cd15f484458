"""Times computations, which Jittor would delay, and describes the machine."""
from __future__ import annotations

import time
from typing import Callable, NamedTuple

from ldm.backend import jt, nn
from ldm.benchmark import report
from ldm.networks import precision
from ldm.platform.cuda import versions

# Sides of the square matrices of the product, and products in one measurement: on a fast GPU
# a smaller one, or a single one, ends before the next one is started.
CPU_SIDE, GPU_SIDE, GPU_PRODUCTS = 2048, 8192, 10


class Time(NamedTuple):
    """Seconds by the clock, and of processor time: that of all threads, which other programs disturb less. On
    a GPU both are by the clock, since the processor only waits."""

    wall: float
    cpu: float


def machine() -> dict:
    """The machine for reports, with the GPU that is used."""
    return {**report.describe(), **(versions.describe() if jt.flags.use_cuda else {})}


def timed(run: Callable, calls: int = 1) -> tuple:
    """(the result of `run()`, computed; the Time of one call, averaged over `calls` calls). Other results are
    dropped.

    While a GPU computes, the next call is prepared, as in a network; the time of a single short call would be
    that of its preparation.
    """
    jt.sync_all(True)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        result = run()
        jt.sync_all()
    jt.sync_all(True)
    wall, cpu = (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls
    return result, Time(wall, wall if jt.flags.use_cuda else cpu)


def best(times: list[Time]) -> Time:
    """The smallest wall time and the smallest processor time: disturbances only add time."""
    return Time(min(t.wall for t in times), min(t.cpu for t in times))


class Peak:
    """Multiply-adds per second of a large matrix product in one of runtime.PRECISIONS, measured several times
    during a benchmark."""

    def __init__(self, kind: str = "fp32") -> None:
        self.side, self._calls = (GPU_SIDE, GPU_PRODUCTS) if jt.flags.use_cuda else (CPU_SIDE, 1)
        self._tensorcore = int(kind == "tf32")
        self._matrices = [jt.randn((self.side, self.side)).cast(precision.DTYPES[kind]) for _ in range(2)]
        self._times: list[Time] = []
        self.measure()                                      # the first one may compile
        self._times.clear()
        self.measure()

    def measure(self) -> None:
        with jt.flag_scope(use_tensorcore=self._tensorcore):
            self._times.append(timed(lambda: nn.matmul(*self._matrices), self._calls)[1])

    def share(self, multiplications: int, time: Time) -> float:
        """The share of the peak that `multiplications` in this Time reached, by processor time."""
        return multiplications / time.cpu / (self.side ** 3 / best(self._times).cpu)

    @property
    def gflops(self) -> float:
        return 2 * self.side ** 3 / best(self._times).cpu / 1e9


def peaks() -> dict[str, Peak]:
    """{precision: its Peak} of all precisions of this machine."""
    return {kind: Peak(kind) for kind in (precision.DTYPES if jt.flags.use_cuda else ("fp32",))}


def in_words(peaks: dict[str, Peak]) -> dict[str, float]:
    """Columns for a report's machine."""
    return {f"peak GFLOP/s in {kind}": round(peak.gflops, 1) for kind, peak in peaks.items()}
