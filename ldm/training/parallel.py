"""The processes ("ranks") of one run under Open MPI. In a run of one process nothing here does anything.

Every rank makes the same random numbers for the whole batch of a step and computes its own share of it, so
that a run depends on their number only by rounding. Every rank must call what communicates in the same order.
"""
import signal

import numpy as np

from ldm.backend import jt
from ldm.errors import UserError


def stop_signal():
    """What asks a run to save and end: mpirun passes SIGTERM on too, but kills right after it."""
    return signal.SIGUSR1 if count() > 1 else signal.SIGTERM


def rank():
    """The number of this process; 0 writes files and shows progress."""
    return jt.rank


def count():
    """How many processes there are."""
    return jt.world_size


def share(items):
    """(first, end) of this rank's share of `items` items; shares differ by one at most and none is empty."""
    if items < count():
        raise UserError("batch_size", f"is {items} for {count()} processes",
                        "at least one item each is needed")
    return items * rank() // count(), items * (rank() + 1) // count()


def total(variables):
    """The sums of float32 Vars over all ranks, in order: one that waits for another would wait for ever."""
    if count() == 1:
        return variables
    sums = []
    for v in variables:
        sums.append(v.mpi_all_reduce("add"))
        sums[-1].sync()
    return sums


def any_rank(flag):
    """True if `flag` is, on any rank: what all must know, such as a signal to stop."""
    return bool(total([jt.array(np.float32([flag]))])[0].item())


def wait():
    """Return when every rank is here."""
    any_rank(False)


def broadcast(variables):
    """Give every rank rank 0's values, in place."""
    if count() > 1:
        for v in variables:
            v.assign(v.mpi_broadcast())
            v.sync()
