"""What the samplers take and give: a model that predicts noise, a source of noise, and steps."""
from __future__ import annotations

from typing import Any, Iterator, NamedTuple, Optional, Protocol

from ldm.diffusion.schedule import Schedule

Array = Any                 # a numpy array or a Jittor Var: arithmetic is all that a sampler asks of it


class Denoiser(Protocol):
    """A model of the noise, such as a U-Net with its label maps and guidance."""

    def __call__(self, z: Array, t: int) -> tuple[Array, Optional[Array]]:
        """z N x C x h x w at timestep t of the training schedule -> (the predicted noise; the learned
        variance's position in its range, -1..1, or None if the model learns none)."""


class Noise(Protocol):
    """A source of noise."""

    def __call__(self, i: int) -> Array:
        """Standard normal noise of z's shape for the step at index `i`."""


def no_noise(i: int) -> Array:
    """The source of noise for samplers that draw none."""
    raise ValueError(f"the sampler draws noise at index {i}, but it was given no source of it")


class Step(NamedTuple):
    """The result of one step. history: the arrays, beside z, that later steps use.

    A framework that delays computation, as Jittor does, must compute z and `history` now. Otherwise the
    operator of each step contains all steps before it: it grows, and it is compiled anew at each step.
    """
    i: int                  # the index of the step in the schedule: start - 1 ... 0
    z: Array                # the latent after the step; after the step at index 0 it is clean
    history: tuple[Array, ...] = ()


class Sampler(Protocol):
    """A generator of steps from z at index start - 1 of `schedule` down to the clean latent."""

    def __call__(self, model: Denoiser, schedule: Schedule, z: Array, start: int,
                 noise: Noise = no_noise, eta: float = 0.0) -> Iterator[Step]:
        """start: the number of steps. noise: needed by samplers that add noise, ignored by the others.
        eta: the share of noise that DDIM adds at each step, from 0 (none) to 1; ignored by the others."""
