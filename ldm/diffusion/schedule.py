"""Noise schedules in float64 numpy: betas, Eq. 1, 2 and 5, respacing.

The symbols are the paper's: beta_t, alpha_t = 1 - beta_t, abar_t = prod alpha. An index i counts the steps of
this schedule from 0. `timesteps[i]` is its timestep in the schedule of training, the network's input t.
"""
from __future__ import annotations

import warnings
from typing import Any, Callable, Optional, Sequence, Union

import numpy as np

from ldm.errors import UserError
from ldm.values import SCHEDULES

# The steps of a window are even in these functions of abar, which grow with t.
SPACINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "time": lambda abar: np.arange(len(abar)),
    "logsnr": lambda abar: 0.5 * np.log((1 - abar) / abar),
    "karras": lambda abar: ((1 - abar) / abar) ** (1 / 14),
}


class Schedule:
    """All coefficients of sampling and training, for each step of a chain, respaced or not.

    timesteps: those of the schedule of training that the steps belong to; 0, 1, 2 ... by default."""

    def __init__(self, betas: Any, timesteps: Optional[Any] = None) -> None:
        self.betas = np.asarray(betas, np.float64)
        self.timesteps = np.arange(len(betas)) if timesteps is None else np.asarray(timesteps)
        self.alphas = 1 - self.betas
        self.alpha_bar = np.cumprod(self.alphas)
        self.alpha_bar_prev = np.append(1.0, self.alpha_bar[:-1])
        # q(z_{t-1} | z_t, z_0). At the first step the variance is 0: its logarithm is the second step's.
        self.posterior_variance = self.betas * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)
        clipped = np.append(self.posterior_variance[1:2], self.posterior_variance[1:])
        self.posterior_log_variance = np.log(clipped if len(betas) > 1 else np.maximum(self.betas, 1e-20))

    def __len__(self) -> int:
        return len(self.betas)

    @classmethod
    def named(cls, name: str, steps: int = 1000) -> Schedule:
        """`linear`, `cosine` or `paper` by name; another name is a UserError."""
        if name not in SCHEDULES:
            raise UserError("schedule", f"is {name!r}", f"choose one of {', '.join(SCHEDULES)}")
        return getattr(cls, name)(steps)

    @classmethod
    def linear(cls, steps: int = 1000) -> Schedule:
        """beta from 1e-4 to 0.02. The entry was trained with it."""
        return cls(np.linspace(1e-4, 0.02, steps) * 1000 / steps)

    @classmethod
    def cosine(cls, steps: int = 1000) -> Schedule:
        """abar_t = cos^2((t/T + 0.008) / 1.008 pi/2) (Nichol and Dhariwal), beta at most 0.999."""
        abar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        return cls(np.minimum(1 - abar[1:] / abar[:-1], 0.999))

    @classmethod
    def paper(cls, steps: int = 1000) -> Schedule:
        """beta_t = 0.001 t, as the paper prints it. It warns, since nothing of the reference remains."""
        warnings.warn("the paper's printed schedule beta_t = 0.001 t leaves sqrt(abar_320) = 3e-13 of the "
                      "style reference, and abar_1000 = 0; the entry was trained with 'linear'", stacklevel=2)
        return cls(np.arange(1, steps + 1) / steps)

    def respace(self, spec: Union[str, Sequence[int]]) -> Schedule:
        """The chain of some of the steps, with the same abar at each.

        spec: "ddimN" (every k-th step, where the integer k gives N steps); section counts such as "250" or
        "10,15,20" (the chain is cut into equal sections, each with so many even steps); or a list of indices.
        """
        chosen = sorted(set(spec)) if not isinstance(spec, str) else spaced(len(self), spec)
        abar = self.alpha_bar[chosen]
        return Schedule(1 - abar / np.append(1.0, abar[:-1]), self.timesteps[chosen])

    def window(self, strength: float, steps: int, spacing: str = "time") -> Schedule:
        """The chain of `steps` steps from t = 1000 strength down to 0. Sampling starts at its last index.

        spacing: the quantity in which the steps are even. time: t. logsnr: lambda = log(alpha / sigma).
        karras: (sigma / alpha)^(1/7), the spacing of Karras et al. 2022 (Eq. 5). The last two are for solvers
        of higher order, whose error depends on the steps in lambda. If they ask for more steps at small t
        than exist, each t is taken once.
        """
        top = round(strength * len(self)) - 1
        if not (0 <= top < len(self) and 1 <= steps <= top + 1):
            raise UserError("rounds", f"strength {strength} with {steps} steps is out of range",
                            f"use a strength above 0 and up to 1, and 1 to {max(top + 1, 1)} steps")
        if spacing not in SPACINGS:
            raise UserError("spacing", f"is {spacing!r}", f"choose one of {', '.join(SPACINGS)}")
        even = SPACINGS[spacing](self.alpha_bar[:top + 1])
        wanted = np.interp(np.linspace(even[top], even[0], steps)[::-1], even, np.arange(top + 1))
        k = np.arange(steps)
        indices = np.maximum.accumulate(np.round(wanted).astype(int) - k) + k       # strictly increasing
        return self.respace(np.minimum(indices, top - k[::-1]).tolist())

    def add_noise(self, z0: Any, i: Any, eps: Any) -> Any:
        """Eq. 1, 2: z_i = sqrt(abar_i) z0 + sqrt(1 - abar_i) eps. i: an index, or an array with one for each
        image; so in all methods below."""
        return at(np.sqrt(self.alpha_bar), i) * z0 + at(np.sqrt(1 - self.alpha_bar), i) * eps

    def predict_z0(self, z: Any, eps: Any, i: Any) -> Any:
        """The clean latent z_0 of which z_i consists, with eps as its noise."""
        return (z - at(np.sqrt(1 - self.alpha_bar), i) * eps) / at(np.sqrt(self.alpha_bar), i)

    def posterior_mean(self, z0: Any, z: Any, i: Any) -> Any:
        """Mean of q(z_{i-1} | z_i, z_0)."""
        of_z0 = self.betas * np.sqrt(self.alpha_bar_prev) / (1 - self.alpha_bar)
        of_z = (1 - self.alpha_bar_prev) * np.sqrt(self.alphas) / (1 - self.alpha_bar)
        return at(of_z0, i) * z0 + at(of_z, i) * z

    def mean(self, z: Any, eps: Any, i: Any) -> Any:
        """The mean in Eq. 5: (z_i - beta_i / sqrt(1 - abar_i) eps) / sqrt(alpha_i). It equals
        `posterior_mean` at the predicted z0, but it does not divide by sqrt(abar_i), which is 3e-13 in the
        paper's schedule."""
        return (z - at(self.betas / np.sqrt(1 - self.alpha_bar), i) * eps) / at(np.sqrt(self.alphas), i)

    def log_variance(self, values: Any, i: Any) -> Any:
        """The log of the learned variance. `values` in -1..1 is its position between the log of the posterior
        variance and the log of beta."""
        low, high = at(self.posterior_log_variance, i), at(np.log(self.betas), i)
        return (values + 1) * ((high - low) / 2) + low


