"""Training losses, one value an image (Algorithm 1; Nichol and Dhariwal 2021 for the learned variance)."""
import numpy as np

from ldm.backend import jt
from ldm.diffusion.schedule import at
from ldm.errors import UserError
from ldm.values import LOSSES


def check_kind(kind):
    """Refuse a name of a loss that is none."""
    if kind not in LOSSES:
        raise UserError("training.loss", f"is {kind!r}", f"one of {', '.join(LOSSES)} is needed")


def mean_of_image(x):
    return x.mean(dims=(1, 2, 3))


def training_loss(out, z0, z_t, eps, t, schedule, kind):
    """Var `out` N x 3|6 x h x w; numpy z0, z_t, eps N x 3 x h x w, t N indices -> dict of Vars of N values.

    mse: |eps_hat - eps|^2 (Algorithm 1). mse+vb: the entry's loss, with the variational bound of the learned
    variance, in bits, whose gradient does not reach the mean. mse+vb_rescaled: the bound times steps/1000.
    """
    check_kind(kind)
    predicted = out[:, :3]
    terms = {"mse": mean_of_image((predicted - jt.array(eps)).sqr())}
    if kind == "mse":
        return {**terms, "loss": terms["mse"]}
    vb = variational_bound(predicted.detach(), out[:, 3:], z0, z_t, eps, t, schedule)
    terms["vb"] = vb if kind == "mse+vb" else vb * (len(schedule) / 1000)
    return {**terms, "loss": terms["mse"] + terms["vb"]}


def variational_bound(predicted, values, z0, z_t, eps, t, schedule):
    """One term of the bound an image, in bits a dimension: KL(q(z_{t-1} | z_t, z_0) || p), at t = 0 the
    negative log-likelihood of z_0 under p, discretised to 256 levels in -1..1.

    Both differences in the KL are taken before anything is rounded: log variances as `values` times their
    range, means as a multiple of eps - eps_hat (z_t is made of z_0 and eps). Subtracting the nearly equal
    results instead costs a part in 3e4 of the bound.
    """
    low, high = schedule.posterior_log_variance, np.log(schedule.betas)
    wider = (values + 1) * jt.array(at((high - low) / 2, t))                # log of p's variance over q's
    log_variance = wider + jt.array(at(low, t))
    apart = jt.array(at(schedule.betas / np.sqrt((1 - schedule.alpha_bar) * schedule.alphas), t)) \
        * (jt.array(eps) - predicted)
    kl = 0.5 * (wider + (-wider).exp() - 1 + apart.sqr() * (-log_variance).exp())
    mean = jt.array(schedule.posterior_mean(z0, z_t, t).astype(np.float32)) + apart
    nll = -discretized_log_likelihood(jt.array(z0), mean, 0.5 * log_variance)
    first = jt.array((t == 0).astype(np.float32))
    return (first * mean_of_image(nll) + (1 - first) * mean_of_image(kl)) / np.log(2.0)


def normal_cdf(x):
    """The standard normal distribution function, by the tanh approximation that the reference code uses.
    Clamped to where tanh is 1 in float32: the framework's gradient of tanh is NaN beyond 88."""
    return 0.5 * (1 + jt.tanh(jt.clamp(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x), -15, 15)))


def discretized_log_likelihood(x, mean, log_scale):
    """log P(x) for x on 256 levels in -1..1, the outermost two open to the outside."""
    precision = (-log_scale).exp()
    above = normal_cdf(precision * (x - mean + 1 / 255))
    below = normal_cdf(precision * (x - mean - 1 / 255))
    mass = jt.ternary(x < -0.999, above, jt.ternary(x > 0.999, 1 - below, above - below))
    return jt.log(jt.maximum(mass, 1e-12))
