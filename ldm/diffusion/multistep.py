"""Multistep solvers of the diffusion ODE, for few steps: DPM-Solver++(2M) and UniPC. No Jittor.

Symbols are the papers': z_t = alpha_t z_0 + sigma_t eps, lambda = log(alpha / sigma), and h the difference of
lambda over a step from s to t. In lambda the ODE's solution is (Lu et al. 2022b, Proposition 4.1)

    z_t = sigma_t / sigma_s z_s + alpha_t * integral of exp(lambda - lambda_t) z_0(lambda) dlambda,

with z_0(lambda) the network's prediction of the clean latent along the way; a solver of order p takes it for
a polynomial through p predictions. They are samplers as in ldm.diffusion.samplers, and draw no noise. The
step at index 0 ends at the clean latent, where lambda is infinite: it is of first order in all of them, which
is the prediction itself. Latents are not clipped.

`settle` is told, once a step, what later steps use again. A framework that puts computations off must do them
then: else each step is computed from all before it, by an operator that grows with them.
"""
from math import expm1, factorial

import numpy as np


class Steps:
    """alpha, sigma, lambda of a chain by index; index -1 is the clean latent (lambda infinite)."""

    def __init__(self, schedule):
        abar = np.append(schedule.alpha_bar, 1.0)               # so that index -1 finds it
        self.alpha, self.sigma = np.sqrt(abar), np.sqrt(1 - abar)
        with np.errstate(divide="ignore"):
            self.lam = np.log(self.alpha) - np.log(self.sigma)

    def first_order(self, z, z0, s, t):
        """From index s to t with z_0 constant, as in DDIM: sigma_t / sigma_s z - alpha_t (e^-h - 1) z_0."""
        h = self.lam[t] - self.lam[s]
        return float(self.sigma[t] / self.sigma[s]) * z - float(self.alpha[t] * expm1(-h)) * z0

    def slopes(self, s, t, others):
        """w such that sum_m w_m (z_0(lambda_m) - z_0(lambda_s)), m in `others`, is what `first_order` lacks.

        Exact for polynomials of degree len(others): with r_m = (lambda_m - lambda_s) / h,
        sum_m w_m r_m^k = k! h phi_{k+1}(-h), k = 1 ... len(others). This is UniPC's system (Zhao et al. 2023,
        eq. 10) solved for w_m = B(h) a_m / r_m, from which its free function B(h) cancels.
        """
        h = self.lam[t] - self.lam[s]
        r = (self.lam[list(others)] - self.lam[s]) / h
        k = np.arange(1, len(r) + 1)
        wanted = [factorial(n) * h * phi(n + 1, -h) for n in k]
        return np.linalg.solve(r[None, :] ** k[:, None], wanted)


def phi(n, x):
    """phi_n of exponential integrators: phi_0 = e^x, phi_{n+1}(x) = (phi_n(x) - 1/n!) / x."""
    value = expm1(x) / x
    for k in range(1, n):
        value = (value - 1 / factorial(k)) / x
    return value


def dpmpp_2m(model, schedule, z, start, noise=None, callback=None, settle=lambda values: None):
    """DPM-Solver++(2M), Algorithm 2 of Lu et al. 2022b (arXiv 2211.01095): order 2, one prediction a step."""
    steps, before = Steps(schedule), None
    for i in reversed(range(start)):
        z0 = schedule.predict_z0(z, model(z, int(schedule.timesteps[i]))[0], i)
        aim = z0
        if before is not None and i > 0:
            r = (steps.lam[i] - steps.lam[i + 1]) / (steps.lam[i - 1] - steps.lam[i])
            aim = z0 + float(1 / (2 * r)) * (z0 - before)
        z, before = steps.first_order(z, aim, i, i - 1), z0
        settle([z, before])
        if callback:
            callback(i, z)
    return z


def unipc(model, schedule, z, start, noise=None, callback=None, settle=lambda values: None, order=3):
    """UniPC (Zhao et al. 2023, arXiv 2302.04867), Algorithms 1 and 2 in data prediction: each prediction
    corrects the step that led to it (UniC), then serves the next step (UniP); one prediction a step.

    `order` is that of the predictor; both begin at lower orders, for want of predictions.
    """
    steps, known, base = Steps(schedule), [], z                 # known: (index, z_0), the newest first
    for i in reversed(range(start)):
        z0 = schedule.predict_z0(z, model(z, int(schedule.timesteps[i]))[0], i)
        if known:                                               # UniC: the step to i again, with z_0 at i
            z = advance(steps, base, known[:order], i, [(i, z0)])
        known, base = [(i, z0), *known][:order], z
        z = advance(steps, base, known[:order if i > 0 else 1], i - 1, [])       # UniP
        settle([z, base, z0])
        if callback:
            callback(i, z)
    return z


def advance(steps, z, known, t, ahead):
    """From z at the index of known[0] to index t, with predictions `known` before and `ahead` of it."""
    (s, z0), *others = known
    others = ahead + others
    z_t = steps.first_order(z, z0, s, t)
    if others:
        for w, (_, other) in zip(steps.slopes(s, t, [m for m, _ in others]), others):
            z_t = z_t + float(steps.alpha[t] * w) * (other - z0)
    return z_t
