"""AdamW, averages and norms of many tensors at once, against numpy in float64 and Jittor's own arithmetic."""
import math

import numpy as np
import pytest

from ldm.backend import jt
from ldm.training import fused

RNG = np.random.default_rng(4)
SHAPES = [(3,), (5, 7), (4, 3, 3, 3), (2, 8, 1), (2, 2, 2, 2), *[(n + 1,) for n in range(19)], (70_000,),
          (1, 1)]


def tensors():
    return [RNG.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def test_parts_are_of_tensors_that_are_alike_and_hold_each_once():
    """So that Jittor compiles two operators of a kind, whatever the network."""
    found = fused.parts(tuple(SHAPES))
    assert sorted(i for part, count in found for i in part[:count]) == list(range(len(SHAPES)))
    assert all(len({len(SHAPES[i]) == 4 for i in part}) == 1 for part, _ in found)
    assert {len(part) for part, _ in found} == {fused.AT_ONCE}
    assert all(math.prod(SHAPES[i]) <= 16 for part, count in found for i in part[count:])


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_the_algorithm(decay):
    """Three steps, the second and third with other rates; in float64, and by jt.optim.AdamW."""
    start, gradients = tensors(), [tensors() for _ in range(3)]
    b1, b2, eps = 0.9, 0.999, 1e-8
    made = {}
    for kind in (fused.AdamW, jt.optim.AdamW):
        variables = [jt.array(x) for x in start]
        optimizer = kind(variables, 1.0, betas=(b1, b2), weight_decay=decay)
        for n, (rate, step) in enumerate(zip((0.1, 0.02, 0.05), gradients), 1):
            optimizer.lr, optimizer.n_step = np.float64(rate), n       # as a decaying rate is
            optimizer.param_groups[0]["grads"] = [jt.array(g) for g in step]
            optimizer.step()
        group = optimizer.param_groups[0]
        assert all(v.is_stop_grad() for v in (*group["m"], *group["values"]))
        assert not any(v.is_stop_grad() for v in variables)
        made[kind] = [[v.numpy() for v in group[name]] for name in ("params", "m", "values")]
    exact = [[], [], []]
    for i, x in enumerate(start):
        p, m, v = x.astype(np.float64), 0.0, 0.0
        for n, (rate, step) in enumerate(zip((0.1, 0.02, 0.05), gradients), 1):
            g = step[i].astype(np.float64)
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            p = p - rate * decay * p - rate * (m / (1 - b1 ** n)) / (np.sqrt(v / (1 - b2 ** n)) + eps)
        for part, value in zip(exact, (p, m, v)):
            part.append(value)
    for kind, found in made.items():
        for values, expected in zip(found, exact):
            for a, b in zip(values, expected):
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6, err_msg=kind.__module__)


def test_averages():
    before, values = tensors(), tensors()
    averages = [jt.array(x).stop_grad() for x in before]
    fused.average(averages, [jt.array(x) for x in values], 0.9)
    for average, a, b in zip(averages, before, values):
        np.testing.assert_allclose(average.numpy(), 0.9 * a + 0.1 * b, rtol=1e-5, atol=1e-6)
        assert average.is_stop_grad()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_the_norm(wrong):
    """Of a gradient that is not finite it is not finite either: that is how a step finds out."""
    found = tensors()
    exact = np.sqrt(sum((x.astype(np.float64) ** 2).sum() for x in found))
    assert fused.norm([jt.array(x) for x in found]) == pytest.approx(exact, rel=1e-6)
    for i in (0, 2, len(SHAPES) - 2):
        spoilt = [x.copy() for x in found]
        spoilt[i].flat[-1] = wrong
        assert not np.isfinite(fused.norm([jt.array(x) for x in spoilt]))
