"""How large the networks of a config are, layer by layer, from its numbers alone: nothing is built."""
import os
from pathlib import Path
from typing import Iterator, NamedTuple

FLOAT = 4                   # bytes
CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Layer(NamedTuple):
    """A convolution of `kernel` x `kernel` (0: a norm, whose inputs are its outputs) on maps `down` times
    smaller than the network's input (0: a linear layer of one vector). `part`: encode, decode or modulate.
    attention: multiply-accumulates go with the square of the positions, too; it has no weights."""

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
        """Multiply-accumulates of one pass for inputs of this size."""
        positions = height * width // self.down ** 2 if self.down else 1
        if self.attention:
            return 2 * self.outputs * positions ** 2
        return self.inputs * self.outputs * self.kernel ** 2 * positions

    def numbers(self, height: int, width: int) -> int:
        """What goes in and comes out, in numbers."""
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


def factor(o: dict) -> int:
    """How much smaller the last level of `o["channel_mult"]` is than the first."""
    return 2 ** (len(o["channel_mult"]) - 1)


def parameters(config: dict, name: str) -> int:
    """How many numbers the network `name` of a config has: of a segmenter about so many."""
    o = config[name]
    if name == "segmenter":
        return sum(depth * h * h * (4 + 2 * o["mlp_ratio"] + (r * r if r > 1 else 0))
                   for h, depth, r in zip(o["hidden"], o["depths"], o["reductions"]))
    book = o["codebook_size"] * o["embed_dim"] if name == "autoencoder" else 0
    return book + sum(layer.parameters for layer in {"unet": unet, "autoencoder": autoencoder}[name](o))


def largest(config: dict, name: str) -> int:
    """Bytes of what goes in and out of the largest layer for one picture of a config's size."""
    width, height = config["image_size"]
    if name == "segmenter":
        return FLOAT * 6 * width * height
    f = factor(config["autoencoder"]) if name == "unet" else 1
    layers = {"unet": unet, "autoencoder": autoencoder}[name](config[name])
    return FLOAT * max(layer.numbers(height // f, width // f) for layer in layers if layer.kernel)


def machine_memory() -> int:
    """Bytes that this process may have: the machine's, or what its container is allowed."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, CGROUP):
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):                       # no such group, or "max"
            continue
    return min(found)
