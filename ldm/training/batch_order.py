"""Which items a step sees, with which random numbers: functions of (seed, step) alone, so none is saved."""
import numpy as np

from ldm.errors import UserError

# Purposes of random numbers beside those that a task numbers itself, from 0 on.
SPLIT, VALIDATION, SAMPLES = 100, 101, 102


def batch_indices(step, batch_size, count, seed):
    """The items of a step: epoch after epoch, each in its own random order, with no item left out between."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(count)
              for epoch in set(positions // count)}
    return np.array([orders[p // count][p % count] for p in positions])


def generator(step, seed, purpose):
    """The random generator of one purpose (a small integer) in one step."""
    return np.random.default_rng([seed, step, purpose])


def split(count, held_out, seed):
    """(indices to train on, indices held out) of `count` items, each ascending, a function of `seed`.

    held_out: a number of items or, below 1, a part of them; 0 is none. A UserError if that is all of them, or
    a single one, of which no statistics can be had.
    """
    number = round(held_out * count) if held_out < 1 else int(held_out)
    if held_out > 0 and not 2 <= number < count:
        raise UserError("held_out", f"takes {number} of {count} images",
                        "0, or at least 2 and not all of them, is needed")
    order = generator(0, seed, SPLIT).permutation(count)
    return np.sort(order[number:]), np.sort(order[:number])
