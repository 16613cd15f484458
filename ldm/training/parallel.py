"""The processes ("ranks") of one run under Open MPI. With one process these functions do nothing.

Every rank generates the random numbers of a step's whole batch and computes its own share of it. So the U-Net
and the segmenter train the same with any number of ranks, except for rounding. An autoencoder with a
discriminator does not: each rank takes the adaptive weight of its own share, so that the result depends on
how the batch is divided, and rank 0's latents replace unused codes.

All ranks must call the functions that communicate in the same order.
"""
from __future__ import annotations

import signal

import numpy as np

from ldm.backend import Var, jt
from ldm.errors import UserError


def stop_signal() -> signal.Signals:
    """The signal that asks a run to save and end. Not SIGTERM under mpirun, which kills right after it."""
    return signal.SIGUSR1 if count() > 1 else signal.SIGTERM


def rank() -> int:
    """The number of this process. Rank 0 writes files and shows progress."""
    return jt.rank


def count() -> int:
    """The number of processes."""
    return jt.world_size


def share(items: int) -> tuple[int, int]:
    """(first, end) of this rank's share of `items` items. Shares differ by at most one item. UserError if one
    would be empty."""
    if items < count():
        raise UserError("batch_size", f"is {items} for {count()} processes",
                        "give each process at least one item: a larger batch_size or fewer processes")
    return items * rank() // count(), items * (rank() + 1) // count()


def total(variables: list[Var]) -> list[Var]:
    """The sums of float32 Vars over all ranks. They are computed in order: ranks with different orders would
    wait for each other for ever."""
    if count() == 1:
        return variables
    sums = []
    for v in variables:
        sums.append(v.mpi_all_reduce("add"))
        sums[-1].sync()
    return sums


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on any rank, such as "a signal asked to stop"."""
    return bool(total([jt.array(np.array([flag], np.float32))])[0].item())


def wait() -> None:
    """Return when all ranks have called it."""
    any_rank(False)


def broadcast(variables: list[Var]) -> None:
    """Set the Vars to rank 0's values on all ranks, in place."""
    if count() > 1:
        for v in variables:
            v.assign(v.mpi_broadcast())
            v.sync()
