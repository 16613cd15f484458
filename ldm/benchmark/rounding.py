"""Where the error of bf16 comes from: a guided step of the plain network, in which the numbers of one kind of
operator at a time are rounded to bf16. Sums are in fp32 everywhere, as in ldm.networks.onednn."""
from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Callable, Iterator

import numpy as np

from ldm.backend import Module, Var, jt, nn
from ldm.benchmark.clock import machine
from ldm.benchmark.pipeline import GUIDANCE, EntrysWay, difference, in_precision, inputs, random_weights
from ldm.diffusion.guidance import guide
from ldm.networks import UNet
from ldm.networks.attention import AttentionBlock, Projection
from ldm.networks.blocks import GroupNorm, ResBlock
from ldm.networks.onednn import operators, packed
from ldm.networks.spade import SPADENorm, SPADEResBlock
from ldm.platform import runtime


def rounded(tree: Any) -> Any:
    """fp32 Vars, or nested tuples of them -> rounded to the nearest bf16, in fp32."""
    if not isinstance(tree, jt.Var):
        return tuple(map(rounded, tree))
    return (tree.cast("bfloat16") if jt.flags.use_cuda else packed.rounded(tree)).float32()


@contextlib.contextmanager
def replaced(layers: list[Any], name: str, around: Callable) -> Iterator[None]:
    """The method `name` of each layer, or the function of a module, becomes around(method)."""
    before = [getattr(layer, name) for layer in layers]
    for layer, method in zip(layers, before):
        setattr(layer, name, around(method))
    try:
        yield
    finally:
        for layer, method in zip(layers, before):
            setattr(layer, name, method)


def results(method: Callable) -> Callable:
    return lambda *args, **options: rounded(method(*args, **options))


def arguments(method: Callable) -> Callable:
    return lambda x: method(rounded(x))


@contextlib.contextmanager
def weights(layers: list[Module]) -> Iterator[None]:
    """The weights of convolutions are rounded."""
    before = [layer.weight.copy().sync() for layer in layers]
    for layer in layers:
        layer.weight.assign(rounded(layer.weight) if jt.flags.use_cuda else
                            packed.diffused(layer.weight).float32())
    try:
        yield
    finally:
        for layer, weight in zip(layers, before):
            layer.weight.assign(weight)


def kinds(unet: UNet) -> dict[str, Callable[[], contextlib.AbstractContextManager]]:
    """{what is rounded: function -> a context in which it is}."""
    modules = unet.modules()
    norms = [m for m in modules if isinstance(m, SPADENorm)]
    of_norms = {id(layer) for norm in norms for layer in norm.modules()}
    inner = [m for m in modules if isinstance(m, (nn.Conv, Projection)) and m is not unet.out[2]]
    blocks = [m for m in modules if isinstance(m, (ResBlock, SPADEResBlock, AttentionBlock))]
    attention = [m.proj_out for m in modules if isinstance(m, AttentionBlock)]
    return {
        "weights of convolutions": partial(weights, inner),
        "results of convolutions": partial(
            replaced, [m for m in inner if id(m) not in of_norms], "execute", results),
        "modulations of the label map": partial(replaced, norms, "modulation", results),
        "results of norms": partial(
            replaced, norms + [m for m in modules if isinstance(m, GroupNorm)], "execute", results),
        "results of attention": partial(replaced, attention, "execute", arguments),
        "sums of blocks": partial(replaced, blocks, "execute", results)}


def measure(config: dict, seed: int = 0) -> dict[str, Any]:
    """The report for a config's U-Net with random weights: a row for each kind, for all of them together, and
    for the network as it computes in bf16 on this machine, if it can."""
    jt.set_global_seed(seed)
    with jt.no_grad():
        z, one_hot, _ = inputs(config, seed)
        unet = random_weights(UNet(**config["unet"]))
        unet.eval()
        exact = of_way(unet, one_hot, z)
        found = kinds(unet)
        rows = [row(what, of_way(unet, one_hot, z, found[what]), exact) for what in found]
        rows.append(row("all of these", of_way(unet, one_hot, z, *found.values()), exact))
        for what, contexts in networks().items():
            half = in_precision(unet, config["unet"], "bf16")
            rows.append(row(what, of_way(half, one_hot, z, *contexts), exact))
    return {"machine": machine(),
            "tables": [{"title": "What bf16 rounds, and how far that moves a guided step, batch 1",
                        "rows": rows}]}


def networks() -> dict[str, list[Callable[[], contextlib.AbstractContextManager]]]:
    """{the network in bf16, in words: contexts to compute it in}: as this machine computes it, if it can,
    and where that is by Winograd's algorithm, whose tiles are rounded too, also without it."""
    if not (jt.flags.use_cuda or runtime.cpu_has_bf16()):
        return {}
    direct = partial(replaced, [packed], "by_winograd", lambda _: lambda data: False)
    by_winograd = not jt.flags.use_cuda and not operators.has_amx()
    return {**({"the network in bf16, without Winograd's algorithm": [direct]} if by_winograd else {}),
            "the network in bf16": []}


def of_way(unet: Module, one_hot: Var, z: Var, *contexts: Callable) -> tuple[Var, Var]:
    """(both passes, the guided step) with these roundings."""
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context())
        way = EntrysWay(unet, one_hot)
        way.keep()
        with_map, without = (out.sync() for out in way.passes(z))
        return jt.concat([with_map, without]).sync(), guide(with_map, without, GUIDANCE).sync()


def row(what: str, made: tuple[Var, Var], exact: tuple[Var, Var]) -> dict[str, Any]:
    apart = (made[0] - exact[0]).numpy()
    return {"rounded": what, "passes differ by": difference(made[0], exact[0]),
            "passes, rms": float(np.sqrt((apart ** 2).mean() / (exact[0].numpy() ** 2).mean())),
            "the step by": difference(made[1], exact[1])}
