"""Multistep solvers of the diffusion ODE for few steps: DPM-Solver++(2M) and UniPC. They need no Jittor.

The symbols are those of the papers: z_t = alpha_t z_0 + sigma_t eps, lambda = log(alpha / sigma), and h is
the difference of lambda over a step from s to t. In lambda the solution of the ODE is (Lu et al. 2022b,
Proposition 4.1)

    z_t = sigma_t / sigma_s z_s + alpha_t * integral of exp(lambda - lambda_t) z_0(lambda) dlambda,

where z_0(lambda) is the network's prediction of the clean latent along the way. A solver of order p replaces
it by a polynomial through p predictions. The solvers are samplers (see `protocols`) that draw no noise: they
ignore `noise` and `eta`. The step at index 0 ends at the clean latent, where lambda is infinite. There all of
them take a step of first order, whose result is the prediction itself. Latents are not clipped.
"""
from __future__ import annotations

from math import expm1, factorial
from typing import Iterator, Sequence

import numpy as np

from ldm.diffusion.protocols import Array, Denoiser, Noise, Step, no_noise
from ldm.diffusion.schedule import Schedule

Prediction = tuple[int, Array]      # the index of a step, and z_0 as predicted there


class Levels:
    """alpha, sigma and lambda of a schedule by index; index -1 is the clean latent (lambda is infinite)."""

    def __init__(self, schedule: Schedule) -> None:
        abar = np.append(schedule.alpha_bar, 1.0)               # index -1 finds the 1
        self.alpha, self.sigma = np.sqrt(abar), np.sqrt(1 - abar)
        with np.errstate(divide="ignore"):
            self.lam = np.log(self.alpha) - np.log(self.sigma)

    def first_order(self, z: Array, z0: Array, s: int, t: int) -> Array:
        """The step from index s to t with a constant z_0, as in DDIM:
        sigma_t / sigma_s z - alpha_t (e^-h - 1) z_0."""
        h = self.lam[t] - self.lam[s]
        return float(self.sigma[t] / self.sigma[s]) * z - float(self.alpha[t] * expm1(-h)) * z0

    def slopes(self, s: int, t: int, others: Sequence[int]) -> np.ndarray:
        """Weights w. The sum of w_m (z_0(lambda_m) - z_0(lambda_s)) over m in `others` is the correction of
        `first_order`.

        It is exact for polynomials of degree len(others): with r_m = (lambda_m - lambda_s) / h,
        sum_m w_m r_m^k = k! h phi_{k+1}(-h), k = 1 ... len(others). This is the system of UniPC (Zhao et al.
        2023, Eq. 10), solved for w_m = B(h) a_m / r_m. Its free function B(h) cancels out.
        """
        h = self.lam[t] - self.lam[s]
        r = (self.lam[list(others)] - self.lam[s]) / h
        k = np.arange(1, len(r) + 1)
        wanted = [factorial(n) * h * phi(n + 1, -h) for n in range(1, len(r) + 1)]
        return np.linalg.solve(r[None, :] ** k[:, None], wanted)


def phi(n: int, x: float) -> float:
    """phi_n of exponential integrators, n > 0: phi_0 = e^x, phi_{n+1}(x) = (phi_n(x) - 1/n!) / x."""
    value = expm1(x) / x
    for k in range(1, n):
        value = (value - 1 / factorial(k)) / x
    return value


def dpmpp_2m(model: Denoiser, schedule: Schedule, z: Array, start: int, noise: Noise = no_noise,
             eta: float = 0.0) -> Iterator[Step]:
    """DPM-Solver++(2M), Algorithm 2 of Lu et al. 2022b (arXiv 2211.01095): order 2, one prediction a step."""
    levels, before = Levels(schedule), None
    for i in reversed(range(start)):
        z0 = schedule.predict_z0(z, model(z, int(schedule.timesteps[i]))[0], i)
        target = z0
        if before is not None and i > 0:
            r = (levels.lam[i] - levels.lam[i + 1]) / (levels.lam[i - 1] - levels.lam[i])
            target = z0 + float(1 / (2 * r)) * (z0 - before)
        z, before = levels.first_order(z, target, i, i - 1), z0
        yield Step(i, z, (before,))


def unipc(model: Denoiser, schedule: Schedule, z: Array, start: int, noise: Noise = no_noise,
          eta: float = 0.0, order: int = 3) -> Iterator[Step]:
    """UniPC (Zhao et al. 2023, arXiv 2302.04867), Algorithms 1 and 2 in data prediction. One prediction per
    step: it first corrects the step that led to it (UniC), then the next step uses it (UniP).

    `order` is the order of the predictor. The first steps have lower orders, as there are fewer predictions.
    """
    levels, base = Levels(schedule), z
    known: list[Prediction] = []                                # the newest first
    for i in reversed(range(start)):
        z0 = schedule.predict_z0(z, model(z, int(schedule.timesteps[i]))[0], i)
        if known:                                               # UniC: the step to i again, with z_0 at i
            z = advance(levels, base, known[:order], i, [(i, z0)])
        known, base = [(i, z0), *known][:order], z
        z = advance(levels, base, known[:order if i > 0 else 1], i - 1, [])      # UniP
        yield Step(i, z, (base, z0))


def advance(levels: Levels, z: Array, known: Sequence[Prediction], t: int,
            ahead: Sequence[Prediction]) -> Array:
    """From z at the index of known[0] to index t. `known` are the predictions before it, `ahead` after it."""
    (s, z0), *others = known
    others = [*ahead, *others]
    z_t = levels.first_order(z, z0, s, t)
    if others:
        for w, (_, other) in zip(levels.slopes(s, t, [m for m, _ in others]), others):
            z_t = z_t + float(levels.alpha[t] * w) * (other - z0)
    return z_t
