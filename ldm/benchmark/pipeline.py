"""Where an image's time goes: in the entry's way, with the network in parts, and with the fused operators."""
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ldm import labels
from ldm.backend import Module, Var, jt
from ldm.benchmark.clock import Peak, Time, best, in_words, machine, peaks, timed
from ldm.benchmark.operators import multiplications, operators
from ldm.diffusion.guidance import guide
from ldm.images import from_network, to_network
from ldm.inference.color_transfer import color_transfer
from ldm.inference.refinement import mebibytes
from ldm.networks import Autoencoder, UNet, precision
from ldm.networks.onednn import for_inference
from ldm.platform import runtime
from ldm.training import memory as memory_used

TIMESTEP, GUIDANCE = 500, 3.5


def random_weights(network: Module) -> Module:
    """Replace the zeros of a new network by random numbers, so that no part computes on constants. Returns
    `network`."""
    for p in network.parameters():
        if p.ndim > 1 and not p.numpy().any():
            p.assign(jt.randn(p.shape) / float(np.sqrt(np.prod(p.shape[1:]))))
    return network


class EntrysWay:
    """Two whole passes; nothing is cached."""

    kind = "fp32"                                   # one of runtime.PRECISIONS

    def __init__(self, unet: Module, one_hot: Var) -> None:
        self.unet, self.one_hot = unet, one_hot

    def keep(self) -> None:
        self.maps = self.one_hot, jt.zeros(self.one_hot.shape)

    def passes(self, z: Var) -> list[Var]:
        return [self.unet(z, [TIMESTEP], map_)[:, :3] for map_ in self.maps]


class Apart:
    """The modulations are cached, and both passes share one encoding, as in ldm.inference.pipeline."""

    kind = "fp32"

    def __init__(self, unet: Module, one_hot: Var) -> None:
        self.unet, self.one_hot = unet, one_hot

    def keep(self) -> None:
        self.maps = self.unet.modulate(self.one_hot), self.unet.modulate_empty(*self.one_hot.shape[2:])

    def passes(self, z: Var) -> list[Var]:
        encoded = self.unet.encode(z, [TIMESTEP])
        return [self.unet.decode(*encoded, map_)[:, :3] for map_ in self.maps]


class InPrecision(Apart):
    """The same with fewer bits than fp32, on a GPU or on a processor that has bf16."""

    def __init__(self, unet: Module, options: dict, one_hot: Var, kind: str) -> None:
        super().__init__(in_precision(unet, options, kind), one_hot)
        self.kind = kind

    def passes(self, z: Var) -> list[Var]:
        with jt.flag_scope(use_tensorcore=int(self.kind == "tf32")):
            return [out.sync() for out in super().passes(z)]


def in_precision(unet: Module, options: dict, kind: str) -> Module:
    """A copy of the U-Net, made with `options`, that computes in `kind`. TF32 is a switch of the whole
    process, which stays off for the other computations."""
    own = UNet(**options)
    own.load_state_dict(unet.state_dict())
    own.eval()
    with jt.flag_scope(use_tensorcore=0):
        precision.apply(own, kind, inference=True)
    return own


def ways_of(unet: Module, direct: Module, fast: Module, options: dict, one_hot: Var) -> dict[str, Any]:
    """{name: way} of everything that is compared. `direct` and `fast` are translations of `unet`, without and
    with Winograd's algorithm; `options` are the arguments that it was made with."""
    if jt.flags.use_cuda:
        return {"the entry's way": EntrysWay(unet, one_hot), "ours": Apart(unet, one_hot),
                **{f"ours, {kind}": InPrecision(unet, options, one_hot, kind)
                   for kind in runtime.PRECISIONS[1:]}}
    ways = {"the entry's way": EntrysWay(unet, one_hot), "kept and shared": Apart(unet, one_hot),
            "and fused": Apart(direct, one_hot), "and Winograd (ours)": Apart(fast, one_hot)}
    if runtime.cpu_has_bf16() and fast is not unet:
        ways["ours, bf16"] = InPrecision(unet, options, one_hot, "bf16")
    return ways


def step(way: Any, z: Var) -> Var:
    with_map, without = way.passes(z)
    return guide(with_map, without, GUIDANCE)


