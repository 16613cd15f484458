"""Noise schedules in float64 numpy: betas, Eq. 1, 2 and 5, respacing.

Symbols are the paper's: beta_t, alpha_t = 1 - beta_t, abar_t = prod alpha. An index i counts the steps of
this schedule from 0; `timesteps[i]` is the timestep of the original schedule that the network is told.
"""
import warnings

import numpy as np

from ldm.errors import UserError
from ldm.values import SCHEDULES

# What a window's steps are even in: functions of abar that grow with t.
SPACINGS = {
    "time": lambda abar: np.arange(len(abar)),
    "logsnr": lambda abar: 0.5 * np.log((1 - abar) / abar),
    "karras": lambda abar: ((1 - abar) / abar) ** (1 / 14),
}


class Schedule:
    """Every coefficient that sampling and training need, for each step of a (perhaps respaced) chain."""

    def __init__(self, betas, timesteps=None):
        self.betas = np.asarray(betas, np.float64)
        self.timesteps = np.arange(len(betas)) if timesteps is None else np.asarray(timesteps)
        self.alphas = 1 - self.betas
        self.alpha_bar = np.cumprod(self.alphas)
        self.alpha_bar_prev = np.append(1.0, self.alpha_bar[:-1])
        # q(z_{t-1} | z_t, z_0). The variance is 0 at the first step: its logarithm takes the second's there.
        self.posterior_variance = self.betas * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)
        clipped = np.append(self.posterior_variance[1:2], self.posterior_variance[1:])
        self.posterior_log_variance = np.log(clipped if len(betas) > 1 else np.maximum(self.betas, 1e-20))

    def __len__(self):
        return len(self.betas)

    @classmethod
    def named(cls, name, steps=1000):
        """`linear`, `cosine` or `paper` by name."""
        if name not in SCHEDULES:
            raise UserError("schedule", f"is {name!r}", f"one of {', '.join(SCHEDULES)} is needed")
        return getattr(cls, name)(steps)

    @classmethod
    def linear(cls, steps=1000):
        """beta from 1e-4 to 0.02: what the entry was trained with."""
        return cls(np.linspace(1e-4, 0.02, steps) * 1000 / steps)

    @classmethod
    def cosine(cls, steps=1000):
        """abar_t = cos^2((t/T + 0.008) / 1.008 pi/2) (Nichol and Dhariwal), beta at most 0.999."""
        abar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        return cls(np.minimum(1 - abar[1:] / abar[:-1], 0.999))

    @classmethod
    def paper(cls, steps=1000):
        """beta_t = 0.001 t, as the paper prints it. Warns: it keeps nothing of the reference."""
        warnings.warn("the paper's printed schedule beta_t = 0.001 t leaves sqrt(abar_320) = 3e-13 of the "
                      "style reference, and abar_1000 = 0; the entry was trained with 'linear'", stacklevel=2)
        return cls(np.arange(1, steps + 1) / steps)

    def respace(self, spec):
        """The chain that visits some of the steps only, with the same abar at each.

        `spec`: "ddimN" (every k-th step, k the integer that gives N steps), section counts such as "250" or
        "10,15,20" (the chain in equal sections, so many steps evenly in each), or a list of indices.
        """
        kept = sorted(set(spec)) if not isinstance(spec, str) else spaced(len(self), spec)
        abar = self.alpha_bar[kept]
        return Schedule(1 - abar / np.append(1.0, abar[:-1]), self.timesteps[kept])

    def window(self, strength, steps, spacing="time"):
        """The chain of `steps` steps from t = 1000 strength down to 0: start at its last index.

        `spacing`, what is even: time; logsnr: lambda = log(alpha / sigma); karras: (sigma / alpha)^(1/7), the
        spacing of Karras et al. 2022 (eq. 5). The last two are for solvers of higher order, whose error hangs
        on the steps in lambda. Where they want more steps at small t than there are, each t is taken once.
        """
        top = round(strength * len(self)) - 1
        if not (0 <= top < len(self) and 1 <= steps <= top + 1):
            raise UserError("rounds", f"strength {strength} with {steps} steps",
                            f"strength in 0..1 and 1..{max(top + 1, 1)} steps are")
        if spacing not in SPACINGS:
            raise UserError("spacing", f"'{spacing}' is none", f"one of {', '.join(SPACINGS)} is")
        even = SPACINGS[spacing](self.alpha_bar[:top + 1])
        wanted = np.interp(np.linspace(even[top], even[0], steps)[::-1], even, np.arange(top + 1))
        k = np.arange(steps)
        indices = np.maximum.accumulate(np.round(wanted).astype(int) - k) + k       # strictly increasing
        return self.respace(np.minimum(indices, top - k[::-1]).tolist())

    def add_noise(self, z0, i, eps):
        """Eq. 1, 2: z_i = sqrt(abar_i) z0 + sqrt(1 - abar_i) eps. `i`: index; for numpy, one an image."""
        return at(np.sqrt(self.alpha_bar), i) * z0 + at(np.sqrt(1 - self.alpha_bar), i) * eps

    def predict_z0(self, z, eps, i):
        """The clean latent that z_i and eps belong to."""
        return (z - at(np.sqrt(1 - self.alpha_bar), i) * eps) / at(np.sqrt(self.alpha_bar), i)

    def posterior_mean(self, z0, z, i):
        """Mean of q(z_{i-1} | z_i, z_0)."""
        of_z0 = self.betas * np.sqrt(self.alpha_bar_prev) / (1 - self.alpha_bar)
        of_z = (1 - self.alpha_bar_prev) * np.sqrt(self.alphas) / (1 - self.alpha_bar)
        return at(of_z0, i) * z0 + at(of_z, i) * z

    def mean(self, z, eps, i):
        """Eq. 5, its mean: (z_i - beta_i / sqrt(1 - abar_i) eps) / sqrt(alpha_i). Equal to
        `posterior_mean` at the predicted z0, but it does not divide by sqrt(abar_i), which the paper's
        schedule makes 3e-13."""
        return (z - at(self.betas / np.sqrt(1 - self.alpha_bar), i) * eps) / at(np.sqrt(self.alphas), i)

    def log_variance(self, values, i):
        """The learned variance: `values` in -1..1 between the logs of the posterior variance and of beta."""
        low, high = at(self.posterior_log_variance, i), at(np.log(self.betas), i)
        return (values + 1) * ((high - low) / 2) + low


