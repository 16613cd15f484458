"""Eq. 7: one network from several checkpoints, theta* = (theta_a + theta_b) / 2."""
import math

import numpy as np

from ldm.errors import UserError
from ldm.weights import read_state, save
from ldm.weights.names import refuse_unless_same

HOW_TRAINED = ("training", "autoencoder_training")          # config sections in which checkpoints may differ


def average(states, weights=None, labels=None):
    """The weighted mean of `states` (name -> array each), name by name; Eq. 7 is two states and no weights.

    weights: one number >= 0 a state, relative to their sum; equal by default. labels: what errors call the
    states. Summed in float64, returned as float32. Other names or shapes than the first state's are a
    UserError; tensors of integers are kept, and must be equal.
    """
    labels = labels or [f"state {i + 1}" for i in range(len(states))]
    weights = [1.0] * len(states) if weights is None else list(weights)
    if len(weights) != len(states) or not states:
        raise UserError("weights", f"{len(weights)} for {len(states)} checkpoints", "one each is needed")
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not sum(weights):
        raise UserError("weights", f"are {weights}", "numbers >= 0 with a sum above 0 are needed")
    shapes = {name: array.shape for name, array in states[0].items()}
    for state, label in zip(states, labels):
        refuse_unless_same(state, shapes, label)
    return {name: _mean([state[name] for state in states], weights, name) for name in shapes}


def _mean(arrays, weights, name):
    if arrays[0].dtype.kind != "f":
        if any(not np.array_equal(arrays[0], other) for other in arrays[1:]):
            raise UserError(name, "is of integers that differ", "only floating numbers are averaged")
        return arrays[0]
    total = np.zeros(arrays[0].shape, np.float64)
    for array, weight in zip(arrays, weights):
        total += weight * array.astype(np.float64)
    return (total / sum(weights)).astype(np.float32)


def average_files(paths, target, weights=None, dtype=None, container=None):
    """Average the weights in `paths`, of any readable kind, into `target`, in our format; returns the mean.

    Configs kept with the weights must agree in all that is not about training; the first is kept on.
    """
    states, configs = zip(*(read_state(path, container) for path in paths))
    known = [(path, config) for path, config in zip(paths, configs) if config is not None]
    for path, config in known[1:]:
        if _network(config) != _network(known[0][1]):
            raise UserError(path, f"has another config than {known[0][0]}",
                            "checkpoints of one network are needed")
    state = average(states, weights, paths)
    save(target, state, known[0][1] if known else None, dtype)
    return state


def _network(config):
    return {key: value for key, value in config.items() if key not in HOW_TRAINED}
