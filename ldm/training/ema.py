"""Exponential moving average of a network's parameters, on the device they live on."""
import contextlib

from ldm.backend import jt


class EMA:
    """average <- rate average + (1 - rate) parameter, once a step. `state` maps names to Vars."""

    def __init__(self, network, rate):
        self.network, self.rate = network, rate
        self.state = {name: p.clone().stop_grad() for name, p in network.state_dict().items()}

    def update(self):
        for name, p in self.network.state_dict().items():
            average = self.state[name]
            average.update(average * self.rate + p.detach() * (1 - self.rate))

    @contextlib.contextmanager
    def applied(self):
        """The network with its averages for parameters; its own ones come back afterwards."""
        own = {name: p.numpy() for name, p in self.network.state_dict().items()}
        self.network.load_state_dict({name: a.numpy() for name, a in self.state.items()})
        try:
            with jt.no_grad():
                yield self.network
        finally:
            self.network.load_state_dict(own)
