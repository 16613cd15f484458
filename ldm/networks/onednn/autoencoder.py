"""The autoencoder's methods for inference on the CPU (see `BlockedUNet`)."""
from __future__ import annotations

from typing import Callable

from ldm.backend import Module, Var, jt
from ldm.networks.onednn.codebook import Codebook
from ldm.networks.onednn.layers import Attention, Norm, Translator, upsample
from ldm.networks.onednn.operators import from_blocks, to_blocks

Layer = Callable[[Var], Var]


class Block:
    """An autoencoder.Block."""

    def __init__(self, plain: Module, translator: Translator) -> None:
        self.norm1, self.conv1 = Norm(plain.norm1, translator), translator.convolution(plain.conv1)
        self.norm2, self.conv2 = Norm(plain.norm2, translator), translator.convolution(plain.conv2)
        self.skip = translator.convolution(plain.nin_shortcut) if plain._widens else None

    def __call__(self, x: Var) -> Var:
        h = self.conv1(self.norm1(x))
        return self.conv2(self.norm2(h), residual=self.skip(x) if self.skip else x)


def level(plain: Module, translator: Translator) -> list[Layer]:
    """The layers of an autoencoder.Level."""
    layers: list[Layer] = [Block(block, translator) for block in plain.block]
    if "downsample" in plain.__dict__:
        layers.append(translator.convolution(plain.downsample.conv, stride=2))
        translator.resize(0.5)
    if "upsample" in plain.__dict__:
        translator.resize(2)
        layers += [upsample, translator.convolution(plain.upsample.conv)]
    return layers


def middle(plain: Module, translator: Translator) -> list[Layer]:
    return [Block(plain.block_1, translator), Attention(plain.attn_1, translator),
            Block(plain.block_2, translator)]


class BlockedAutoencoder:
    """`encode` and `decode` of an Autoencoder for images of one size, one image at a time."""

    def __init__(self, plain: Module, height: int, width: int, winograd: bool = True,
                 consume: bool = False) -> None:
        self.factor = plain.factor
        self._quantize = Codebook(plain.quantize) if plain.quantize is not None else None
        encoder, decoder = plain.encoder, plain.decoder
        self._channels = plain.quant_conv.weight.shape[0], decoder.conv_out.weight.shape[0]
        with jt.no_grad():
            translator = Translator(height, width, winograd, consume)
            self._block = translator.block
            self._encoder: list[Layer] = [translator.convolution(encoder.conv_in)]
            for part in encoder.down:
                self._encoder += level(part, translator)
            self._encoder += [*middle(encoder.mid, translator), Norm(encoder.norm_out, translator),
                              translator.convolution(encoder.conv_out),
                              translator.convolution(plain.quant_conv)]
            self._decoder: list[Layer] = [translator.convolution(plain.post_quant_conv),
                                          translator.convolution(decoder.conv_in),
                                          *middle(decoder.mid, translator)]
            for part in list(decoder.up)[::-1]:
                self._decoder += level(part, translator)
            self._decoder += [Norm(decoder.norm_out, translator), translator.convolution(decoder.conv_out)]
        self.bytes = translator.bytes               # of packed weights

    def encode(self, images: Var) -> Var:
        """N x 3 x H x W in -1..1 -> latents before quantisation."""
        return self._through(self._encoder, images, self._channels[0])

    def decode(self, latents: Var) -> Var:
        """Quantise, if there is a codebook, then decode: -> N x 3 x H x W, about -1..1."""
        entries = self._quantize(latents) if self._quantize else latents
        return self._through(self._decoder, entries, self._channels[1])

    def _through(self, layers, x, channels):
        results = []
        for n in range(x.shape[0]):
            h = to_blocks(x[n:n + 1], self._block)
            for layer in layers:
                h = layer(h)
            results.append(from_blocks(h, channels).sync())
        return jt.concat(results)
