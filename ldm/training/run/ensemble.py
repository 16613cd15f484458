"""Eq. 7: one network from several checkpoints, theta* = (theta_a + theta_b) / 2."""
from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any, Optional, Sequence, Union

import numpy as np

from ldm import files
from ldm.errors import UserError
from ldm.weights import save
from ldm.weights.agreement import differing, refuse_other_config
from ldm.weights.files import opened
from ldm.weights.names import fit, refuse_unless_same, wrappers

HOW_TRAINED = ("training", "autoencoder_training")          # config sections in which checkpoints may differ


class Mean:
    """The weighted mean of one tensor over several checkpoints. It is computed when it is read."""
    __slots__ = ("shape", "dtype", "_name", "_tensors", "_weights")

    def __init__(self, name: str, tensors: Sequence[Any], weights: Sequence[float]) -> None:
        self._name, self._tensors, self._weights = name, tensors, weights
        self.shape, self.dtype = tuple(tensors[0].shape), tensors[0].dtype
        if self.dtype.kind == "f":
            self.dtype = np.dtype(np.float32)

    def read(self) -> np.ndarray:
        """The mean, summed in float64, as float32. UserError if integers differ between the checkpoints."""
        if self.dtype.kind != "f":
            first, *others = map(_numbers, self._tensors)
            if any(not np.array_equal(first, other) for other in others):
                raise UserError(self._name, "holds integers that differ between the checkpoints",
                                "average checkpoints of one network")
            return first
        total = np.zeros(self.shape, np.float64)
        for tensor, weight in zip(self._tensors, self._weights):
            total += weight * _numbers(tensor).astype(np.float64)
        return (total / sum(self._weights)).astype(np.float32)


def _numbers(tensor):
    return tensor if isinstance(tensor, np.ndarray) else tensor.read()


def means(states: list[dict[str, Any]], weights: Optional[Sequence[float]] = None,
          labels: Optional[Sequence[Any]] = None) -> dict[str, Mean]:
    """{name: Mean} of `states`, dicts of arrays or of lazily read tensors with the same names and shapes.
    weights, labels: see `average`."""
    labels = labels or [f"state {i + 1}" for i in range(len(states))]
    weights = [1.0] * len(states) if weights is None else list(weights)
    if len(weights) != len(states) or not states:
        raise UserError("weights", f"{len(weights)} for {len(states)} checkpoints", "give one for each")
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not sum(weights):
        raise UserError("weights", f"are {weights}", "give numbers >= 0 with a sum above 0")
    shapes = {name: tuple(tensor.shape) for name, tensor in states[0].items()}
    for state, label in zip(states, labels):
        refuse_unless_same(state, shapes, label)
    return {name: Mean(name, [state[name] for state in states], weights) for name in shapes}


def average(states: list[dict[str, Any]], weights: Optional[Sequence[float]] = None,
            labels: Optional[Sequence[Any]] = None) -> dict[str, np.ndarray]:
    """The weighted mean of `states`, dicts of arrays. Eq. 7 is the mean of two states without weights.

    weights: a number >= 0 for each state, relative to their sum; equal by default. labels: names of the
    states for errors. UserError if a state has other names or shapes than the first one.
    """
    return {name: mean.read() for name, mean in means(states, weights, labels).items()}


def average_files(paths: Sequence[Union[str, Path]], target: Union[str, Path],
                  weights: Optional[Sequence[float]] = None, dtype: Optional[str] = None,
                  container: Optional[str] = None, config: Optional[dict] = None,
                  shapes: Optional[dict] = None, part: str = "unet") -> dict[str, Mean]:
    """Average the weights in the files `paths`, of any readable kind, into `target`, one tensor at a time.

    config, shapes: of the network; all files must have the names and shapes of its `part`, and the config is
    saved with the average. Without them, the configs saved with the weights must agree in everything except
    the training, and the first of them is saved. Prefixes of wrapping modules are removed from names.
    Returns {name: Mean}, with the shape and dtype of what was written.
    """
    files.refuse_sources(target, paths)
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(opened(path, container)) for path in paths]
        states, saved_configs = [list(column) for column in zip(*found)]
        states = _fitted(states, shapes, paths) if shapes else [_bare(state) for state in states]
        if config is None:
            config = _common(paths, saved_configs)
        else:
            for path, other in zip(paths, saved_configs):
                refuse_other_config(path, other, config, part)
        mean = means(states, weights, paths)
        save(target, mean, config, dtype)
    return mean


def _fitted(states, shapes, paths):
    """The states under the network's names. All faults of the files are one UserError."""
    fitted, errors = [], []
    for state, path in zip(states, paths):
        try:
            fitted.append(fit(state, shapes, path)[0])
        except UserError as e:
            errors.append(e)
    if errors:
        errors[0].details = tuple(map(str, errors[1:]))
        raise errors[0]
    return fitted


def _bare(state):
    """The state without a prefix that all its names share, such as that of a wrapping module."""
    prefix = wrappers(state)[-1]
    return {name[len(prefix):]: tensor for name, tensor in state.items()}


def _common(paths, saved_configs):
    """The first config among `saved_configs`, with which the others must agree."""
    known = [(path, config) for path, config in zip(paths, saved_configs) if config is not None]
    for path, config in known[1:]:
        if keys := differing(_network(config), _network(known[0][1])):
            raise UserError(path, f"has another config than {known[0][0]} ({', '.join(keys)})",
                            "average checkpoints of one network")
    return known[0][1] if known else None


def _network(config):
    return {key: value for key, value in config.items() if key not in HOW_TRAINED}
