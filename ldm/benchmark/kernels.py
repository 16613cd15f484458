"""The network's operators at their real sizes, and a whole pass: Jittor's own, ours, and PyTorch's.

PyTorch runs in a process of its own, by the Python that has it; all take turns, so that what disturbs one
disturbs the others. Times are of the processor, seconds times threads, or on a GPU of the clock; the least of
several.
"""
from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import IO, Any, Callable, Mapping, Optional, Sequence, cast

from ldm.backend import Module, Var, jt, nn
from ldm.benchmark.clock import Peak, Time, best, in_words, machine, timed
from ldm.benchmark.operators import Operator, operators
from ldm.benchmark.pipeline import TIMESTEP, in_precision, inputs, random_weights
from ldm.errors import UserError
from ldm.networks import UNet
from ldm.networks.attention import attend as plain_attend
from ldm.networks.blocks import modulated
from ldm.networks.blocks import normalize as plain_normalize
from ldm.networks.onednn import for_inference
from ldm.networks.onednn import operators as fused
from ldm.platform import runtime

GPU_CALLS = 50              # of an operator in one reading, on a GPU
GPU_KINDS = "fp32", "tf32", "bf16"          # precisions in which a pass is timed there


class Torch:
    """The other process. `ask(do=..., ...)` -> its answer (see torch_side.py)."""

    def __init__(self, python: str | Path) -> None:
        script = Path(__file__).with_name("torch_side.py")
        try:
            self._child = subprocess.Popen([python, script], text=True, stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE)
        except OSError as e:
            raise UserError(python, f"cannot be run ({e.strerror})", "give a Python that has PyTorch") from e
        self._to, self._from = cast(IO[str], self._child.stdin), cast(IO[str], self._child.stdout)
        try:
            self.version = self.ask(do="hello", device="cuda" if jt.flags.use_cuda else "cpu")["version"]
        except (OSError, ValueError):
            raise UserError(python, "does not answer", "give a Python that has NumPy and PyTorch (for a GPU, "
                            "if there is one)") from None

    def ask(self, **question: Any) -> dict[str, Any]:
        print(json.dumps(question), file=self._to, flush=True)
        return json.loads(self._from.readline())

    def close(self) -> None:
        self._to.close()
        self._child.wait()


def normal(*shape: int) -> Var:
    return jt.randn(shape).sync()


