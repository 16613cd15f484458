"""The operators of a network with their sizes, recorded while its graph is built; nothing is computed yet."""
from __future__ import annotations

from collections import Counter
from typing import Any, Callable, NamedTuple

from ldm.backend import Module, jt, nn
from ldm.networks.attention import AttentionBlock, Projection
from ldm.networks.blocks import GroupNorm
from ldm.networks.spade import SPADENorm


class Operator(NamedTuple):
    """conv: channels -> out_channels with a kernel; linear; norm: in `groups`, with whole maps (`modulated`)
    or a number a channel; attention: `channels` a head and `heads`, without its projections. Of one image."""

    kind: str
    channels: int
    out_channels: int
    height: int
    width: int
    kernel: int = 1
    heads: int = 1
    groups: int = 1
    modulated: bool = False

    @property
    def multiplications(self) -> int:
        """Multiply-adds of the direct algorithm."""
        positions = self.height * self.width
        if self.kind == "attention":
            return 2 * self.heads * positions ** 2 * self.channels
        if self.kind == "norm":
            return 0
        return self.channels * self.out_channels * self.kernel ** 2 * positions

    @property
    def bytes(self) -> int:
        """The least traffic to memory in fp32: each operand read once, the result written once."""
        positions = self.height * self.width
        numbers = {"conv": positions * (self.channels + self.out_channels)
                   + self.channels * self.out_channels * self.kernel ** 2,
                   "linear": self.channels * self.out_channels,
                   "norm": positions * self.channels * (4 if self.modulated else 2),
                   "attention": positions * self.channels * self.heads * 4}
        return 4 * numbers[self.kind]

    def __str__(self) -> str:
        size = f"{self.height} x {self.width}"
        return {"conv": f"{self.kernel} x {self.kernel} convolution {self.channels} -> {self.out_channels}, "
                        f"{size}",
                "linear": f"linear {self.channels} -> {self.out_channels}",
                "norm": f"{'SPADE' if self.modulated else 'group'} norm and SiLU, {self.channels}, {size}",
                "attention": f"attention, {self.heads} heads of {self.channels}, {size}"}[self.kind]


def _operator(module, x, out):
    """The Operator of a module with its input and output; None if the module consists of other modules."""
    if isinstance(module, (nn.Conv, Projection)):
        C_out, C_in, kernel = module.weight.shape[:3]
        return Operator("conv", C_in, C_out, *out.shape[2:], kernel=kernel)
    if isinstance(module, nn.Linear):
        return Operator("linear", module.in_features, module.out_features, 1, 1)
    if isinstance(module, (GroupNorm, SPADENorm)):
        return Operator("norm", x.shape[1], x.shape[1], *x.shape[2:], groups=module.groups,
                        modulated=isinstance(module, SPADENorm))
    if isinstance(module, AttentionBlock):
        channels = module.norm.weight.shape[0]
        return Operator("attention", channels // module._heads, channels, *x.shape[2:], heads=module._heads)
    return None


def operators(network: Module, run: Callable[[], Any]) -> dict[Operator, int]:
    """{Operator: how often it occurs} in `run()`, which uses `network` with batch 1. Its result is
    dropped."""
    found: Counter[Operator] = Counter()

    def note(module, inputs, out, keywords=None):
        if operator := _operator(module, inputs[0], out):
            found[operator] += 1

    modules = [m for m in network.modules()
               if isinstance(m, (nn.Conv, Projection, nn.Linear, GroupNorm, SPADENorm, AttentionBlock))]
    for module in modules:
        module.register_forward_hook(note)
    try:
        with jt.no_grad():
            run()
    finally:
        for module in modules:
            module.remove_forward_hook()
    return found


def multiplications(found: dict[Operator, int]) -> int:
    """The sum over all operators."""
    return sum(operator.multiplications * count for operator, count in found.items())
