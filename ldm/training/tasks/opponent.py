"""A second network that is trained against the task's own, with an optimiser of its own."""
from __future__ import annotations

import abc
from typing import Any, Iterator, Sequence

import numpy as np

from ldm.backend import Var, jt
from ldm.training import parallel
from ldm.training.step import accumulate, apply


class Opponent(abc.ABC):
    """`network` with `optimizer`, a class of jt.optim. A subclass defines `loss_of`.

    loss: that of the last step. terms: its parts, {name: number}.
    """

    def __init__(self, network: Any, optimizer: Any, learning_rate: float, betas: Sequence[float]) -> None:
        self.network = network
        whole = network.state_dict()
        self.parameters = {name: p for name, p in whole.items() if not p.is_stop_grad()}
        self.buffers = {name: p for name, p in whole.items() if p.is_stop_grad()}
        parallel.broadcast(list(whole.values()))
        self.optimizer = optimizer(list(self.parameters.values()), learning_rate, betas=tuple(betas))
        self.updates, self.loss = 0, 0.0
        self.terms: dict[str, float] = {}

    @abc.abstractmethod
    def loss_of(self, batch: Any) -> tuple[Var, dict[str, Var]]:
        """(the loss of a part of a batch, its terms)."""

    def take_step(self, weighted: Sequence[tuple[Any, float]]) -> None:
        """Take one step. weighted: pairs (a part of a batch, its share of the batch), this process' parts."""
        sums, terms = accumulate(self.loss_of, weighted, list(self.parameters.values()))
        apply(self.optimizer, parallel.total(sums), self.updates)
        self.updates += 1
        self.terms = {name: parallel.total([value])[0].item() for name, value in terms.items()}
        self.loss = self.terms.pop("loss")

    def _variables(self) -> Iterator[tuple[str, Var]]:
        group = self.optimizer.param_groups[0]
        for i, (name, p) in enumerate(self.parameters.items()):
            yield name, p
            yield f"m/{name}", group["m"][i]
            yield f"v/{name}", group["values"][i]
        yield from self.buffers.items()

    def arrays(self) -> dict[str, np.ndarray]:
        """All that a run needs to continue with it."""
        return {**{name: v.numpy() for name, v in self._variables()},
                **{f"term/{name}": np.array([value]) for name, value in self.terms.items()},
                "updates": np.array([self.updates]), "loss": np.array([self.loss], np.float32)}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Continue from what `arrays` returned."""
        for name, variable in self._variables():
            variable.assign(jt.array(arrays[name]))
        self.updates, self.loss = int(arrays["updates"][0]), float(arrays["loss"][0])
        self.terms = {name[len("term/"):]: float(array[0]) for name, array in arrays.items()
                      if name.startswith("term/")}
