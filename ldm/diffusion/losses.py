"""Training losses, one value for each image (Algorithm 1; the learned variance: Nichol and Dhariwal 2021)."""
from __future__ import annotations

from typing import Any

import numpy as np

from ldm.backend import jt, tanh
from ldm.diffusion.schedule import Schedule, at
from ldm.errors import UserError
from ldm.values import LOSSES

Var = Any


def check_kind(kind: str) -> None:
    """Raise a UserError if no loss has this name."""
    if kind not in LOSSES:
        raise UserError("training.loss", f"is {kind!r}", f"choose one of {', '.join(LOSSES)}")


def mean_per_image(x: Var) -> Var:
    """N x C x h x w -> N."""
    return x.mean(dims=(1, 2, 3))


def training_loss(out: Var, z0: np.ndarray, z_t: np.ndarray, eps: np.ndarray, t: np.ndarray,
                  schedule: Schedule, kind: str, weighting: str = "none") -> dict[str, Var]:
    """The loss of the network's output `out`, N x 3 x h x w, or N x 6 x h x w with a learned variance.

    z0, z_t and eps are N x 3 x h x w; t holds N indices of `schedule`. Returns "loss" and its parts, N values
    each. The kinds:
    mse             |eps_hat - eps|^2 (Algorithm 1)
    mse+vb          the entry's loss: with the variational bound of the learned variance, in bits; its
                    gradient does not reach the mean
    mse+vb_rescaled the same with the bound times steps/1000
    weighting: of the mse in "loss", see `mse_weights`.
    """
    check_kind(kind)
    predicted = out[:, :3]
    mse = mean_per_image((predicted - jt.array(eps)).sqr())
    terms = {"mse": mse}
    if weighting != "none":
        mse = mse * jt.array(mse_weights(schedule, t, weighting))
    if kind == "mse":
        return {**terms, "loss": mse}
    vb = variational_bound(predicted.detach(), out[:, 3:], z0, z_t, eps, t, schedule)
    terms["vb"] = vb if kind == "mse+vb" else vb * (len(schedule) / 1000)
    return {**terms, "loss": mse + terms["vb"]}


def mse_weights(schedule: Schedule, t: np.ndarray, weighting: str) -> np.ndarray:
    """The weight of the error of eps at each timestep, N float32.

    none     1
    debiased 1 / sqrt(SNR), but at least 1, SNR = alpha_bar / (1 - alpha_bar): 157 at the end of the linear
             schedule. An error of eps there is an error of z_0 that is so many times larger, in all of the
             picture's colour; without weights it is hardly a part of the loss (Yu et al. 2024, Unmasking
             Bias in Diffusion Model Training; the bound is ours, so that fine detail keeps its weight)
    """
    if weighting == "none":
        return np.ones(len(t), np.float32)
    noise = 1 - schedule.alpha_bar[t]
    return np.maximum(np.sqrt(noise / schedule.alpha_bar[t]), 1).astype(np.float32)


def variational_bound(predicted: Var, values: Var, z0: np.ndarray, z_t: np.ndarray, eps: np.ndarray,
                      t: np.ndarray, schedule: Schedule) -> Var:
    """One term of the bound for each image, in bits per dimension: KL(q(z_{t-1} | z_t, z_0) || p). At t = 0
    it is the negative log-likelihood of z_0 under p, discretised to 256 levels in -1..1.

    predicted: eps_hat. values: the learned variance's position in its range, -1..1. Both differences in the
    KL are computed before anything is rounded: that of the log variances as `values` times their range, that
    of the means as a multiple of eps - eps_hat (z_t consists of z_0 and eps). Subtracting the nearly equal
    results instead makes an error of 1/30,000 of the bound.
    """
    low, high = schedule.posterior_log_variance, np.log(schedule.betas)
    ratio = (values + 1) * jt.array(at((high - low) / 2, t))      # log of (variance of p / that of q)
    log_variance = ratio + jt.array(at(low, t))
    shift = jt.array(at(schedule.betas / np.sqrt((1 - schedule.alpha_bar) * schedule.alphas), t)) \
        * (jt.array(eps) - predicted)
    kl = 0.5 * (ratio + (-ratio).exp() - 1 + shift.sqr() * (-log_variance).exp())
    mean = jt.array(schedule.posterior_mean(z0, z_t, t).astype(np.float32)) + shift
    nll = -discretized_log_likelihood(jt.array(z0), mean, 0.5 * log_variance)
    first = jt.array((t == 0).astype(np.float32))
    return (first * mean_per_image(nll) + (1 - first) * mean_per_image(kl)) / np.log(2.0)


def normal_cdf(x: Var) -> Var:
    """The standard normal distribution function, in the tanh approximation of the reference code."""
    return 0.5 * (1 + tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def discretized_log_likelihood(x: Var, mean: Var, log_scale: Var) -> Var:
    """log P(x) for x on 256 levels in -1..1. The first and the last level have no outer bound."""
    precision = (-log_scale).exp()
    above = normal_cdf(precision * (x - mean + 1 / 255))
    below = normal_cdf(precision * (x - mean - 1 / 255))
    mass = jt.ternary(x < -0.999, above, jt.ternary(x > 0.999, 1 - below, above - below))
    return jt.log(jt.maximum(mass, 1e-12))
