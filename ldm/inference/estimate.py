"""The memory and time that a job of inference will need, computed from the config only. Needs no Jittor."""
from __future__ import annotations

from ldm import sizes
from ldm.diffusion import Schedule
from ldm.inference.rounds import Settings
from ldm.platform import runtime

PROGRAM = 0.4e9             # bytes of Python, Jittor and its operators
# Of the weights in fp32. On a CPU they are packed as they are read: for Winograd's algorithm, or in bf16.
COPIES, COPIES_BF16, COPIES_GPU = 2.7, 0.7, 3
MAPS = 3                    # of the largest layer's inputs and outputs are alive at once


def macs(config: dict, settings: Settings, schedule: Schedule) -> int:
    """Multiply-accumulate operations of one image of the config's size.

    Each step is one pass of the encoder and one of the decoder, or two with guidance, in its interval; each
    round encodes and decodes a picture.
    """
    width, height = config["image_size"]
    factor = sizes.factor(config["autoencoder"])
    latent = height // factor, width // factor
    of = {part: sum(layer.macs(*latent) for layer in sizes.unet(config["unet"]) if layer.part == part)
          for part in ("encode", "decode", "modulate")}
    around = sum(layer.macs(height, width) for layer in sizes.autoencoder(config["autoencoder"]))
    rounds = settings.for_schedule(schedule)
    steps = sum(r.start * of["encode"] + (r.start + sum(r.guides)) * of["decode"] for r in rounds)
    return 2 * of["modulate"] + steps + around * len(rounds)


def modulations(config: dict) -> int:
    """Bytes of the cached modulations of one image's label map."""
    width, height = config["image_size"]
    options, factor = config["unet"], sizes.factor(config["autoencoder"])
    layers = [layer for layer in sizes.unet(options)
              if layer.part == "modulate" and layer.inputs != options["num_classes"]]
    return sizes.FLOAT * sum(layer.outputs * (height // factor) * (width // factor) // layer.down ** 2
                             for layer in layers)


def memory(config: dict, batch: int, limit: int | None = None, precision: str = "fp32") -> float:
    """Estimated bytes that a process needs to make `batch` images at once. limit: MiB of modulations that it
    caches. precision: one of runtime.PRECISIONS."""
    half = precision == "bf16" and not runtime.on_gpu()
    copies = COPIES_GPU if runtime.on_gpu() else COPIES_BF16 if half else COPIES
    weights = sizes.FLOAT * sum(sizes.parameters(config, name) for name in ("unet", "autoencoder"))
    kept = batch * modulations(config)
    kept = kept if limit is None else min(kept, limit * 2 ** 20)
    maps = kept + MAPS * sizes.largest(config, "autoencoder")
    return PROGRAM + copies * weights + (maps / 2 if half else maps)
