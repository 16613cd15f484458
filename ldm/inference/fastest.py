"""Precision `auto`: the one in which a model is fastest on this processor, by a measurement that is made once
and kept in the cache. Needs Jittor only to measure."""
from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Optional

from ldm import sizes
from ldm.errors import UserError
from ldm.platform import cache, onednn, processor, runtime

AUTO = "auto"
FILE = "precision.json"             # {key: ratio}, in this project's part of the cache
VERSION = 2                         # of the measurement, to be raised when it or the operators change
WORTH = 0.9                         # of fp32's time: for less than a tenth pictures need not change
SHARE = 0.75                        # of the U-Net's work is timed: of its convolutions the largest ones
REPEATS = 5


def check(kind: str, where: str) -> None:
    """Refuse what is neither a precision of this machine nor `auto`, which compares a processor's."""
    if kind != AUTO:
        runtime.check_precision(kind, where)
    elif runtime.on_gpu():
        raise UserError(where, "is auto, which compares what processors have",
                        f"choose one of {', '.join(runtime.PRECISIONS)} on a GPU")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def chosen(kind: str, config: dict[str, Any], tell: Callable[[str], None] = say) -> str:
    """`kind`, or for `auto` fp32 or bf16, whichever is faster for the networks of a checked config.

    tell: gets the line that says which, and why."""
    if kind != AUTO:
        return kind
    if not runtime.cpu_has_bf16():
        tell(f"precision auto: fp32; {runtime.NO_BF16}")
        return "fp32"
    path, key = cache.own_folder() / FILE, key_of(config)
    kept = _read(path)
    if key not in kept:
        tell("precision auto: comparing fp32 and bf16 on this processor, once ...")
        kept[key] = measure(config)
        cache.write_json(path, kept)
    ratio = kept[key]
    kind = "bf16" if ratio is not None and ratio <= WORTH else "fp32"
    why = "its widths are no multiples of 16 channels" if ratio is None else \
        f"in bf16 its convolutions take {ratio:.2f} of fp32's time on {processor.name()}"
    tell(f"precision auto: {kind}; {why} ({path})")
    return kind


def key_of(config: dict[str, Any]) -> str:
    """A hash of all that decides: the processor, the threads, oneDNN, the U-Net and its size."""
    threads = os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))
    facts = [VERSION, processor.name(), sorted(runtime.cpu_flags()), threads,
             str((onednn.folder() / "lib/libmkldnn.so").resolve()), config["unet"], config["image_size"],
             config["autoencoder"]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Optional[float]]:
    """What was kept; {} where that is nothing or damaged."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) and all(isinstance(ratio, (int, float, type(None)))
                                                  for ratio in kept.values()) else {}


def measure(config: dict[str, Any]) -> Optional[float]:
    """Processor time in bf16 as a part of that in fp32, of the U-Net's largest convolutions for one image;
    None where the widths have no bf16."""
    from ldm.backend import jt
    from ldm.networks import Autoencoder, UNet
    from ldm.networks.onednn.layers import translatable
    if not (translatable(UNet(**config["unet"])) and translatable(Autoencoder(**config["autoencoder"]))):
        return None
    factor = sizes.factor(config["autoencoder"])
    width, height = (side // factor for side in config["image_size"])
    times = [0.0, 0.0]
    with jt.no_grad():
        for layer, count in largest(config["unet"], height, width):
            for i, run in enumerate(convolutions(layer, height // layer.down, width // layer.down)):
                times[i] += count * _shortest(run)
            jt.gc()
    return times[1] / times[0]


def largest(unet: dict[str, Any], height: int, width: int) -> list[tuple[sizes.Layer, int]]:
    """The convolutions that make SHARE of a step's multiplications, each with how often it occurs."""
    counts = Counter(layer for layer in sizes.unet(unet)
                     if layer.kernel and layer.down and not layer.attention and layer.part != "modulate")
    work = sorted(((count * layer.macs(height, width), layer, count) for layer, count in counts.items()),
                  reverse=True)
    total, done, found = sum(macs for macs, _, _ in work), 0, []
    for macs, layer, count in work:
        if done >= SHARE * total:
            break
        done += macs
        found.append((layer, count))
    return found


def convolutions(layer: sizes.Layer, height: int, width: int) -> list[Callable[[], Any]]:
    """The convolution in fp32 and in bf16, as inference computes it."""
    from ldm.backend import jt
    from ldm.networks.onednn.gradients import blocked_shape
    from ldm.networks.onednn.operators import Convolution, block_size
    from ldm.networks.onednn.packed import Packed, rounded
    weight = jt.ones((layer.outputs, layer.inputs, layer.kernel, layer.kernel))
    bias = jt.ones(layer.outputs)
    plain = Convolution(weight, bias, height, width, block_size())
    packed = Packed(weight, bias)
    x = jt.ones(blocked_shape(1, layer.inputs, height, width, "float32"))
    half = rounded(jt.ones(blocked_shape(1, layer.inputs, height, width, "bfloat16")))
    return [lambda: plain(x).sync(), lambda: packed(half).sync()]


def _shortest(run: Callable[[], Any]) -> float:
    """Processor seconds of the fastest of REPEATS calls, after one that compiles."""
    times = []
    for _ in range(1 + REPEATS):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times[1:])
