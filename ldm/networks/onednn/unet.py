"""The U-Net's methods for inference on the CPU: the same numbers from the same weights, which are packed
here. The plain network may be deleted."""
from __future__ import annotations

from typing import Any, Sequence

from ldm.backend import Module, Var, jt, nn
from ldm.networks.blocks import timestep_embedding
from ldm.networks.onednn.layers import Norm, Residual, SPADEResidual, Translator
from ldm.networks.onednn.operators import from_blocks, to_blocks
from ldm.networks.spade import fold


class BlockedUNet:
    """`modulate`, `encode` and `decode` of a UNet for latents of one size.

    Images are computed one by one, so that a result does not depend on its batch. What one method gives to
    the next is in blocks, a list with an item for each image. `winograd`, `consume` as in for_inference.
    """

    def __init__(self, unet: Module, height: int, width: int, winograd: bool = True,
                 consume: bool = False) -> None:
        self.learn_sigma, self._num_classes = unet.learn_sigma, unet.num_classes
        self._channels, self._time_embed = unet.channels, unet.time_embed
        with jt.no_grad():
            translator = Translator(height, width, winograd, consume)
            self._block = translator.block
            self._encoder = [[translator.layer(layer) for layer in block] for block in unet.input_blocks]
            self._decoder = [[translator.layer(layer) for layer in block] for block in unet.decoder_layers()]
            norm, _, conv = unet.out
            self._out_channels = conv.weight.shape[0]
            self._out_norm, self._out_conv = Norm(norm, translator), translator.convolution(conv)
            self._emb_weight, self._emb_bias = (jt.concat(parts).sync() for parts in zip(
                *((linear.weight, linear.bias) for linear in translator.linears)))
        self.bytes = translator.bytes               # of packed weights

    def modulate(self, one_hot: Var) -> list[Any]:
        """One-hot maps N x classes x h x w -> for each image every SPADE block's modulations, in order."""
        return [[layer.modulations(to_blocks(one_hot[n:n + 1], self._block))
                 for block in self._decoder for layer in block if isinstance(layer, SPADEResidual)]
                for n in range(one_hot.shape[0])]

    def modulate_empty(self, height: int, width: int) -> list[Any]:
        """The modulations of the empty map, for every image: folded to 3 x 3, as only the border differs."""
        return fold(self.modulate(jt.zeros((1, self._num_classes, height, width))))

    def encode(self, z: Var, t: Sequence[int]) -> tuple[list[list[Var]], list[Var]]:
        """z N x 3 x h x w, t N integers of the original 0..999 scale -> (skips, embs)."""
        embs = [self._embed(i) for i in t]
        return [self._encode(to_blocks(z[n:n + 1], self._block), emb) for n, emb in enumerate(embs)], embs

    def _embed(self, t):
        """Every residual block's scales and shifts of a timestep, one after the other: 1 x n."""
        emb = self._time_embed(jt.array(timestep_embedding([t], self._channels)))
        return nn.matmul_transpose(emb * jt.sigmoid(emb), self._emb_weight) + self._emb_bias

    def _encode(self, h, emb):
        skips = []
        for block in self._encoder:
            for layer in block:
                h = layer(h, emb) if isinstance(layer, Residual) else layer(h)
            skips.append(h)
        return skips

    def decode(self, skips: Sequence[Sequence[Var]], embs: Sequence[Var], modulations: Sequence[Any]) -> Var:
        """-> N x 6 (eps, variance values) or N x 3 x h x w. Modulations of one map serve every image."""
        if len(modulations) == 1:
            modulations = list(modulations) * len(skips)
        return jt.concat([self._decode(*image) for image in zip(skips, embs, modulations)])

    def _decode(self, skips, emb, modulations):
        skips, modulations = list(skips), iter(modulations)
        h = skips[-1]
        for i, block in enumerate(self._decoder):
            if i > 0:
                h = jt.concat([h, skips.pop()], dim=1)
            for layer in block:
                h = layer(h, emb, next(modulations)) if isinstance(layer, SPADEResidual) else layer(h)
        return from_blocks(self._out_conv(self._out_norm(h)), self._out_channels)
