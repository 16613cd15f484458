"""Exponential moving average of a network's parameters, on the device they live on."""
import contextlib

from ldm.backend import jt


class EMA:
    """average <- rate average + (1 - rate) parameter, once a step. `state` maps names to Vars; `label` is
    what its files are called by."""

    def __init__(self, network, rate, label="ema"):
        self.network, self.rate, self.label = network, rate, label
        self.state = {name: p.clone().stop_grad() for name, p in network.state_dict().items()}

    def update(self):
        for name, p in self.network.state_dict().items():
            average = self.state[name]
            average.update(average * self.rate + p.detach() * (1 - self.rate))

    @contextlib.contextmanager
    def applied(self):
        """The network with its averages for parameters; its own ones come back afterwards. Nothing is
        copied: the two change places."""
        self._swap()
        try:
            with jt.no_grad():
                yield self.network
        finally:
            self._swap()

    def _swap(self):
        for name, p in self.network.state_dict().items():
            p.swap(self.state[name])


def several(network, rates):
    """An EMA for each of `rates`; the first is the run's, the others have their rate in their label."""
    return [EMA(network, rate, f"ema-{rate:g}" if i else "ema") for i, rate in enumerate(rates)]
