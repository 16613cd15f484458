"""What a training of the U-Net will need, from the shapes of one pass: nothing of the network is computed.

Jittor builds a graph first and computes it when asked, so that a pass that nobody asks for costs nothing and
has all its shapes.
"""
import time
from typing import NamedTuple

import numpy as np

from ldm.backend import jt, nn
from ldm.networks import precision
from ldm.networks.attention import AttentionBlock, Projection
from ldm.networks.blocks import GroupNorm, ResBlock
from ldm.networks.spade import SPADENorm, SPADEResBlock

FLOAT = 4                                   # bytes
LAYERS = (nn.Conv, nn.Linear, Projection, GroupNorm, SPADENorm)
LARGEST_BATCH = 256                         # of the convolution that `speed` times
BLOCKS = (ResBlock, SPADEResBlock, AttentionBlock)


class Pass(NamedTuple):
    """One pass of one picture: numbers kept for its gradients, in all, at the edges of blocks, and in the
    largest block; multiply-accumulates."""
    activations: int
    edges: int
    largest: int
    macs: int


def numbers(tensors):
    """How many numbers the different ones of `tensors` hold."""
    return sum(x.numel() for x in {id(x): x for x in tensors}.values())


def one_pass(network, height, width, call=None):
    """The `Pass` of a UNet for latents of this size, or of what `call()` does with another network.

    Kept are the tensors that enter or leave a convolution, a linear layer or a norm, each once, what a norm
    hands to its activation, and the two matrices of an attention; what else lies between is computed within
    them.
    """
    touched, inner, macs = {}, {}, []                          # the first two by the id of their module

    def touch(module, inputs, output, keywords=None):
        touched[id(module)] = [inputs[0], output]
        if isinstance(module, AttentionBlock):
            _, C, H, W = output.shape
            inner[id(module)] = 2 * module._heads * (H * W) ** 2
            macs.append(2 * C * (H * W) ** 2)
        elif isinstance(module, (GroupNorm, SPADENorm)):
            inner[id(module)] = output.numel()
        elif hasattr(module, "weight"):
            macs.append(output.numel() * int(np.prod(module.weight.shape[1:])))

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


def memory(parameters, one, options, processes=1):
    """{part: bytes} of one process at the peak of a step, with the U-Net's training section as `options`.

    Beside what is kept for the backward pass there are the gradients of one block's tensors.
    """
    weights = FLOAT * parameters
    share = -(-options["batch_size"] // processes)
    at_once = min(options["micro_batch"] or share, share)
    sums = 2 if at_once < share else 1                         # those so far, and those of the part at hand
    kept = one.edges + one.largest if options.get("checkpointing") == "blocks" else one.activations
    activations = (kept + one.largest) * at_once * precision.BYTES[options.get("precision", "fp32")]
    return {"weights": weights, "gradients": sums * weights, "moments": 2 * weights,
            "averages": (1 + len(options.get("more_ema_rates", ()))) * weights, "activations": activations}


def disk(parameters, options):
    """Bytes of all states and averages that a run keeps, and of the one that is being written."""
    rates = 1 + len(options.get("more_ema_rates", ()))
    kept = options["keep"] + options.get("keep_best", 0) + 1
    return FLOAT * parameters * kept * (3 + rates + rates)     # a state has weights, two moments and averages


def speed(kind="fp32", seconds=0.2):
    """Multiply-accumulates a second in a convolution of 256 channels here, in this precision.

    The batch grows to `LARGEST_BATCH` at most, 270 MB of fp32; on a device for which that is too short the
    convolution is repeated. What it took of the memory is given back.
    """
    layer, batch, repeats = nn.Conv(256, 256, 3, padding=1), 1, 1
    precision.apply(layer, kind)
    with jt.no_grad():
        while (least := _least(layer, batch, repeats)) < seconds / 3:
            if batch < LARGEST_BATCH:
                batch *= 4
            else:
                repeats *= 2
    jt.gc()
    return batch * repeats * 32 * 32 * 256 * 256 * 9 / least


def _least(layer, batch, repeats):
    """Seconds that so many passes take, the least of three times: the first may compile them."""
    x, times = jt.random((batch, 256, 32, 32)), []
    for _ in range(3):
        x.sync(True)
        begin = time.perf_counter()
        for _ in range(repeats):
            layer(x).sync()
        jt.sync_all(True)
        times.append(time.perf_counter() - begin)
    return min(times)


def hours(one, options, macs_per_second, processes=1):
    """Of all steps, if everything were as fast as such a convolution. A backward pass has two products for
    each one of the forward pass, which `checkpointing` does twice."""
    passes = 4 if options.get("checkpointing") == "blocks" else 3
    return options["steps"] * options["batch_size"] * passes * one.macs / (macs_per_second * processes) / 3600
