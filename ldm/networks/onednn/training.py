"""Training on the CPU by oneDNN, and inference in bf16: the layers of a plain network compute in blocks of
channels, with the same parameters and, but for rounding, the same gradients."""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

from ldm.backend import Module, Var, jt, nn
from ldm.networks import autoencoder
from ldm.networks.attention import AttentionBlock, Projection
from ldm.networks.blocks import GroupNorm, ResBlock, add, twice
from ldm.networks.dropout import Dropout
from ldm.networks.onednn.gradients import (
    Add,
    Attend,
    Convolve,
    Downsample,
    Enter,
    Join,
    Leave,
    Multiply,
    Normalize,
    Twice,
    Upsample,
    channels_of,
)
from ldm.networks.onednn.layers import translatable
from ldm.networks.onednn.operators import block_size
from ldm.networks.onednn.packed import Packed, in_two
from ldm.networks.spade import SPADENorm, SPADEResBlock
from ldm.networks.unet import UNet

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class How(NamedTuple):
    """dtype: of activations. packed: for inference, with weights that are packed once and then dropped."""
    dtype: str
    packed: bool


def apply(network: Module, kind: str, packed: bool = False) -> bool:
    """Let a UNet, an Autoencoder or a convolution compute in blocks, in fp32 or bf16, if the machine and the
    widths allow it. Returns whether it does. Its inputs and outputs stay plain.

    packed: for inference only; the convolutions then have no parameters.
    """
    if not translatable(network):
        return False
    how, last = How(DTYPES[kind], packed), last_layers(network)
    for layer in last:
        leaving(layer, how)
    for kinds, translate in TRANSLATIONS.items():
        for layer in network.modules():
            if isinstance(layer, kinds) and not any(layer is one for one in last):
                translate(layer, how)
    network._in_blocks = True
    return True


def last_layers(network: Module) -> list[Module]:
    """The convolutions with plain results."""
    if isinstance(network, UNet):
        return [network.out[2]]
    if isinstance(network, autoencoder.Autoencoder):
        return [network.quant_conv, network.decoder.conv_out]
    return [network]


def entering(x: Var, dtype: str) -> Var:
    """A network's input N x C x H x W -> in blocks. What is in blocks already is returned unchanged."""
    return Enter(dtype)(x.float32()) if x.ndim == 4 else x


def convolve(layers: Sequence[Module], parameters: Callable[[], tuple[Var, Var]], how: How,
             **options: Any) -> Callable[[Var], Var]:
    """A function of activations in blocks; parameters() -> plain weight, bias, made of those of `layers`."""
    if how.packed:
        made = Packed(*parameters(), **options)
        for layer in layers:
            layer.weight = layer.bias = None
        return made
    return lambda x: Convolve(**options)(x, *whole_block(*parameters(), str(x.dtype)))


def whole_block(weight: Var, bias: Var, dtype: str) -> tuple[Var, Var]:
    """A layer's parameters for activations of `dtype`. In fp32, fewer inputs than a block get weights of 0
    for the rest: oneDNN has no fast kernel for fewer. With AVX2 the first layer took 60 % of a step."""
    missing = block_size() - weight.shape[1]
    if dtype == "float32" and missing > 0:
        weight = jt.concat([weight, jt.zeros((weight.shape[0], missing, *weight.shape[2:])).stop_grad()], 1)
    return weight, bias


def of_layer(layer: Module, how: How, **options: Any) -> Callable[[Var], Var]:
    """The same with the parameters of an nn.Conv or a Projection, whose weight is O x I x 1."""
    def parameters():
        return layer.weight.unsqueeze(-1) if layer.weight.ndim == 3 else layer.weight, layer.bias
    stride = layer.stride[0] if isinstance(layer, nn.Conv) else 1
    return convolve([layer], parameters, how, stride=stride, **options)


def convolution(layer: Module, how: How) -> None:
    if layer.weight is None:            # it is packed as a part of another one
        return
    run = of_layer(layer, how)
    layer.execute = lambda x: run(entering(x, how.dtype))


def leaving(layer: Module, how: How) -> None:
    """A convolution with a plain result. In bf16, if no gradient is needed, the result is not rounded, and
    the weights to twice the digits: most of a picture's shift in brightness came from these few."""
    channels = layer.weight.shape[0]
    if how.packed and how.dtype == "bfloat16":
        bias = jt.concat([layer.bias, jt.zeros(channels)])
        run = convolve([layer], lambda: (in_two(layer.weight), bias), how, wide=True)

        def execute(x):
            y = run(entering(x, how.dtype))[:, 0].transpose(0, 3, 1, 2)
            return y[:, :channels] + y[:, channels:]
    else:
        run = of_layer(layer, how)

        def execute(x):
            return Leave(channels)(run(entering(x, how.dtype)))
    layer.execute = execute


