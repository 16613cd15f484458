"""Training on the CPU by oneDNN: the layers of a plain network compute in blocks of channels, with the same
parameters and, but for rounding, the same gradients."""
from ldm.backend import jt, nn
from ldm.networks import autoencoder
from ldm.networks.attention import AttentionBlock, Projection
from ldm.networks.blocks import GroupNorm, ResBlock
from ldm.networks.dropout import Dropout
from ldm.networks.onednn.gradients import (
    Attend,
    Convolve,
    Downsample,
    Enter,
    Join,
    Leave,
    Normalize,
    Upsample,
    channels_of,
)
from ldm.networks.onednn.layers import translatable
from ldm.networks.spade import SPADENorm, SPADEResBlock
from ldm.networks.unet import UNet

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def apply(network, kind):
    """Let a UNet, an Autoencoder or a convolution compute in blocks, in fp32 or bf16, where the machine and
    the widths allow it. -> whether they do. What enters and leaves it is as before."""
    if not translatable(network):
        return False
    dtype = DTYPES[kind]
    for layer in network.modules():
        for kinds, translate in TRANSLATIONS.items():
            if isinstance(layer, kinds):
                translate(layer, dtype)
    for layer in last_layers(network):
        layer.execute = leaving(layer.execute, layer.weight.shape[0])
    return True


def last_layers(network):
    """The convolutions whose results are plain again."""
    if isinstance(network, UNet):
        return [network.out[2]]
    if isinstance(network, autoencoder.Autoencoder):
        return [network.quant_conv, network.decoder.conv_out]
    return [network]


def leaving(execute, channels):
    return lambda x: Leave(channels)(execute(x))


def entering(x, dtype):
    """A network's input, N x C x H x W, in blocks; what is in blocks already as it is."""
    return Enter(dtype)(x.float32()) if x.ndim == 4 else x


def convolution(layer, dtype):
    stride = layer.stride[0] if isinstance(layer, nn.Conv) else 1

    def execute(x):
        weight = layer.weight.unsqueeze(-1) if layer.weight.ndim == 3 else layer.weight
        return Convolve(stride)(entering(x, dtype), weight, layer.bias)
    layer.execute = execute


def group_norm(layer, dtype):
    def execute(x, emb=None, silu=False):
        given = jt.stack([layer.weight, layer.bias])
        return Normalize(layer.groups, layer.eps, silu)(x, given, no_emb(x) if emb is None else emb)
    layer.execute = execute


def no_emb(x):
    return jt.zeros((x.shape[0], 2 * channels_of(x))).stop_grad()


def spade_norm(layer, dtype):
    """Both maps are one convolution; the 1 of 1 + gamma is in its bias."""
    shared, gamma, beta = layer.mlp_shared[0], layer.mlp_gamma, layer.mlp_beta

    def modulation(one_hot):
        d = layer.downsampling
        x = entering(one_hot[:, :, ::d, ::d], dtype)
        h = Convolve(relu=True)(x, shared.weight, shared.bias)
        return Convolve()(h, jt.concat([gamma.weight, beta.weight]), jt.concat([1 + gamma.bias, beta.bias]))

    def execute(x, modulation, emb=None):
        return Normalize(layer.groups, 1e-5, True)(x, modulation, no_emb(x) if emb is None else emb)
    layer.modulation, layer.execute = modulation, execute


def attention(layer, dtype):
    layer.execute = lambda x: x + layer.proj_out(Attend(layer._heads)(layer.qkv(layer.norm(x))))


def autoencoder_attention(layer, dtype):
    """q, k and v are one convolution."""
    def execute(x):
        parts = layer.q, layer.k, layer.v
        qkv = Convolve()(layer.norm(x), jt.concat([part.weight for part in parts]),
                         jt.concat([part.bias for part in parts]))
        return x + layer.proj_out(Attend(1)(qkv))
    layer.execute = execute


def halving(layer, dtype):
    """Its convolution pads by itself."""
    layer.execute = lambda x: layer.conv(x)


def doubling(layer, dtype):
    layer.execute = lambda x: layer.conv(Upsample()(x))


def dropping(layer, dtype):
    """The same activations as in the plain network."""
    plain = layer.execute

    def execute(x):
        if not layer.drops():
            return x
        N, C, (H, W) = x.shape[0], channels_of(x), x.shape[2:4]
        return x * Enter(str(x.dtype))(plain(jt.ones((N, C, H, W)).stop_grad()))
    layer.execute = execute


def resampling(layer, dtype):
    if layer._resample:
        kind = Downsample if isinstance(layer, ResBlock) else Upsample
        layer._resample = lambda x: kind()(x)


def joining(network, dtype):
    network._join = lambda a, b: Join()(a, b)


TRANSLATIONS = {(nn.Conv, Projection): convolution, GroupNorm: group_norm, SPADENorm: spade_norm,
                AttentionBlock: attention, (ResBlock, SPADEResBlock): resampling, UNet: joining,
                Dropout: dropping,
                autoencoder.Attention: autoencoder_attention, autoencoder.Downsample: halving,
                autoencoder.Upsample: doubling}
