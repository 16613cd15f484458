"""Where the tests of this folder run, in which precisions, and how far those may be from fp32 on the CPU.

They want a GPU and are skipped without one. With IIDM_TEST_DEVICE=cpu they run on the CPU, in fp32 alone:
that shows nothing about a device, but that the tests themselves are whole.
"""
import contextlib
import dataclasses
import os

import numpy as np
import pytest

from ldm.backend import jt

ON_CPU = os.environ.get("IIDM_TEST_DEVICE") == "cpu"
needs_gpu = pytest.mark.skipif(not (jt.has_cuda or ON_CPU), reason="no GPU")


@dataclasses.dataclass(frozen=True)
class Precision:
    """`tolerance` is of the largest value of a result; `tensorcore` is Jittor's flag of that name."""
    dtype: str
    tensorcore: int
    tolerance: float


# A result may be off by eight roundings of its largest value: 2^-12 for 11 bits, 2^-9 for bfloat16's 8. In
# fp32 it is sums of up to 2304 products in another order, and nvcc's fast exp, log and division, that count.
PRECISIONS = {"fp32": Precision("float32", 0, 2e-5), "tf32": Precision("float32", 1, 2.0 ** -9),
              "fp16": Precision("float16", 0, 2.0 ** -9), "bf16": Precision("bfloat16", 0, 2.0 ** -6)}
HERE = {"fp32": PRECISIONS["fp32"]} if ON_CPU else PRECISIONS


@contextlib.contextmanager
def computing(device, precision="fp32"):
    """Everything inside runs on "cpu" or "cuda" (the CPU again if these tests are run there)."""
    before = jt.flags.use_cuda, jt.flags.use_tensorcore
    jt.flags.use_cuda = int(device == "cuda" and not ON_CPU)
    jt.flags.use_tensorcore = PRECISIONS[precision].tensorcore
    try:
        yield
        jt.sync_all(True)
    finally:
        jt.flags.use_cuda, jt.flags.use_tensorcore = before


def rounded(x, dtype):
    """float32 `x` rounded to what `dtype` can hold, to nearest even, and still float32."""
    if dtype == "float16":
        return x.astype(np.float16).astype(np.float32)
    if dtype == "bfloat16":
        bits = x.view(np.uint32)
        return ((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000).astype(np.uint32).view(np.float32)
    return x


def distance(result, exact):
    """The largest difference over the largest value of `exact`, NaN if anything is; integers are equal or
    infinitely far apart."""
    if exact.dtype.kind == "i":
        return 0.0 if np.array_equal(result, exact) else np.inf
    return float(np.abs(result.astype(np.float64) - exact).max() / (np.abs(exact).max() or 1))


def operators_run(work):
    """Run `work()` under Jittor's profiler. -> names of the operators it ran, with their keys."""
    with jt.profile_scope() as report:
        work()
        jt.sync_all(True)
    return [row[0] for row in report[1:] if row[0] != "total"]
