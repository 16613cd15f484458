"""The sizes of a config's networks, layer by layer, computed from the config alone: nothing is built."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, NamedTuple

from ldm.labels import NUM_CLASSES

FLOAT = 4                   # bytes
CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Layer(NamedTuple):
    """A layer that counts for parameters, time or memory.

    kernel: side of a convolution's kernel; 0 for a norm, whose inputs are its outputs.
    down: how many times smaller its maps are than the network's input; 0 for a linear layer on one vector.
    part: encode, decode or modulate.
    attention: True for the product of an attention layer, which has no weights and grows with the square of
    the number of positions.
    """

    inputs: int
    outputs: int
    kernel: int
    down: int
    part: str
    attention: bool = False

    @property
    def parameters(self) -> int:
        if self.attention:
            return 0
        return self.outputs * (self.inputs * self.kernel ** 2 + 1) if self.kernel else 2 * self.outputs

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulate operations of one pass for a network input of this size."""
        positions = height * width // self.down ** 2 if self.down else 1
        if self.attention:
            return 2 * self.outputs * positions ** 2
        return self.inputs * self.outputs * self.kernel ** 2 * positions

    def numbers(self, height: int, width: int) -> int:
        """How many numbers are in the layer's inputs and outputs."""
        positions = height * width // self.down ** 2 if self.down else 1
        return (self.inputs + self.outputs) * positions


