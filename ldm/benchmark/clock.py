"""Timing of computations that Jittor would put off, and what they were timed on."""
from __future__ import annotations

import time
from typing import Callable, NamedTuple

from ldm.backend import jt, nn
from ldm.benchmark import report
from ldm.networks import precision
from ldm.platform.cuda import versions

# Sides of the square matrices whose product is the machine's peak, and products in one reading: on a fast GPU
# a smaller one, or a single one, is over before the next one has been asked for.
CPU_SIDE, GPU_SIDE, GPU_PRODUCTS = 2048, 8192, 10


class Time(NamedTuple):
    """Seconds on the clock, and of processor time: of all threads, and less disturbed by other programs. On a
    GPU, for which the processor only waits, both are of the clock."""

    wall: float
    cpu: float


def machine() -> dict:
    """The machine as reports show it, with the GPU that is computed on."""
    return {**report.describe(), **(versions.describe() if jt.flags.use_cuda else {})}


def timed(run: Callable, calls: int = 1) -> tuple:
    """-> (what `run()` gives, computed; the Time of one of so many calls, of which no other result is kept).

    A GPU works on while the next call is prepared, as in a network: one short call alone would be as long as
    asking for it.
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
    """The least wall and the least processor time: what disturbs only ever adds."""
    return Time(min(t.wall for t in times), min(t.cpu for t in times))


class Peak:
    """Multiply-adds a second of a large matrix product in one of runtime.PRECISIONS, measured again and again
    through a run."""

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
        """The part of the peak that so many multiply-adds in that Time reached, by processor time."""
        return multiplications / time.cpu / (self.side ** 3 / best(self._times).cpu)

    @property
    def gflops(self) -> float:
        return 2 * self.side ** 3 / best(self._times).cpu / 1e9


def peaks() -> dict[str, Peak]:
    """{precision: its Peak} of all that can be computed in here."""
    return {kind: Peak(kind) for kind in (precision.DTYPES if jt.flags.use_cuda else ("fp32",))}


def in_words(peaks: dict[str, Peak]) -> dict[str, float]:
    """As columns of a report's machine."""
    return {f"peak GFLOP/s in {kind}": round(peak.gflops, 1) for kind, peak in peaks.items()}