def group_norm(layer: Module, how: How) -> None:
    def execute(x, emb=None, silu=False):
        given = jt.stack([layer.weight, layer.bias])
        return Normalize(layer.groups, layer.eps, silu)(x, given, no_emb(x) if emb is None else emb)
    layer.execute = execute


def no_emb(x: Var) -> Var:
    return jt.zeros((x.shape[0], 2 * channels_of(x))).stop_grad()


def spade_norm(layer: Module, how: How) -> None:
    """Both maps are one convolution; the 1 of 1 + gamma is in its bias."""
    gamma, beta = layer.mlp_gamma, layer.mlp_beta

    def parameters():
        return jt.concat([gamma.weight, beta.weight]), jt.concat([1 + gamma.bias, beta.bias])
    first, both = of_layer(layer.mlp_shared[0], how, relu=True), convolve([gamma, beta], parameters, how)

    def modulation(one_hot):
        d = layer.downsampling
        return both(first(entering(one_hot[:, :, ::d, ::d], how.dtype)))

    def execute(x, modulation, emb=None):
        return Normalize(layer.groups, 1e-5, True)(x, modulation, no_emb(x) if emb is None else emb)
    layer.modulation, layer.execute = modulation, execute


def attention(layer: Module, how: How) -> None:
    summing(layer, how)

    def execute(x):
        x, kept = layer._twice(x)
        return layer._add(kept, layer.proj_out(Attend(layer._heads)(layer.qkv(layer.norm(x)))))
    layer.execute = execute


def autoencoder_attention(layer: Module, how: How) -> None:
    """q, k and v are one convolution."""
    parts = layer.q, layer.k, layer.v

    def parameters():
        return jt.concat([part.weight for part in parts]), jt.concat([part.bias for part in parts])
    qkv = convolve(parts, parameters, how)
    summing(layer, how)

    def execute(x):
        x, kept = layer._twice(x)
        return layer._add(kept, layer.proj_out(Attend(1)(qkv(layer.norm(x)))))
    layer.execute = execute


def halving(layer: Module, how: How) -> None:
    """Its convolution pads by itself."""
    layer.execute = lambda x: layer.conv(x)


def doubling(layer: Module, how: How) -> None:
    layer.execute = lambda x: layer.conv(Upsample()(x))


def dropping(layer: Module, how: How) -> None:
    """The same activations as in the plain network."""
    plain = layer.execute

    def execute(x):
        if not layer.drops():
            return x
        N, C, (H, W) = x.shape[0], channels_of(x), x.shape[2:4]
        return Multiply()(x, Enter(str(x.dtype))(plain(jt.ones((N, C, H, W)).stop_grad())))
    layer.execute = execute


def summing(layer: Module, how: How) -> None:
    """Sums, forwards and of gradients. Those of fp32 numbers stay Jittor's."""
    half = how.dtype == "bfloat16"
    layer._add = (lambda a, b: Add()(a, b)) if half else add
    layer._twice = (lambda x: Twice()(x)) if half else twice


def residual(layer: Module, how: How) -> None:
    summing(layer, how)
    if layer._resample:
        kind = Downsample if isinstance(layer, ResBlock) else Upsample
        layer._resample = lambda x: kind()(x)


def joining(network: Module, how: How) -> None:
    network._join = lambda a, b: Join()(a, b)
    summing(network, how)


def linear(layer: Module, how: How) -> None:
    """For inference each image by itself, so that no rounding depends on the batch."""
    plain = layer.execute
    if how.packed:
        layer.execute = lambda x: jt.concat([plain(x[n:n + 1]) for n in range(x.shape[0])])


# Those that are made of others come first, convolutions last.
TRANSLATIONS = {UNet: joining, SPADENorm: spade_norm, AttentionBlock: attention,
                (ResBlock, SPADEResBlock): residual, autoencoder.Block: summing,
                autoencoder.Attention: autoencoder_attention,
                autoencoder.Downsample: halving, autoencoder.Upsample: doubling, Dropout: dropping,
                GroupNorm: group_norm, nn.Linear: linear, (nn.Conv, Projection): convolution}
