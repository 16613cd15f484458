"""Operators on the device against fp32 on the CPU."""
import numpy as np
import pytest
from device import HERE, ON_CPU, computing, distance, needs_gpu, operators_run, rounded
from operators import OPERATORS, run

from ldm.backend import jt

pytestmark = needs_gpu
CASES = [(name, precision) for name, operator in OPERATORS.items() for precision in HERE
         if precision in operator.precisions]


@pytest.mark.parametrize("name, precision", CASES)
def test_operator_equals_the_cpus(name, precision):
    """From the same inputs, which are rounded beforehand: what differs is the arithmetic alone."""
    operator, dtype = OPERATORS[name], HERE[precision].dtype
    inputs = [rounded(x, dtype) if x.dtype == np.float32 else x for x in operator.inputs()]
    with computing("cpu"):
        exact = run(operator, inputs, "float32")
    with computing("cuda", precision):
        results = run(operator, inputs, dtype)
    for result, expected in zip(results, exact):
        assert distance(result, expected) <= HERE[precision].tolerance


@pytest.mark.skipif(ON_CPU, reason="no GPU")
@pytest.mark.parametrize("axes", [(0, 2, 1), (1, 0, 2), (2, 0, 1), (0, 1, 2)])
def test_transposes_stay_on_the_device(axes):
    with computing("cuda"):
        x = jt.array(np.arange(24, dtype=np.float32).reshape(2, 3, 4)) + 1
        jt.sync_all(True)
        y = x.transpose(*axes)
        names = operators_run(y.sync)
        assert not [name for name in names if "JIT_cpu" in name] and y.location() == "device"
        np.testing.assert_array_equal(y.numpy(), np.arange(1, 25).reshape(2, 3, 4).transpose(axes))


SQUARES = """
__global__ static void squares(@ARGS_DEF) {
    @PRECALC
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < in0_shape0) @out(i) = @in0(i) * @in0(i);
}
squares<<<(in0->num + 255) / 256, 256>>>(@ARGS);
"""


def squares(x):
    return jt.code(x.shape, x.dtype, [x], cuda_src=SQUARES,
                   cpu_src="for (int i = 0; i < in0_shape0; i++) @out(i) = @in0(i) * @in0(i);")


def test_a_kernel_of_ones_own():
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    with computing("cuda"):
        np.testing.assert_array_equal(squares(jt.array(x)).numpy(), x * x)
