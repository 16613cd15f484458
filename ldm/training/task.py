"""What the trainer needs: a task to train, and a validation that measures it."""
from __future__ import annotations

from typing import Any, Protocol, Sequence

import numpy as np

from ldm.backend import Var

Batch = Any                 # an array, or a dict of arrays, with the items along the first axis


class Task(Protocol):
    """A network with its data and its loss. The trainer knows nothing else of what it trains."""

    network: Any                # the jt.nn.Module to train

    @property
    def sections(self) -> Sequence[str]:
        """The sections of the config that decide what a step does; the last one is that of the training."""

    def batch(self, step: int) -> Batch:
        """The numpy arrays of a step. They depend on the seed and `step` only, so a step can be repeated. A
        second process calls it ahead of time."""

    def loss(self, batch: Batch) -> tuple[Var, dict[str, Var]]:
        """(the mean loss over the items, {name: a number to log}). `batch` may be a part of a batch."""

    def after_step(self, step: int) -> None:
        """What the task does to the network after `step` optimiser steps; most tasks do nothing."""

    def sample(self) -> np.ndarray:
        """An H x W x 3 uint8 picture of what the network does; it has the averaged weights then."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The task's own arrays for the state of the run."""

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from what `arrays` returned."""


class Measure(Protocol):
    """A validation."""

    def measure(self, network: Any, thorough: bool) -> dict[str, Any]:
        """{name: number} of a network; the expensive numbers only if `thorough`."""
