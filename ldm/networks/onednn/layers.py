"""Translates the networks' layers, one by one, into functions on blocks."""
from __future__ import annotations

from typing import Any, Callable, Optional

from ldm.backend import Module, Var, jt, nn
from ldm.networks.attention import AttentionBlock
from ldm.networks.blocks import GroupNorm, ResBlock
from ldm.networks.onednn.operators import Convolution, attend, available, block_size, normalize
from ldm.networks.spade import SPADENorm, SPADEResBlock


def translatable(network: Module) -> bool:
    """Whether Jittor uses oneDNN here, and the channels of all norms and attention heads fill whole
    blocks."""
    if not available():
        return False
    widths = []
    for module in network.modules():
        if isinstance(module, GroupNorm):
            widths.append(module.weight.shape[0])
        elif isinstance(module, SPADENorm):
            widths.append(module.mlp_gamma.weight.shape[0])
        elif isinstance(module, AttentionBlock):
            widths.append(module.norm.weight.shape[0] // module._heads)
    return all(width % block_size() == 0 for width in widths)


def upsample(x: Var) -> Var:
    """Twice the height and the width, nearest."""
    _, blocks, H, W, B = x.shape
    return x.reindex([1, blocks, 2 * H, 2 * W, B], ["i0", "i1", "i2/2", "i3/2", "i4"])


def downsample(x: Var) -> Var:
    """Half the height and the width, mean of each 2 x 2."""
    _, blocks, H, W, B = x.shape
    return x.reshape(1, blocks, H // 2, 2, W // 2, 2, B).mean((3, 5))


class Translator:
    """Makes functions on blocks from plain layers; it tracks the size of the maps through the network."""

    def __init__(self, height: int, width: int, winograd: bool, consume: bool) -> None:
        self.height, self.width, self.winograd, self.block = height, width, winograd, block_size()
        self.consume = consume              # plain layers lose their weights as soon as these are packed
        self.bytes, self.emb_size = 0, 0
        self.linears: list[Module] = []

    def layer(self, plain: Module) -> Callable[..., Var]:
        for kind, translation in ((ResBlock, Residual), (SPADEResBlock, SPADEResidual),
                                  (AttentionBlock, Attention)):
            if isinstance(plain, kind):
                return translation(plain, self)
        return self.convolution(plain)

    def convolution(self, plain: Module, stride: int = 1) -> Convolution:
        made = self.packed(plain.weight, plain.bias, stride)
        self.drop(plain)
        return made

    def drop(self, *layers: Module) -> None:
        if self.consume:
            for layer in layers:
                layer.weight = layer.bias = None
            jt.gc()                         # or Jittor would keep their memory

    def packed(self, weight: Var, bias: Var, stride: int = 1) -> Convolution:
        made = Convolution(weight, bias, self.height, self.width, self.block, self.winograd, stride)
        self.bytes += made.bytes
        return made

    def skip(self, plain: Module) -> Optional[Convolution]:
        """A residual block's skip connection; None for the identity."""
        return self.convolution(plain.skip_connection) if isinstance(plain.skip_connection, nn.Conv) else None

    def affine(self, norm: Module) -> tuple[Var, Var]:
        """A GroupNorm's weight and bias as folded maps."""
        shape = (1, -1, 1, 1, self.block)
        return norm.weight.reshape(shape), norm.bias.reshape(shape)

    def embedding(self, linear: Module) -> int:
        """The offset of a block's projection of the timestep in the product of all of them."""
        first = self.emb_size
        self.linears.append(linear)
        self.emb_size += linear.weight.shape[0]
        return first

    def resize(self, factor: float) -> None:
        self.height, self.width = int(self.height * factor), int(self.width * factor)


class Residual:
    """A ResBlock: 1 x C/B x H x W x B and the projections of the timestep -> the next activation."""

    def __init__(self, plain: Module, translator: Translator) -> None:
        norms = plain.in_layers[0], plain.out_layers[0]
        self.groups, self.eps = norms[0].groups, norms[0].eps
        self.affines = [translator.affine(norm) for norm in norms]
        self.resample = downsample if plain._resample else None
        if self.resample:
            translator.resize(0.5)
        self.translate(plain, plain.in_layers[2], plain.out_layers[3], translator)

    def translate(self, plain: Module, in_conv: Module, out_conv: Module, translator: Translator) -> None:
        self.no_emb = jt.zeros((1, 2 * in_conv.weight.shape[1]))
        self.in_conv, self.out_conv = translator.convolution(in_conv), translator.convolution(out_conv)
        self.emb, self.skip = translator.embedding(plain.emb_layers[1]), translator.skip(plain)

    def __call__(self, x: Var, emb: Var) -> Var:
        return self.run(x, emb, *self.affines)

    def run(self, x: Var, emb: Var, first: tuple[Any, Any], second: tuple[Any, Any]) -> Var:
        h = normalize(x, *first, self.no_emb, self.groups, self.eps)
        if self.resample:
            h, x = self.resample(h), self.resample(x)
        h = normalize(self.in_conv(h), *second, emb, self.groups, self.eps, self.emb)
        return self.out_conv(h, residual=self.skip(x) if self.skip else x)


class SPADEResidual(Residual):
    """A SPADEResBlock: as above, with the label map's modulations for weights and biases."""

    def __init__(self, plain: Module, translator: Translator) -> None:
        self.groups, self.eps = plain.in_norm.groups, 1e-5
        self.resample = upsample if plain._resample else None
        self.in_norm = SPADE(plain.in_norm, translator)
        if self.resample:
            translator.resize(2)
        self.out_norm = SPADE(plain.out_norm, translator)
        self.translate(plain, plain.in_layers[1], plain.out_layers[2], translator)

    def modulations(self, one_hot: Var) -> tuple[Var, Var]:
        return self.in_norm(one_hot), self.out_norm(one_hot)

    def __call__(self, x: Var, emb: Var, modulations: tuple[Any, Any]) -> Var:  # type: ignore[override]
        return self.run(x, emb, *modulations)


class SPADE:
    """SPADENorm.modulation: one-hot map of the latent's size -> (1 + gamma, beta) in blocks."""

    def __init__(self, plain: Module, translator: Translator) -> None:
        self.downsampling = plain.downsampling
        self.shared, self.gamma, self.beta = (translator.convolution(layer) for layer in
                                              (plain.mlp_shared[0], plain.mlp_gamma, plain.mlp_beta))

    def __call__(self, one_hot: Var) -> tuple[Var, Var]:
        d = self.downsampling
        h = nn.relu(self.shared(one_hot[:, :, ::d, ::d]))
        return (1 + self.gamma(h)).sync(), self.beta(h).sync()


class Norm:
    """A GroupNorm, followed by SiLU if `silu`."""

    def __init__(self, plain: Module, translator: Translator, silu: bool = True) -> None:
        self.affine, self.silu = translator.affine(plain), silu
        self.groups, self.eps = plain.groups, plain.eps
        self.no_emb = jt.zeros((1, 2 * plain.weight.shape[0]))

    def __call__(self, x: Var) -> Var:
        return normalize(x, *self.affine, self.no_emb, self.groups, self.eps, silu=self.silu)


class Attention:
    """An AttentionBlock, or the autoencoder's, whose q, k and v are convolutions of their own."""

    def __init__(self, plain: Module, translator: Translator) -> None:
        self.norm = Norm(plain.norm, translator, silu=False)
        if isinstance(plain, AttentionBlock):
            self.heads, self.qkv = plain._heads, translator.convolution(plain.qkv)
        else:
            parts = plain.q, plain.k, plain.v
            self.heads, self.qkv = 1, translator.packed(jt.concat([conv.weight for conv in parts]),
                                                        jt.concat([conv.bias for conv in parts]))
            translator.drop(*parts)
        self.proj_out = translator.convolution(plain.proj_out)

    def __call__(self, x: Var) -> Var:
        return self.proj_out(attend(self.qkv(self.norm(x)), self.heads), residual=x)
