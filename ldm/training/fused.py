"""AdamW, averages and the norm of a gradient for all parameters. On a CPU an operator takes many of them at a
time: Jittor makes one, or several, of each, which costs more than the arithmetic."""
from __future__ import annotations

import functools
import math
from typing import Any, Optional, Sequence

import numpy as np

from ldm.backend import Var, jt

AT_ONCE = 8                 # tensors of an operator
AXES = (1, 4)               # of its tensors; others go flat. For each number Jittor compiles one more
# For tensor k, of n numbers: x0, x1 ... are those of the lists, y0 ... of the results.
LOOP = "#pragma omp parallel for simd if (n > 32768)\nfor (int64_t i = 0; i < n; i++) "
ADAMW = LOOP + """{
    float m = b1 * x2[i] + (1 - b1) * x1[i], v = b2 * x3[i] + (1 - b2) * x1[i] * x1[i];
    y0[i] = kept * x0[i] - rate * m / (std::sqrt(v) * root + eps);
    y1[i] = m, y2[i] = v;
}"""
AVERAGE = LOOP + "y0[i] = rate * x0[i] + (1 - rate) * x1[i];"
SQUARES = """double sum = 0;
#pragma omp parallel for simd reduction(+ : sum) if (n > 32768)
for (int64_t i = 0; i < n; i++) sum += double(x0[i]) * x0[i];
out0_p[k] = sum;"""


class AdamW(jt.optim.AdamW):
    """As Jittor's: Loshchilov and Hutter 2019, Algorithm 2; `eps` after the root of the corrected moment."""

    def step(self, loss: Optional[Var] = None, retain_graph: bool = False) -> None:
        if jt.flags.use_cuda:
            return super().step(loss, retain_graph)
        group, n = self.param_groups[0], float(self.n_step)
        b1, b2 = group.get("betas", self.betas)
        data = {"b1": b1, "b2": b2, "eps": self.eps, "rate": self.lr / (1 - b1 ** n),
                "root": (1 - b2 ** n) ** -0.5, "kept": 1 - self.lr * self.weight_decay}
        lists = [group[name] for name in ("params", "grads", "m", "values")]
        for old, new in zip((lists[0], lists[2], lists[3]), on_lists(ADAMW, lists, 3, data)):
            for variable, value in zip(old, new):
                variable.update(value)


def average(averages: Sequence[Var], values: Sequence[Var], rate: float) -> None:
    """average <- rate average + (1 - rate) value."""
    if jt.flags.use_cuda:
        new = [a * rate + v.detach() * (1 - rate) for a, v in zip(averages, values)]
    else:
        new, = on_lists(AVERAGE, [averages, values], 1, {"rate": rate})
    for variable, value in zip(averages, new):
        variable.update(value)


def norm(tensors: Sequence[Var]) -> float:
    """The root of the sum of the squares of all numbers."""
    if jt.flags.use_cuda:
        sums = [jt.concat([(x * x).sum().reshape(1) for x in tensors])]
    else:
        groups = parts(shapes(tensors))
        sums = [jt.code([AT_ONCE], "float32", [flat(tensors[i]) for i in filled],
                        cpu_src=source(SQUARES, 1, 0, ()))[:count] for filled, count in groups]
    jt.sync(sums)
    return float(np.sqrt(sum(part.numpy().sum(dtype=np.float64) for part in sums)))


def on_lists(body: str, lists: Sequence[Sequence[Var]], outputs: int,
             data: dict[str, float]) -> list[list[Any]]:
    """Lists of the results, of the first tensors' shapes, that `body` computes of the first tensors, the
    second ones ... of `lists`. data: names of numbers in `body`."""
    results: list[list[Any]] = [[None] * len(lists[0]) for _ in range(outputs)]
    of_all, data = shapes(lists[0]), {name: float(number) for name, number in data.items()}     # numpy's, too
    for filled, count in parts(of_all):
        inputs = [flat(one[i]) for i in filled for one in lists]
        made = jt.code([x.shape for x in inputs[::len(lists)] for _ in range(outputs)],
                       ["float32"] * (AT_ONCE * outputs), inputs, cpu_header="#include <cmath>",
                       cpu_src=source(body, len(lists), outputs, tuple(data)), data=data)
        for k, value in enumerate(made[:count * outputs]):
            i = filled[k // outputs]
            results[k % outputs][i] = value if len(of_all[i]) in AXES else value.reshape(of_all[i])
    return results


def flat(x: Var) -> Var:
    return x if len(x.shape) in AXES else x.reshape(-1)


def shapes(tensors: Sequence[Var]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(x.shape) for x in tensors)


@functools.lru_cache(None)
def parts(of_all: tuple[tuple[int, ...], ...]) -> list[tuple[list[int], int]]:
    """Pairs of AT_ONCE indices of tensors that are alike for Jittor, and how many of these count: a part that
    is not whole is filled up with its smallest tensor."""
    found = []
    for four in (False, True):
        alike = sorted((i for i, shape in enumerate(of_all) if (len(shape) == 4) == four),
                       key=lambda i: (-math.prod(of_all[i]), i))
        for start in range(0, len(alike), AT_ONCE):
            part = alike[start:start + AT_ONCE]
            found.append((part + part[-1:] * (AT_ONCE - len(part)), len(part)))
    return found


@functools.lru_cache(None)
def source(body: str, inputs: int, outputs: int, names: tuple[str, ...]) -> str:
    """The operator."""
    lines = [f'const float {name} = data["{name}"];' for name in names]
    for k in range(AT_ONCE):
        lines += [f"{{ const int64_t k = {k}, n = in{k * inputs}->num;"]
        lines += [f"const float* x{j} = in{k * inputs + j}_p;" for j in range(inputs)]
        lines += [f"float* y{j} = out{k * outputs + j}_p;" for j in range(outputs)]
        lines += [body, "}"]
    return "\n".join(lines)
