"""The VQ-GAN f4 autoencoder (CompVis `vq-f4` layout): 512 x 384 images to 3 x 96 x 128 latents and back."""
from __future__ import annotations

from typing import Sequence

import numpy as np

from ldm.backend import Var, jt, nn
from ldm.networks.attention import attend
from ldm.networks.blocks import GroupNorm, add, twice, upsample

ROWS = 4096                 # latents compared with the codebook at once: 134 MB of distances to 8192 entries


def norm(channels: int, groups: int) -> GroupNorm:
    return GroupNorm(channels, groups, eps=1e-6)


class Block(nn.Module):
    """norm, SiLU, conv, twice, beside a 1 x 1 convolution where the width changes."""

    def __init__(self, channels: int, out_channels: int, groups: int) -> None:
        self.norm1, self.conv1 = norm(channels, groups), nn.Conv(channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = norm(out_channels, groups), nn.Conv(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.nin_shortcut = nn.Conv(channels, out_channels, 1)
        self._widens, self._add, self._twice = channels != out_channels, add, twice

    def execute(self, x: Var) -> Var:
        x, kept = self._twice(x)
        h = self.conv1(self.norm1(x, silu=True))
        h = self.conv2(self.norm2(h, silu=True))
        return self._add(self.nin_shortcut(kept) if self._widens else kept, h)


class Attention(nn.Module):
    """Single-head self-attention; 12,288 positions at 512 x 384."""

    def __init__(self, channels: int, groups: int) -> None:
        self.norm = norm(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv(channels, channels, 1) for _ in range(4))

    def execute(self, x: Var) -> Var:
        N, C, H, W = x.shape
        h = self.norm(x)
        h = attend(*(f(h).reshape(N, C, H * W) for f in (self.q, self.k, self.v)))
        return x + self.proj_out(h.reshape(N, C, H, W))


class Middle(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        self.block_1, self.block_2 = (Block(channels, channels, groups) for _ in range(2))
        self.attn_1 = Attention(channels, groups)

    def execute(self, x: Var) -> Var:
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    """Convolution of stride 2 over an input padded on the right and below, as CompVis does."""

    def __init__(self, channels: int) -> None:
        self.conv = nn.Conv(channels, channels, 3, stride=2)

    def execute(self, x: Var) -> Var:
        return self.conv(nn.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        self.conv = nn.Conv(channels, channels, 3, padding=1)

    def execute(self, x: Var) -> Var:
        return self.conv(upsample(x))


class Level(nn.Module):
    """One resolution's blocks, then a step to the next (`downsample` or `upsample`) unless it is the last."""

    def __init__(self, widths: Sequence[int], groups: int, downsample: bool = False,
                 upsample: bool = False) -> None:
        self.block = nn.ModuleList([Block(a, b, groups) for a, b in zip(widths, widths[1:])])
        if downsample:
            self.downsample = Downsample(widths[-1])
        if upsample:
            self.upsample = Upsample(widths[-1])

    def execute(self, x: Var) -> Var:
        for block in self.block:
            x = block(x)
        for name in ("downsample", "upsample"):
            x = getattr(self, name)(x) if name in self.__dict__ else x
        return x


class Encoder(nn.Module):
    def __init__(self, channels: int, channel_mult: Sequence[int], num_res_blocks: int, z_channels: int,
                 groups: int) -> None:
        last = len(channel_mult) - 1
        self.conv_in = nn.Conv(3, channels, 3, padding=1)
        levels, c = [], channels
        for i, mult in enumerate(channel_mult):
            levels.append(Level([c] + [channels * mult] * num_res_blocks, groups, downsample=i < last))
            c = channels * mult
        self.down = nn.ModuleList(levels)
        self.mid = Middle(c, groups)
        self.norm_out, self.conv_out = norm(c, groups), nn.Conv(c, z_channels, 3, padding=1)

    def execute(self, x: Var) -> Var:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(self.norm_out(self.mid(h), silu=True))


class Decoder(nn.Module):
    def __init__(self, channels: int, channel_mult: Sequence[int], num_res_blocks: int, z_channels: int,
                 groups: int) -> None:
        c = channels * channel_mult[-1]
        self.conv_in = nn.Conv(z_channels, c, 3, padding=1)
        self.mid = Middle(c, groups)
        levels = []
        for i, mult in reversed(list(enumerate(channel_mult))):
            levels.append(Level([c] + [channels * mult] * (num_res_blocks + 1), groups, upsample=i > 0))
            c = channels * mult
        self.up = nn.ModuleList(levels[::-1])       # named from fine to coarse, run from coarse to fine
        self.norm_out, self.conv_out = norm(c, groups), nn.Conv(c, 3, 3, padding=1)

    def execute(self, z: Var) -> Var:
        h = self.mid(self.conv_in(z))
        for level in list(self.up)[::-1]:
            h = level(h)
        return self.conv_out(self.norm_out(h, silu=True)).float32()


class Quantizer(nn.Module):
    """The codebook: replaces each latent vector by its nearest entry."""

    def __init__(self, size: int, dim: int) -> None:
        self.embedding = nn.Embedding(size, dim)
        self.embedding.weight.assign(jt.init.uniform([size, dim], "float32", -1 / size, 1 / size))

    def execute(self, z: Var) -> tuple[Var, Var]:
        """z N x dim x h x w -> (nearest entries, the same shape; their indices N x h x w int32)."""
        N, D, H, W = z.shape
        book = self.embedding.weight
        flat = z.transpose(0, 2, 3, 1).reshape(-1, D)
        codes = jt.concat([self._nearest(flat[i:i + ROWS]) for i in range(0, flat.shape[0], ROWS)])
        return book[codes].reshape(N, H, W, D).transpose(0, 3, 1, 2), codes.reshape(N, H, W)

    def straight_through(self, z: Var) -> tuple[Var, Var, Var]:
        """For training: -> (entries with z's gradient, codebook loss, indices). The loss is that of van den
        Oord et al. 2017 with beta 0.25: entries move to latents, and latents to entries at a quarter of
        that weight."""
        z_q, codes = self(z)
        loss = (z_q - z.detach()).sqr().mean() + 0.25 * (z_q.detach() - z).sqr().mean()
        return z + (z_q - z).detach(), loss, codes

    def _nearest(self, vectors):
        """M x dim -> M indices. Synced, else the M x size distances of all chunks would be in memory at
        once."""
        book = self.embedding.weight
        distance = (book * book).sum(1) - 2 * nn.matmul_transpose(vectors, book)  # + |z|^2, the same for each
        codes, _ = distance.argmin(1)
        return codes.stop_grad().sync()


class Autoencoder(nn.Module):
    """Images N x 3 x H x W in -1..1 to latents N x embed_dim x H/f x W/f, f = 2 ** (levels - 1), and back.

    Latents are the encoder's output *before* quantisation, unscaled, as in the entry.
    State-dict names are CompVis'. `codebook_size` 0: no codebook (`quantize` is None), latents are decoded
    as they are.
    """

    def __init__(self, channels: int = 128, channel_mult: Sequence[int] = (1, 2, 4), num_res_blocks: int = 2,
                 z_channels: int = 3, codebook_size: int = 8192, embed_dim: int = 3,
                 norm_groups: int = 32) -> None:
        self.factor = 2 ** (len(channel_mult) - 1)
        self.encoder = Encoder(channels, channel_mult, num_res_blocks, z_channels, norm_groups)
        self.decoder = Decoder(channels, channel_mult, num_res_blocks, z_channels, norm_groups)
        self.quant_conv = nn.Conv(z_channels, embed_dim, 1)
        self.post_quant_conv = nn.Conv(embed_dim, z_channels, 1)
        self.quantize = Quantizer(codebook_size, embed_dim) if codebook_size else None

    def execute(self, images: Var) -> tuple[Var, Var, Var, Var]:
        """For training with a codebook: -> (reconstruction, codebook loss, codes, latents before
        quantisation)."""
        assert self.quantize is not None, "without a codebook: encode, then decode_quantized"
        z = self.encode(images)
        z_q, loss, codes = self.quantize.straight_through(z)
        return self.decode_quantized(z_q), loss, codes, z

    def encode(self, images: Var) -> Var:
        """-> latents before quantisation."""
        return self.quant_conv(self.encoder(images)).float32()

    def decode(self, latents: Var) -> Var:
        """Quantise, if there is a codebook, then decode: -> N x 3 x H x W, about -1..1."""
        return self.decode_quantized(latents if self.quantize is None else self.quantize(latents)[0])

    def decode_quantized(self, latents: Var) -> Var:
        """Decode latents as they are: codebook entries already, or not quantised on purpose."""
        return self.decoder(self.post_quant_conv(latents))

    def rescale(self, mean: np.ndarray, std: float) -> None:
        """Shift and scale the latents, z -> (z - mean) / std, with one std for all channels. It changes the
        layers around them, so that every reconstruction and every nearest codebook entry stays the same."""
        c = (1, -1, 1, 1)
        shift = jt.array(mean)
        into, out = self.quant_conv, self.post_quant_conv
        out.bias.assign(out.bias + (out.weight * shift.reshape(c)).sum((1, 2, 3)))
        out.weight.assign(out.weight * std)
        into.weight.assign(into.weight / std)
        into.bias.assign((into.bias - shift) / std)
        if self.quantize is not None:
            book = self.quantize.embedding.weight
            book.assign((book - shift.reshape(1, -1)) / std)