def unet(o: dict) -> Iterator[Layer]:
    """The layers of a UNet(**o), for latents of the network's input size."""
    channels, emb, mult = o["channels"], 4 * o["channels"], o["channel_mult"]

    def conv(c, out, down, part, kernel=3):
        return Layer(c, out, kernel, down, part)

    def residual(c, out, down, part):
        yield from (conv(c, out, down, part), Layer(emb, 2 * out, 1, 0, "encode"), conv(out, out, down, part))
        if c != out:
            yield conv(c, out, down, part, 1)

    def spade(c, down):
        hidden = o["spade_channels"]
        yield from (conv(o["num_classes"], hidden, down, "modulate"), conv(hidden, c, down, "modulate"),
                    conv(hidden, c, down, "modulate"))

    def attention(c, down, part):
        yield from (Layer(c, c, 0, down, part), conv(c, 3 * c, down, part, 1),
                    Layer(c, c, 1, down, part, True), conv(c, c, down, part, 1))

    def encoder_block(c, out, down):
        yield from (Layer(c, c, 0, down, "encode"), Layer(out, out, 0, down, "encode"))
        yield from residual(c, out, down, "encode")

    def decoder_block(c, out, down, up=False):
        yield from spade(c, down)
        yield from spade(out, down // 2 if up else down)
        yield from residual(c, out, down // 2 if up else down, "decode")

    yield from (Layer(channels, emb, 1, 0, "encode"), Layer(emb, emb, 1, 0, "encode"))
    c, down, attended = channels * mult[0], 1, o["attention_downsampling"]
    yield conv(3, c, 1, "encode")
    widths = [c]
    for level, m in enumerate(mult):
        for _ in range(o["num_res_blocks"]):
            yield from encoder_block(c, m * channels, down)
            c = m * channels
            yield from attention(c, down, "encode") if down in attended else ()
            widths.append(c)
        if level < len(mult) - 1:
            down *= 2
            yield from encoder_block(c, c, down)
            widths.append(c)
    yield from (*decoder_block(c, c, down), *attention(c, down, "decode"), *decoder_block(c, c, down))
    for level, m in reversed(list(enumerate(mult))):
        for i in range(o["num_res_blocks"] + 1):
            yield from decoder_block(c + widths.pop(), m * channels, down)
            c = m * channels
            yield from attention(c, down, "decode") if down in attended else ()
            if level > 0 and i == o["num_res_blocks"]:
                yield from decoder_block(c, c, down, up=True)
                down //= 2
    yield Layer(c, c, 0, 1, "decode")
    yield conv(c, 6 if o["learn_sigma"] else 3, 1, "decode")


def autoencoder(o: dict) -> Iterator[Layer]:
    """The layers of an Autoencoder(**o), for images of the network's input size, and its codebook."""
    channels, mult = o["channels"], o["channel_mult"]

    def block(c, out, down, part):
        yield from (Layer(c, c, 0, down, part), Layer(c, out, 3, down, part),
                    Layer(out, out, 0, down, part), Layer(out, out, 3, down, part))
        if c != out:
            yield Layer(c, out, 1, down, part)

    def middle(c, down, part):
        yield from block(c, c, down, part)
        yield from (Layer(c, c, 0, down, part), *[Layer(c, c, 1, down, part)] * 4,
                    Layer(c, c, 1, down, part, True))
        yield from block(c, c, down, part)

    c, down = channels, 1
    yield Layer(3, c, 3, 1, "encode")
    for i, m in enumerate(mult):
        for _ in range(o["num_res_blocks"]):
            yield from block(c, m * channels, down, "encode")
            c = m * channels
        if i < len(mult) - 1:
            down *= 2
            yield Layer(c, c, 3, down, "encode")
    z, dim = o["z_channels"], o["embed_dim"]
    yield from middle(c, down, "encode")
    yield from (Layer(c, c, 0, down, "encode"), Layer(c, z, 3, down, "encode"),
                Layer(z, dim, 1, down, "encode"))
    yield from (Layer(dim, z, 1, down, "decode"), Layer(z, c, 3, down, "decode"))
    yield from middle(c, down, "decode")
    for i, m in reversed(list(enumerate(mult))):
        for _ in range(o["num_res_blocks"] + 1):
            yield from block(c, m * channels, down, "decode")
            c = m * channels
        if i > 0:
            down //= 2
            yield Layer(c, c, 3, down, "decode")
    yield from (Layer(c, c, 0, 1, "decode"), Layer(c, 3, 3, 1, "decode"))


BLOCKS = ((16, 16), (16, 16), (16, 16), (16, 8), (8, 4), (4, 2), (2, 1))      # of a GAN: channels in and out


def gan(config: dict) -> int:
    """About how many parameters the generator of a GAN's config has."""
    kind, o = config["kind"], config["gan"]
    c, hidden, experts = o["channels"], o["hidden"], o["scgan"]["conv_experts"] if kind == "scgan" else 1
    total = 16 * c * (9 * NUM_CLASSES)
    if o["vae"]:
        width, height = config["image_size"]
        total = o["z_dim"] * 16 * c * (width * height >> 10) + 9 * 180 * o["encoder_channels"] ** 2
    length = o["sean"]["style_length"]
    for inputs, outputs in BLOCKS:
        middle = min(inputs, outputs)
        total += experts * 9 * c * c * (inputs * middle + middle * outputs)
        for width in (inputs, middle) if inputs == outputs else (inputs, middle, inputs):
            total += 9 * hidden * (NUM_CLASSES + 2 * c * width) if kind in ("gaugan", "sean") else 0
            total += NUM_CLASSES * length * length + 18 * length * c * width if kind == "sean" else 0
    return total


def factor(options: dict) -> int:
    """The downsampling factor from the first to the last level of `options["channel_mult"]`."""
    return 2 ** (len(options["channel_mult"]) - 1)


def parameters(config: dict, name: str) -> int:
    """The number of parameters of the network `name` of a config; for a segmenter and a GAN approximately."""
    options = config[name]
    if name == "gan":
        return gan(config)
    if name == "segmenter":
        return sum(depth * h * h * (4 + 2 * options["mlp_ratio"] + (r * r if r > 1 else 0))
                   for h, depth, r in zip(options["hidden"], options["depths"], options["reductions"]))
    book = options["codebook_size"] * options["embed_dim"] if name == "autoencoder" else 0
    return book + sum(layer.parameters for layer in {"unet": unet, "autoencoder": autoencoder}[name](options))


def largest(config: dict, name: str) -> int:
    """Bytes of the inputs and outputs of the largest layer, for one picture of the config's size."""
    width, height = config["image_size"]
    if name == "gan":
        return FLOAT * (config["gan"]["hidden"] + 2 * config["gan"]["channels"]) * width * height
    if name == "segmenter":
        return FLOAT * 6 * width * height
    f = factor(config["autoencoder"]) if name == "unet" else 1
    layers = {"unet": unet, "autoencoder": autoencoder}[name](config[name])
    return FLOAT * max(layer.numbers(height // f, width // f) for layer in layers if layer.kernel)


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, CGROUP):
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):                       # no such control group, or "max"
            continue
    return min(found)
