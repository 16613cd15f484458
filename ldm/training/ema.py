"""Exponential moving averages of a network's parameters, on the same device as the parameters."""
from __future__ import annotations

import contextlib
from typing import Any, Iterator, Sequence

from ldm.backend import Var, jt
from ldm.training import fused


class EMA:
    """average <- rate average + (1 - rate) parameter, once per step.

    state: {name of a parameter: its average}. label: the first part of the names of its files."""

    def __init__(self, network: Any, rate: float, label: str = "ema") -> None:
        self.network, self.rate, self.label = network, rate, label
        self.state: dict[str, Var] = {name: p.clone().stop_grad() for name, p in network.state_dict().items()}

    def update(self) -> None:
        """Take the parameters as they are after a step into the averages."""
        values = self.network.state_dict()
        fused.average([self.state[name] for name in values], list(values.values()), self.rate)

    @contextlib.contextmanager
    def applied(self) -> Iterator[Any]:
        """A context in which the network has the averages as its parameters. The two are swapped, not copied,
        and swapped back at the end."""
        self._swap()
        try:
            with jt.no_grad():
                yield self.network
        finally:
            self._swap()

    def _swap(self):
        for name, p in self.network.state_dict().items():
            p.swap(self.state[name])


def ema_averages(network: Any, rates: Sequence[float]) -> list[EMA]:
    """An EMA for each rate. The first is the run's own; the others have the rate in their label."""
    return [EMA(network, rate, f"ema-{rate:g}" if i else "ema") for i, rate in enumerate(rates)]