def at(coefficients: np.ndarray, i: Any) -> Any:
    """The coefficient at index i as a float, or those at N indices as float32 N x 1 x 1 x 1."""
    chosen = coefficients[i]
    return float(chosen) if np.ndim(chosen) == 0 else chosen.astype(np.float32).reshape(-1, 1, 1, 1)


def spaced(total: int, spec: str) -> list[int]:
    """The indices that a respacing text selects of `total` steps, sorted (the rules of guided-diffusion)."""
    numbers = spec[4:] if spec.startswith("ddim") else spec
    try:
        counts = [int(c) for c in numbers.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 0 or max(counts) < 1 or spec.startswith("ddim") and len(counts) > 1:
        raise UserError("respacing", f"is '{spec}'", "write ddimN, N or N,M,... with whole numbers")
    if spec.startswith("ddim"):
        for stride in range(1, total + 1):
            if len(range(0, total, stride)) == counts[0]:
                return list(range(0, total, stride))
        raise UserError("respacing", f"'{spec}' has no integer stride over {total} steps",
                        "choose another number, such as ddim500 or ddim50")
    indices, begin = [], 0
    for section, count in enumerate(counts):
        size = total // len(counts) + (section < total % len(counts))
        if count > size:
            raise UserError("respacing", f"'{spec}' asks for {count} steps in a section of {size}",
                            f"use 0 to {size}")
        gap = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0
        for _ in range(count):          # a sum, not a product: its rounding decides 2 of 45 indices
            indices.append(begin + round(position))
            position += gap
        begin += size
    return sorted(set(indices))