def at(coefficients, i):
    """One coefficient as a float, or N of them as float32 N x 1 x 1 x 1."""
    chosen = coefficients[i]
    return float(chosen) if np.ndim(chosen) == 0 else chosen.astype(np.float32).reshape(-1, 1, 1, 1)


def spaced(total, spec):
    """The indices that a respacing text keeps, sorted (guided-diffusion's rules)."""
    counts = spec[4:] if spec.startswith("ddim") else spec
    try:
        counts = [int(c) for c in counts.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 0 or max(counts) < 1 or spec.startswith("ddim") and len(counts) > 1:
        raise UserError("respacing", f"'{spec}' is none", "ddimN, N or N,M,... with whole numbers is")
    if spec.startswith("ddim"):
        for stride in range(1, total + 1):
            if len(range(0, total, stride)) == counts[0]:
                return list(range(0, total, stride))
        raise UserError("respacing", f"'{spec}' has no integer stride over {total} steps",
                        "ddim500 or ddim50 has")
    indices, begin = [], 0
    for section, count in enumerate(counts):
        size = total // len(counts) + (section < total % len(counts))
        if count > size:
            raise UserError("respacing", f"'{spec}' wants {count} steps of a section of {size}",
                            f"0..{size} are there")
        stride = (size - 1) / (count - 1) if count > 1 else 1
        position = 0.0
        for _ in range(count):          # summed, not multiplied: the sum's rounding decides two of 45 indices
            indices.append(begin + round(position))
            position += stride
        begin += size
    return sorted(set(indices))
