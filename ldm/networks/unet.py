"""The noise predictor: guided-diffusion's U-Net with SPADE in the middle and the decoder.

The encoder never sees the label map. The rest sees it only through SPADE's scale and shift. So the network
has three methods: `modulate` once an image, `encode` once a step, `decode` for each of guidance's two passes.
"""
from __future__ import annotations

from typing import Any, Sequence

from ldm.backend import Module, Var, jt, nn
from ldm.networks import cuda
from ldm.networks.attention import AttentionBlock
from ldm.networks.blocks import GroupNorm, ResBlock, SiLU, join, timestep_embedding, twice, zero
from ldm.networks.spade import SPADEResBlock, fold


class UNet(nn.Module):
    """eps (with `learn_sigma` also the variance's position in its range) from z_t, t and a one-hot label map.

    attention_downsampling: attention is at these factors below the latent's size. norm_groups: for small
    networks; a group should hold several channels, or its norm takes the mean level away. State-dict names
    are the entry's.
    """

    def __init__(self, num_classes: int = 29, channels: int = 256,
                 channel_mult: Sequence[int] = (1, 1, 2, 3, 4), num_res_blocks: int = 2,
                 attention_downsampling: Sequence[int] = (4, 8, 16), head_channels: int = 64,
                 learn_sigma: bool = True, dropout: float = 0.0, spade_channels: int = 128,
                 norm_groups: int = 32) -> None:
        self.num_classes, self.channels, self.learn_sigma = num_classes, channels, learn_sigma
        self.downsampling = 2 ** (len(channel_mult) - 1)
        self._join, self._twice = join, twice
        emb = 4 * channels
        self.time_embed = nn.Sequential(nn.Linear(channels, emb), SiLU(), nn.Linear(emb, emb))

        def spade(c, c_out, ds, up=False):
            return SPADEResBlock(c, c_out, emb, num_classes, ds, spade_channels, norm_groups, dropout, up)

        def attention(c, ds):
            return [AttentionBlock(c, head_channels, norm_groups)] if ds in attention_downsampling else []

        c, ds = channels * channel_mult[0], 1
        blocks, widths = [nn.Sequential(nn.Conv(3, c, 3, padding=1))], [c]
        for level, mult in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                blocks.append(nn.Sequential(ResBlock(c, mult * channels, emb, norm_groups, dropout),
                                            *attention(mult * channels, ds)))
                c = mult * channels
                widths.append(c)
            if level < len(channel_mult) - 1:
                blocks.append(nn.Sequential(ResBlock(c, c, emb, norm_groups, dropout, down=True)))
                widths.append(c)
                ds *= 2
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.Sequential(spade(c, c, ds), AttentionBlock(c, head_channels, norm_groups),
                                          spade(c, c, ds))

        blocks = []
        for level, mult in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks + 1):
                layers = [spade(c + widths.pop(), mult * channels, ds), *attention(mult * channels, ds)]
                c = mult * channels
                if level > 0 and i == num_res_blocks:
                    layers.append(spade(c, c, ds, up=True))
                    ds //= 2
                blocks.append(nn.Sequential(*layers))
        self.output_blocks = nn.ModuleList(blocks)
        self.out = nn.Sequential(GroupNorm(c, norm_groups), SiLU(),
                                 zero(nn.Conv(c, 6 if learn_sigma else 3, 3, padding=1)))

    def decoder_layers(self) -> list[list[Module]]:
        """The layers after the encoder, in order, block by block."""
        return [list(self.middle_block)] + [list(block) for block in self.output_blocks]

    def modulate(self, one_hot: Var) -> list[tuple[Var, Var]]:
        """One-hot map N x classes x h x w, latent-sized -> every SPADE block's modulations, in order."""
        return [layer.modulations(one_hot) for block in self.decoder_layers() for layer in block
                if isinstance(layer, SPADEResBlock)]

    def modulate_empty(self, height: int, width: int) -> list[Any]:
        """The modulations of the empty map, of batch 1; folded on a GPU, since only their border differs."""
        whole = self.modulate(jt.zeros((1, self.num_classes, height, width)))
        return fold(whole) if cuda.usable() else whole

    def encode(self, z: Var, t: Sequence[int]) -> tuple[list[Var], Var]:
        """z N x 3 x h x w, t N integers of the original 0..999 scale -> (skips, emb)."""
        emb = self.time_embed(jt.array(timestep_embedding(t, self.channels)))
        h, skips = z, []
        for block in self.input_blocks:
            for layer in block:
                h = layer(h, emb) if isinstance(layer, ResBlock) else layer(h)
            h, kept = self._twice(h)
            skips.append(kept)
        return skips, emb

    def decode(self, skips: Sequence[Var], emb: Var, modulations: Sequence[Any]) -> Var:
        """-> N x 6 (eps, variance values) or N x 3 x h x w. Modulations of batch 1 serve every image."""
        skips, each = list(skips), iter(modulations)
        h = skips[-1]
        for i, block in enumerate(self.decoder_layers()):
            if i > 0:
                h = self._join(h, skips.pop())
            for layer in block:
                h = layer(h, emb, next(each)) if isinstance(layer, SPADEResBlock) else layer(h)
        norm, _, conv = self.out
        return conv(norm(h, silu=True)).float32()

    def execute(self, z: Var, t: Sequence[int], one_hot: Var) -> Var:
        return self.decode(*self.encode(z, t), self.modulate(one_hot))
