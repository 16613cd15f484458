"""The items and the random numbers of a step. They depend on (seed, step) only, so a state need not keep
them."""
from __future__ import annotations

import numpy as np

from ldm.errors import UserError

# Purposes of random numbers. A task numbers its own purposes from 0 on.
SPLIT, VALIDATION, SAMPLES, ORDER = 100, 101, 102, 103


def batch_indices(step: int, batch_size: int, count: int, seed: int, seen: int = 0) -> np.ndarray:
    """The `batch_size` items of a step, of `count`. Each epoch has its own random order; a batch may span two
    epochs, so that no item is left out. seen: the number of items before step 0."""
    positions = seen + np.arange(step * batch_size, (step + 1) * batch_size)
    orders = {epoch: generator(int(epoch), seed, ORDER).permutation(count)
              for epoch in set(positions // count)}
    return np.array([orders[p // count][p % count] for p in positions])


def generator(step: int, seed: int, purpose: int) -> np.random.Generator:
    """The random generator for one purpose (a small integer) in one step, or in one epoch for ORDER.

    numpy reads missing numbers as 0: without a purpose the order of epoch 7 would have the bits of step 7's
    purpose 0."""
    return np.random.default_rng([seed, step, purpose])


def split(count: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(indices to train on, held-out indices) of `count` items, both ascending. Same seed, same split.

    held_out: the number of held-out items or, below 1, their share; 0 holds out nothing. A UserError if it
    leaves nothing to train on, or holds out a single item, which is too few for statistics.
    """
    number = round(held_out * count) if held_out < 1 else int(held_out)
    if held_out > 0 and not 2 <= number < count:
        raise UserError("held_out", f"takes {number} of {count} images",
                        f"give 0, or a number or share that takes 2 to {count - 1} of them")
    order = generator(0, seed, SPLIT).permutation(count)
    return np.sort(order[number:]), np.sort(order[:number])
