"""Dropout whose masks are a function of an item's key: equal in every pass, process and micro-batch.

Jittor's own dropout draws from one global stream when the graph is executed. So two computations of a block
would get different masks, and a continued run would not continue the stream.
"""
from __future__ import annotations

import contextlib
from typing import Any, ContextManager, Iterator, Sequence

import numpy as np

from ldm.backend import Module, Var, jt, nn

WORD = 0x7fffffff           # hashes are integers of 31 bits


def mix(x: Any) -> Any:
    """A hash of each integer in 0..WORD, in int64; works on numpy arrays and Vars."""
    for _ in range(2):
        x = (x ^ (x >> 16)) * 0x45d9f3b & WORD
    return x ^ (x >> 16)


class Dropout(nn.Module):
    """Sets a share `p` of the activations to 0 and divides the others by 1 - p; does nothing without keys."""

    def __init__(self, p: float) -> None:
        self.p, self._keys = p, None

    def drops(self) -> bool:
        return self._keys is not None and self.p > 0

    def execute(self, x: Var) -> Var:
        if not self.drops():
            return x
        positions = jt.arange(x.numel() // x.shape[0]).int64()
        hashes = mix(mix(self._keys).reshape(-1, 1) + positions.reshape(1, -1) & WORD)
        kept = (hashes >= int(self.p * WORD)).cast(x.dtype).reshape(x.shape)
        return x * kept * (1 / (1 - self.p))


def layers(network: Module) -> list[Dropout]:
    """The Dropout layers of `network` with p above 0."""
    return [m for m in network.modules() if isinstance(m, Dropout) and m.p > 0]


@contextlib.contextmanager
def using(dropouts: Sequence[Dropout], keys: Sequence[Var]) -> Iterator[None]:
    """Within this context each of these layers uses its own item of `keys`: a Var, or None for no dropout."""
    before = [layer._keys for layer in dropouts]
    for layer, own in zip(dropouts, keys):
        layer._keys = own
    try:
        yield
    finally:
        for layer, own in zip(dropouts, before):
            layer._keys = own


def keyed(network: Module, keys: np.ndarray) -> ContextManager[None]:
    """A context in which dropout is on in `network`, with these keys: N integers in 0..WORD, one an item."""
    found = layers(network)
    keys = np.asarray(keys, np.int64)
    return using(found, [jt.array((mix(keys) + mix(np.int64(i + 1))) & WORD).int64()
                         for i in range(len(found))])