def inputs(config: dict, seed: int) -> tuple[Var, Var, np.ndarray]:
    """(latent 1 x 3 x h x w, one-hot map of that size in squares, image H x W x 3 uint8), all random."""
    rng = np.random.default_rng(seed)
    factor = 2 ** (len(config["autoencoder"]["channel_mult"]) - 1)
    width, height = config["image_size"]
    map_ = rng.integers(config["unet"]["num_classes"], size=(1, height // factor, width // factor))
    map_ = map_[:, ::4, ::4].repeat(4, 1).repeat(4, 2)[:, :height // factor, :width // factor]
    return (jt.array(rng.standard_normal((1, 3, height // factor, width // factor)).astype(np.float32)),
            jt.array(labels.one_hot(map_.astype(np.uint8))),
            rng.integers(256, size=(height, width, 3)).astype(np.uint8))


def measure(config: dict, repeats: int, seed: int = 0) -> dict[str, Any]:
    """The report for a config's networks with random weights, batch 1. The ways take turns, and the smallest
    time of each counts, since disturbances only add time."""
    jt.set_global_seed(seed)
    with jt.no_grad():
        z, one_hot, image = inputs(config, seed)
        height, width = z.shape[2:]
        unet = random_weights(UNet(**config["unet"]))
        unet.eval()
        macs = multiplications(operators(unet, lambda: unet(z, [TIMESTEP], one_hot)))
        direct, translation = timed(lambda: for_inference(unet, height, width, winograd=False))
        fast, _ = timed(lambda: for_inference(unet, height, width))
        ways = ways_of(unet, direct, fast, config["unet"], one_hot)
        of_precisions = peaks()
        steps = steps_table(ways, z, 2 * macs, repeats, of_precisions)
        phases = phases_table(config, image, repeats)
    kept = {f"MiB of maps kept, {name}": mebibytes(way.maps) for name, way in list(ways.items())[1:]}
    memory = {"GMAC a pass": macs / 1e9, **kept,
              "MiB of weights": sum(p.numel() for p in unet.parameters()) * 4 / 2**20,
              "peak memory of it all, GB": memory_used.peak() / 1e9,
              "MiB of packed weights": getattr(direct, "bytes", 0) / 2**20,
              "MiB of weights packed for Winograd": getattr(fast, "bytes", 0) / 2**20,
              "processor seconds to pack": translation.cpu}
    return {"machine": {**machine(), **in_words(of_precisions)}, "tables": [
        {"title": "One guided step, batch 1", "rows": steps},
        {"title": "The other phases of an image", "rows": phases},
        {"title": "Memory and work", "rows": [{"what": k, "value": float(v)} for k, v in memory.items()]}]}


def steps_table(ways: dict[str, Any], z: Var, multiplications: int, repeats: int,
                peaks: dict[str, Peak]) -> list[dict[str, Any]]:
    """A row for each way: caching the maps (once per image), then a step, compared with the first way's step.

    `multiplications` are those of the first way's step, by the direct algorithm. The share of the peak, in
    the way's precision, uses this number for every way.
    """
    kept = {name: [timed(way.keep)[1] for _ in range(2)][1] for name, way in ways.items()}
    results: dict[str, Var] = {}
    times: dict[str, list[Time]] = {name: [] for name in ways}
    for repeat in range(1 + repeats):               # the first call compiles operators
        for name, way in ways.items():
            results[name], time = timed(partial(step, way, z))
            times[name] += [time] if repeat else []
        for peak in peaks.values():
            peak.measure()
    first = next(iter(ways))
    base, passes = best(times[first]), {name: jt.concat(way.passes(z)) for name, way in ways.items()}
    rows = []
    for name, way in ways.items():
        time = best(times[name])
        rows.append({
            "way": name, "maps, processor s": kept[name].cpu, "step, s": time.wall, "processor s": time.cpu,
            "ratio": time.wall / base.wall, "processor ratio": time.cpu / base.cpu,
            "share of the peak": way.kind in peaks and peaks[way.kind].share(multiplications, time) or None,
            "passes differ by": difference(passes[name], passes[first]),
            "the step by": difference(results[name], results[first])})
    return rows


def difference(result: Var, exact: Var) -> float:
    """The largest difference of two Vars, relative to the second's largest value."""
    return float(((result - exact).abs().max() / exact.abs().max()).item())


def phases_table(config: dict, image: np.ndarray, repeats: int) -> list[dict[str, Any]]:
    """Encoding, decoding and colour transfer of an image, with Jittor's operators and with ours, in fp32 and
    where this processor has it in bf16."""
    plain = random_weights(Autoencoder(**config["autoencoder"]))
    plain.eval()
    height, width = image.shape[:2]
    ways = {"plain": plain, "ours": for_inference(plain, height, width)}
    if not jt.flags.use_cuda and runtime.cpu_has_bf16():
        ways["bf16"] = Autoencoder(**config["autoencoder"])
        ways["bf16"].load_state_dict(plain.state_dict())
        ways["bf16"].eval()
        precision.apply(ways["bf16"], "bf16", inference=True)
    latent = plain.encode(jt.array(to_network(image)[None])).sync()
    phases = {"encode": lambda autoencoder: autoencoder.encode(jt.array(to_network(image)[None])),
              "decode": lambda autoencoder: from_network(autoencoder.decode(latent).numpy()[0]),
              "colour transfer": lambda _: color_transfer(image, np.roll(image, 7, axis=2), "opencv8")}
    rows = []
    for name, run in phases.items():
        times: dict[str, list[Time]] = {way: [] for way in ways}
        for repeat in range(1 + repeats):
            for way, autoencoder in ways.items():
                time = timed(partial(run, autoencoder))[1]
                times[way] += [time] if repeat else []
        least = {way: best(of_way) for way, of_way in times.items()}
        cells = {f"{way}, {unit}": seconds for way, time in least.items()
                 for unit, seconds in (("s", time.wall), ("processor s", time.cpu))}
        rows.append({"phase": name, **cells,
                     "processor ratio": min(t.cpu for t in least.values()) / least["plain"].cpu})
    return rows
