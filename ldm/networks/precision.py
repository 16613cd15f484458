"""How a network computes: in blocks of channels on the CPU, and with fewer bits than fp32: convolutions and
attention in fp16 or bf16, or products of fp32 numbers in TF32.

Convolutions round their inputs and weights where they use them, so that what is kept between blocks takes
half the memory. Norms, modulation, the timestep, softmax and what a network returns stay fp32. So do the
parameters, unless they are only for inference.
"""
from __future__ import annotations

from typing import Callable

from ldm.backend import Module, Var, jt, nn
from ldm.errors import UserError
from ldm.networks.attention import Projection
from ldm.networks.onednn import training
from ldm.networks.onednn.packed import diffused

DTYPES = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}        # of a number between blocks


def apply(network: Module, kind: str, inference: bool = False) -> None:
    """Let `network` compute in this precision; on a CPU in blocks where it can (in fp32 only for training).
    inference: its weights are rounded once, in place. UserError for bf16 where the CPU cannot compute it.

    TF32 is a switch of the whole process.
    """
    jt.flags.use_tensorcore = int(kind == "tf32")
    if (kind == "bf16" or kind == "fp32" and not inference) and training.apply(network, kind, inference):
        return
    if kind == "bf16" and not jt.flags.use_cuda:
        raise UserError("precision", "is bf16, which the CPU computes only for widths of whole blocks",
                        "use fp32, or multiples of 16 channels in each norm and attention head")
    if DTYPES[kind] == "float32":
        return
    for layer in network.modules():
        if isinstance(layer, (nn.Conv, Projection)):
            if inference:
                for parameter in (layer.weight, layer.bias):
                    parameter.assign(parameter.cast(DTYPES[kind]))
            layer.execute = _rounding(layer, DTYPES[kind])      # type: ignore[method-assign]


def shrink(network: Module, kind: str) -> Callable[[Var], None]:
    """A function for each parameter of `network` as soon as it has its numbers, see weights.load: on a CPU in
    bf16 it rounds the weights of convolutions (not of the last ones), as `apply` would for inference, so that
    a network in fp32 never is in memory as a whole."""
    kept = [layer.weight for layer in training.last_layers(network)]

    def shrunk(parameter: Var) -> None:
        if (kind == "bf16" and not jt.flags.use_cuda and parameter.ndim > 2
                and not any(parameter is weight for weight in kept)):
            with jt.no_grad():          # a graph for gradients would keep them, too
                parameter.assign(diffused(parameter))
            parameter.sync()
            jt.gc()                     # the fp32 numbers' memory, which Jittor would keep
    return shrunk


def _rounding(layer, dtype):
    """The pass of a convolution, or of a Projection, whose weight is O x I x 1, in `dtype`."""
    geometry = (layer.stride, layer.padding) if isinstance(layer, nn.Conv) else ()

    def execute(x):
        weight = layer.weight if geometry else layer.weight.unsqueeze(-1)
        return nn.conv2d(x.cast(dtype), weight.cast(dtype), layer.bias.cast(dtype), *geometry)
    return execute
