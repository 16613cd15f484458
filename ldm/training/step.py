"""One optimiser step: a batch in micro-batches and over ranks, gradients summed in fp32, and a check.

The loss of a batch is the mean over its items, so that a part of it counts by its share of the items.
"""
import numpy as np

from ldm.backend import jt
from ldm.training import parallel
from ldm.training.loss_scale import Diverged


def part(batch, first, end):
    """Items first..end of a batch: an array, or a dict of arrays, with the items along the first axis."""
    if isinstance(batch, dict):
        return {name: array[first:end] for name, array in batch.items()}
    return batch[first:end]


def gradients(loss, batch, size, parameters, micro_batch):
    """Mean gradients of `loss` over this rank's share of a batch of `size` items, `micro_batch` at a time.

    loss(batch) -> (loss Var, {name: Var}). -> (fp32 gradients in the order of `parameters`, {name: Var}),
    to be summed over ranks.
    """
    first, last = parallel.share(size)
    bounds = [(start, min(start + micro_batch, last)) for start in range(first, last, micro_batch)]
    return accumulate(loss, [(part(batch, *b), (b[1] - b[0]) / size) for b in bounds], parameters)


def accumulate(loss, parts, parameters):
    """The sums, over the (batch, weight) in `parts`, of weight times what `gradients` gives of a batch.

    A part is done with, and its memory free, before the next begins: Jittor computes nothing until it is
    told to, and would otherwise keep the activations of all of them.
    """
    sums, terms = None, {}
    for batch, weight in parts:
        value, logged = loss(batch)
        new = [g.float32() for g in jt.grad(value * weight, parameters, False)]
        with jt.flag_scope(node_order=1):          # each is added as soon as it is there, and its memory free
            sums = new if sums is None else [a + b for a, b in zip(sums, new)]
        del new
        for name, v in {"loss": value, **logged}.items():
            terms[name] = terms.get(name, 0) + v.detach().float32().reshape(1) * weight
        del value, logged
        jt.sync(sums + list(terms.values()))
        sums = [g.detach() for g in sums]
    return sums, terms


def apply(optimizer, grads, step):
    """One update of an optimiser of `jt.optim` by these gradients; `step` counts from 0. It keeps none of
    them: they would take the place of a whole network beside the next step's activations."""
    group = optimizer.param_groups[0]
    group["grads"] = grads
    optimizer.n_step = step + 1
    optimizer.step()
    del group["grads"]


def optimize(task, batch, optimizer, step, options, scale, most=np.inf):
    """Take optimiser step `step` (from 0) of `task` on its `batch`, with the `batch_size` and `micro_batch`
    (0: the whole batch at once) of `options` and the LossScale `scale`. -> the logged terms as floats, with
    the gradient's norm.

    A loss or a gradient that is not finite, and a loss above `most`, raises Diverged before anything has
    changed; in fp16 the gradient is tried with smaller scales before.
    """
    while True:
        sums, values = summed(scale.scaled(task.loss), batch, optimizer.param_groups[0]["params"], options)
        sums, values["loss"] = scale.unscaled(sums), values["loss"] / scale.value
        squares = jt.concat([(g * g).sum().reshape(1) for g in sums])
        values["grad_norm"] = float(np.sqrt(squares.numpy().sum()))
        for name, what in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
            if not np.isfinite(values[name]) and (name == "loss" or not scale.dynamic):
                raise Diverged(f"the {what} is {values[name]} at step {step}")
        if values["loss"] > most:
            raise Diverged(f"the loss is {values['loss']:.3g} at step {step}, more than {most:.3g}")
        if np.isfinite(values["grad_norm"]):
            break
        scale.overflow(step)
    scale.calm_step()
    apply(optimizer, sums, step)
    return values


def summed(loss, batch, parameters, options):
    """The gradients of a whole batch, and {name: float} of what `loss` logs, of all ranks together."""
    size = options["batch_size"]
    sums, terms = gradients(loss, batch, size, parameters, options["micro_batch"] or size)
    sums = parallel.total(sums)
    names, terms = list(terms), parallel.total([jt.concat(list(terms.values()))])[0].numpy()
    return sums, dict(zip(names, map(float, terms)))