def plain(o: Operator) -> Callable[[], Var]:
    """A function that runs an Operator once with Jittor's operators."""
    x = normal(1, o.channels, o.height, o.width)
    if o.kind == "conv":
        w, b = normal(o.out_channels, o.channels, o.kernel, o.kernel), normal(o.out_channels)
        return lambda: nn.conv2d(x, w, b, padding=o.kernel // 2)
    if o.kind == "linear":
        x, w, b = normal(1, o.channels), normal(o.out_channels, o.channels), normal(o.out_channels)
        return lambda: nn.matmul_transpose(x, w) + b
    if o.kind == "attention":
        q, k, v = (normal(o.heads, o.channels, o.height * o.width) for _ in range(3))
        return lambda: plain_attend(q, k, v)
    size = (o.height, o.width) if o.modulated else (1, 1)
    gain, offset = (normal(1, o.channels, *size) for _ in range(2))

    def run():
        h = plain_normalize(x, o.groups, 1e-5) * gain + offset
        return h * jt.sigmoid(h)
    return run


def ours(o: Operator) -> Optional[Callable[[], Var]]:
    """The same with the fused operators; None where there is none."""
    if jt.flags.use_cuda:
        return on_device(o) if o.kind == "norm" else None
    block = fused.block_size()
    if o.kind == "linear" or o.kind != "conv" and o.channels % block:
        return None
    x = fused.to_blocks(normal(1, o.channels, o.height, o.width), block).sync()
    if o.kind == "conv":
        made = fused.Convolution(normal(o.out_channels, o.channels, o.kernel, o.kernel),
                                 normal(o.out_channels), o.height, o.width, block)
        return lambda: made(x)
    if o.kind == "attention":
        qkv = fused.to_blocks(normal(1, 3 * o.channels * o.heads, o.height, o.width), block).sync()
        return lambda: fused.attend(qkv, o.heads)
    size = (o.height, o.width) if o.modulated else (1, 1)
    gain, offset = (fused.to_blocks(normal(1, o.channels, *size), block).sync() for _ in range(2))
    emb = jt.zeros((1, 2 * o.channels)).sync()
    return lambda: fused.normalize(x, gain, offset, emb, o.groups, 1e-5)


def on_device(o: Operator) -> Optional[Callable[[], Var]]:
    x, size = normal(1, o.channels, o.height, o.width), (o.height, o.width) if o.modulated else (1, 1)
    gain, offset = (normal(1, o.channels, *size) for _ in range(2))
    return lambda: modulated(x, o.groups, 1e-5, gain, offset, silu=True)


def in_turn(sides: Mapping[str, Optional[Callable[[], Time]]], repeats: int) -> dict[str, Time]:
    """sides: {name: function -> Time, or None}. -> {name: the best Time}; the first turn is not counted."""
    turns = {name: run for name, run in sides.items() if run}
    times: dict[str, list[Time]] = {name: [] for name in turns}
    for repeat in range(1 + repeats):
        for name, run in turns.items():
            time = run()
            times[name] += [time] if repeat else []
    return {name: best(of_side) for name, of_side in times.items()}


def of_jittor(run: Optional[Callable[[], Any]], calls: int = 1) -> Any:
    return run and (lambda: timed(run, calls)[1])


def measure(config: dict, repeats: int, torch_python: Optional[str] = None, seed: int = 0) -> dict[str, Any]:
    """The report: a pass as a whole, then each operator with how often a pass has it, by total time."""
    torch = Torch(torch_python) if torch_python else None
    try:
        with jt.no_grad():
            peak = Peak()
            passes, found = pass_table(config, repeats, torch, seed)
            rows = [row(o, count, repeats, torch, peak) for o, count in found.items()]
            on = {**machine(), **in_words({"fp32": peak})}
    finally:
        if torch:
            torch.close()
    rows.sort(key=lambda r: -r["in a pass"] * r["plain ms"])
    if torch:
        on["torch"] = torch.version
    return {"machine": on, "tables": [
        {"title": "One pass of the network, batch 1", "rows": passes},
        {"title": "A pass by kind of operator, processor ms", "rows": by_kind(rows)},
        {"title": "Each operator once, processor ms", "rows": rows}]}


def by_kind(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sums over a pass for each kind; what ours leaves as it is counts with the plain time."""
    sums: dict[str, dict[str, Any]] = {}
    for r in rows:
        kind = r["operator"].split(",")[0].rstrip("0123456789 ->")
        of_kind = sums.setdefault(kind, {"kind": kind, "in a pass": 0})
        of_kind["in a pass"] += r["in a pass"]
        for side in (name for name in r if name.endswith(" ms")):
            time = r["plain ms"] if r[side] is None else r[side]
            of_kind[side] = of_kind.get(side, 0) + r["in a pass"] * time
    return list(sums.values())


def pass_table(config: dict, repeats: int, torch: Optional[Torch],
               seed: int) -> tuple[list[dict[str, Any]], dict[Operator, int]]:
    """-> (a row for each side, which makes the maps anew in each pass, against PyTorch's fastest, without it
    against the first side; the operators {Operator: count})."""
    z, one_hot, _ = inputs(config, seed)
    unet = random_weights(UNet(**config["unet"]))
    unet.eval()
    found = operators(unet, lambda: unet(z, [TIMESTEP], one_hot))
    sides = sides_of(unet, config["unet"], z, one_hot)
    if torch:
        torch.ask(do="build", config=config["unet"], height=z.shape[2], width=z.shape[3])
        for kind in precisions():
            for layout in ("", ", channels last"):
                sides[f"PyTorch, {kind}{layout}"] = partial(of_torch, torch, kind, bool(layout))
    times = in_turn(sides, repeats)
    against = min((t for name, t in times.items() if name.startswith("PyTorch")),
                  default=next(iter(times.values())))
    return [{"side": name, "s": t.wall, "processor s": t.cpu, "ratio": t.wall / against.wall,
             "processor ratio": t.cpu / against.cpu} for name, t in times.items()], found


def precisions() -> tuple[str, ...]:
    """Those in which a pass is timed on this machine."""
    if jt.flags.use_cuda:
        return GPU_KINDS
    return ("fp32", "bf16") if runtime.cpu_has_bf16() else ("fp32",)


def sides_of(unet: Module, options: dict, z: Var, one_hot: Var) -> dict[str, Callable[[], Time]]:
    """{name: function -> Time of a pass} of Jittor; `options` are the arguments that `unet` was made with."""
    if jt.flags.use_cuda:
        return {f"Jittor, ours, {kind}": pass_in(kind, in_precision(unet, options, kind), z, one_hot)
                for kind in precisions()}
    fast = for_inference(unet, *z.shape[2:])
    sides = {"Jittor, plain": of_jittor(lambda: unet(z, [TIMESTEP], one_hot)),
             "Jittor, ours, fp32": of_jittor(lambda: fast.decode(*fast.encode(z, [TIMESTEP]),
                                                                 fast.modulate(one_hot)))}
    if "bf16" in precisions() and fast is not unet:
        sides["Jittor, ours, bf16"] = pass_in("bf16", in_precision(unet, options, "bf16"), z, one_hot)
    return sides


def of_torch(torch: Torch, kind: str, channels_last: bool) -> Time:
    return Time(**torch.ask(do="pass", kind=kind, channels_last=channels_last))


def pass_in(kind: str, network: Module, z: Var, one_hot: Var) -> Callable[[], Time]:
    """A function -> Time of a pass of `network`, which is in this precision."""
    def run():
        with jt.flag_scope(use_tensorcore=int(kind == "tf32")):
            return timed(lambda: network(z, [TIMESTEP], one_hot))[1]
    return run


def row(o: Operator, count: int, repeats: int, torch: Optional[Torch], peak: Peak) -> dict[str, Any]:
    """Processor ms of each side; of ours GFLOP/s by the direct algorithm, GB/s of the least traffic."""
    calls = GPU_CALLS if jt.flags.use_cuda else 1
    sides = {"plain": of_jittor(plain(o), calls), "ours": of_jittor(ours(o), calls)}
    if torch:
        sides["torch"] = lambda: Time(**torch.ask(do="operator", operator=o._asdict(), calls=calls))
    times = in_turn(sides, repeats)
    mine = times.get("ours", times["plain"])
    return {"operator": str(o), "in a pass": count,
            **{f"{name} ms": times[name].cpu * 1e3 if name in times else None for name in sides},
            "GFLOP/s": 2 * o.multiplications / mine.cpu / 1e9 or None,
            "GB/s": o.bytes / mine.cpu / 1e9,
            "share of the peak": peak.share(o.multiplications, mine) or None}
