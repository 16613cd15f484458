"""Which items a step sees, with which random numbers: functions of (seed, step) alone, so none is saved."""
import numpy as np


def batch_indices(step, batch_size, count, seed):
    """The items of a step: epoch after epoch, each in its own random order, with no item left out between."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(count)
              for epoch in set(positions // count)}
    return np.array([orders[p // count][p % count] for p in positions])


def generator(step, seed, purpose):
    """The random generator of one purpose (a small integer) in one step."""
    return np.random.default_rng([seed, step, purpose])
