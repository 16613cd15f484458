"""One optimiser step: a batch in micro-batches and over ranks, gradients summed in fp32, and a check.

The loss of a batch is the mean over its items, so that the weight of a part is its share of the items.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from ldm.backend import Var, jt
from ldm.training import fused, parallel
from ldm.training.loss_scale import Diverged, Loss, LossScale
from ldm.training.task import Batch, Task


def part(batch: Batch, first: int, end: int) -> Batch:
    """The items first .. end - 1 of a batch."""
    if isinstance(batch, dict):
        return {name: array[first:end] for name, array in batch.items()}
    return batch[first:end]


def count(batch: Batch) -> int:
    """The number of items of a batch."""
    return len(next(iter(batch.values())) if isinstance(batch, dict) else batch)


def gradients(loss: Loss, batch: Batch, size: int, parameters: list[Var],
              micro_batch: int) -> tuple[list[Var], dict[str, Var]]:
    """This rank's part of the mean gradients of `loss` over a batch of `size` items, `micro_batch` items at a
    time.

    Returns (fp32 gradients in the order of `parameters`, logged terms). Their sums over all ranks are those
    of the whole batch.
    """
    first, last = parallel.share(size)
    bounds = [(start, min(start + micro_batch, last)) for start in range(first, last, micro_batch)]
    return accumulate(loss, [(part(batch, *b), (b[1] - b[0]) / size) for b in bounds], parameters)


def accumulate(loss: Loss, parts: Sequence[tuple[Batch, float]],
               parameters: list[Var]) -> tuple[list[Var], dict[str, Var]]:
    """The weighted sums of the gradients and of the logged terms over `parts`, pairs of (batch, weight).

    Each part is computed, and its memory free, before the next part begins. Jittor delays computation and
    would otherwise keep the activations of all parts.
    """
    sums: list[Var] = []
    terms: dict[str, Any] = {}
    for batch, weight in parts:
        value, logged = loss(batch)
        new = [g.float32() for g in jt.grad(value * weight, parameters, False)]
        with jt.flag_scope(node_order=1):          # each gradient is added, and its memory free, at once
            sums = [a + b for a, b in zip(sums, new)] if sums else new
        del new
        for name, v in {"loss": value, **logged}.items():
            terms[name] = terms.get(name, 0) + v.detach().float32().reshape(1) * weight
        del value, logged
        jt.sync(sums + list(terms.values()))
        sums = [g.detach() for g in sums]
    return sums, terms


def apply(optimizer: Any, grads: list[Var], step: int) -> None:
    """Update the parameters of an optimiser of `jt.optim` with these gradients; `step` counts from 0.

    The gradients are released afterwards; otherwise they would occupy a network's worth of memory during the
    next step."""
    group = optimizer.param_groups[0]
    group["grads"] = grads
    optimizer.n_step = step + 1
    optimizer.step()
    del group["grads"]


def optimize(task: Task, batch: Batch, optimizer: Any, step: int, options: dict, scale: LossScale,
             most: float = np.inf) -> dict[str, float]:
    """Take optimiser step `step` (from 0) of `task` on its `batch`. Returns the logged terms and the norm of
    the gradient.

    options: has `micro_batch` (0: the whole batch at once). Raises Diverged before anything
    changes if the loss or a gradient is not finite, or the loss is above `most`. In fp16 smaller scales are
    tried first.
    """
    while True:
        sums, values = summed(scale.scaled(task.loss), batch, optimizer.param_groups[0]["params"], options)
        sums, values["loss"] = scale.unscaled(sums), values["loss"] / scale.value
        values["grad_norm"] = fused.norm(sums)
        for name, what in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
            if not np.isfinite(values[name]) and (name == "loss" or not scale.dynamic):
                raise Diverged(f"the {what} is {values[name]} at step {step}")
        if values["loss"] > most:
            raise Diverged(f"the loss is {values['loss']:.3g} at step {step}, above the limit {most:.3g}")
        if np.isfinite(values["grad_norm"]):
            break
        scale.overflow(step)
    scale.calm_step()
    apply(optimizer, sums, step)
    return values


def summed(loss: Loss, batch: Batch, parameters: list[Var],
           options: dict) -> tuple[list[Var], dict[str, float]]:
    """(the gradients of the whole batch, the logged terms), summed over all ranks."""
    size = count(batch)
    sums, terms = gradients(loss, batch, size, parameters, options["micro_batch"] or size)
    sums = parallel.total(sums)
    totals = parallel.total([jt.concat(list(terms.values()))])[0].numpy()
    return sums, dict(zip(terms, map(float, totals)))
