"""The memory, disk and time of a training, estimated from the shapes of one pass.

Jittor builds a graph first and computes it when its results are needed. So the shapes of a pass are known
without computing it.
"""
from __future__ import annotations

import time
from typing import Any, Callable, Iterable, NamedTuple, Optional

import numpy as np

from ldm.backend import Var, jt, nn
from ldm.baselines import layers as gan_layers
from ldm.networks import precision
from ldm.networks.attention import AttentionBlock, Projection
from ldm.networks.blocks import GroupNorm, ResBlock
from ldm.networks.spade import SPADENorm, SPADEResBlock

FLOAT = 4                                   # bytes
LAYERS = (nn.Conv, nn.Linear, Projection, GroupNorm, SPADENorm, gan_layers.Conv, gan_layers.Linear)
LARGEST_BATCH = 256                         # in the convolution that `speed` times
BLOCKS = (ResBlock, SPADEResBlock, AttentionBlock)


class Pass(NamedTuple):
    """One pass of one picture. activations: numbers kept for the gradients. edges: those of them between
    blocks. largest: those of the largest block. macs: multiply-accumulate operations."""
    activations: int
    edges: int
    largest: int
    macs: int


def numbers(tensors: Iterable[Var]) -> int:
    """The count of numbers in the tensors; a tensor that occurs twice counts once."""
    return sum(x.numel() for x in {id(x): x for x in tensors}.values())


def one_pass(network: Any, height: int, width: int, call: Optional[Callable[[], Any]] = None) -> Pass:
    """The `Pass` of a UNet on latents of this size, or the pass of another network that call() makes.

    Activations are the inputs and outputs of convolutions, linear layers and norms, each counted once; the
    input of the activation after a norm; and two matrices of each attention. Everything else is computed
    inside these operators.
    """
    touched, inner, macs = {}, {}, []                          # the keys are ids of modules

    def touch(module, inputs, output, keywords=None):
        touched[id(module)] = [inputs[0], output]
        if isinstance(module, AttentionBlock):
            _, C, H, W = output.shape
            inner[id(module)] = 2 * module._heads * (H * W) ** 2
            macs.append(2 * C * (H * W) ** 2)
        elif isinstance(module, (GroupNorm, SPADENorm)):
            inner[id(module)] = output.numel()
        elif (weight := getattr(module, "weight", getattr(module, "weight_orig", None))) is not None:
            macs.append(output.numel() * int(np.prod(weight.shape[1:])))

    def inside(modules):
        modules = list(modules)
        layers = [x for m in modules if isinstance(m, LAYERS) for x in touched.get(id(m), ())]
        return numbers(layers) + sum(inner.get(id(m), 0) for m in modules)

    modules = [m for m in network.modules() if isinstance(m, LAYERS + BLOCKS)]
    for module in modules:
        module.register_forward_hook(touch)
    try:
        if call:
            call()
        else:
            network(jt.zeros((1, 3, height, width)), [0], jt.zeros((1, network.num_classes, height, width)))
    finally:
        for module in modules:
            module.remove_forward_hook()
    blocks = [m for m in modules if isinstance(m, BLOCKS)]
    return Pass(inside(modules), numbers(x for block in blocks for x in touched[id(block)]),
                max((inside(block.modules()) for block in blocks), default=0), sum(macs))


def memory(parameters: int, one: Pass, options: dict, processes: int = 1) -> dict[str, int]:
    """{part: bytes} of one process at the peak of a step. options: the config's section for the training.

    The activations include the gradients of one block's tensors.
    """
    weights = FLOAT * parameters
    share = -(-options["batch_size"] // processes)
    at_once = min(options["micro_batch"] or share, share)
    sums = 2 if at_once < share else 1                         # the sums so far and the current part
    stored = one.edges + one.largest if options.get("checkpointing") == "blocks" else one.activations
    activations = (stored + one.largest) * at_once * precision.BYTES[options.get("precision", "fp32")]
    return {"weights": weights, "gradients": sums * weights, "moments": 2 * weights,
            "averages": (1 + len(options.get("more_ema_rates", ()))) * weights, "activations": activations}


def disk(parameters: int, options: dict) -> int:
    """Bytes of all states and averages that a run keeps, and of one more that is being written."""
    rates = 1 + len(options.get("more_ema_rates", ()))
    count = options["keep"] + options.get("keep_best", 0) + 1
    return FLOAT * parameters * count * (3 + rates + rates)    # a state has weights, two moments and averages


def speed(kind: str = "fp32", seconds: float = 0.2) -> float:
    """Measured multiply-accumulate operations per second of a convolution of 256 channels.

    kind: the precision. The batch grows up to `LARGEST_BATCH`, 270 MB in fp32. If that takes less than a
    third of `seconds`, the convolution is repeated. The memory is freed afterwards.
    """
    layer, batch, repeats = nn.Conv(256, 256, 3, padding=1), 1, 1
    precision.apply(layer, kind)
    with jt.no_grad():
        while (shortest := _shortest(layer, batch, repeats)) < seconds / 3:
            if batch < LARGEST_BATCH:
                batch *= 4
            else:
                repeats *= 2
    jt.gc()
    return batch * repeats * 32 * 32 * 256 * 256 * 9 / shortest


def _shortest(layer, batch, repeats):
    """Seconds for so many passes: the shortest of three measurements, as the first may compile."""
    x, times = jt.random((batch, 256, 32, 32)), []
    for _ in range(3):
        x.sync(True)
        begin = time.perf_counter()
        for _ in range(repeats):
            layer(x).sync()
        jt.sync_all(True)
        times.append(time.perf_counter() - begin)
    return min(times)


def hours(one: Pass, options: dict, macs_per_second: float, processes: int = 1) -> float:
    """Hours for all steps, if everything is as fast as the convolution of `speed`. A backward pass costs two
    forward passes; with `checkpointing` there is a second forward pass."""
    passes = 4 if options.get("checkpointing") == "blocks" else 3
    return options["steps"] * options["batch_size"] * passes * one.macs / (macs_per_second * processes) / 3600
