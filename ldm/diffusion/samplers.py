"""Samplers: from z at an index of the schedule down to z_0. They know no network and run on any array type.

`model(z, t)` -> (eps, values): the predicted noise and the learned variance's position in its range
(None where the model has none), for the original timestep t. `noise(i)` -> standard normal noise of z's
shape for the step at index i. `callback(i, z)` sees the latent after each step. `start` is the number of
steps to do: indices start-1 ... 0.
"""
from functools import partial

import numpy as np

from ldm.diffusion.multistep import dpmpp_2m, unipc


def _exp(x):
    return np.exp(x) if isinstance(x, (float, np.ndarray)) else x.exp()


def ddpm(model, schedule, z, start, noise, callback=None):
    """Ancestral sampling, Algorithm 2's inner loop and Eq. 5; the learned variance where there is one."""
    for i in reversed(range(start)):
        eps, values = model(z, int(schedule.timesteps[i]))
        z = schedule.mean(z, eps, i)
        if i > 0:
            log_variance = (schedule.posterior_log_variance[i] if values is None
                            else schedule.log_variance(values, i))
            z = z + _exp(0.5 * log_variance) * noise(i)
        if callback:
            callback(i, z)
    return z


def ddim(model, schedule, z, start, noise=None, callback=None, eta=0.0):
    """DDIM (Song et al. 2021, eq. 12). eta 0, the entry's, is deterministic and asks for no noise."""
    for i in reversed(range(start)):
        eps, _ = model(z, int(schedule.timesteps[i]))
        z0 = schedule.predict_z0(z, eps, i)
        abar, abar_prev = schedule.alpha_bar[i], schedule.alpha_bar_prev[i]
        sigma = eta * np.sqrt((1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev))
        z = float(np.sqrt(abar_prev)) * z0 + float(np.sqrt(1 - abar_prev - sigma ** 2)) * eps
        if eta > 0 and i > 0:
            z = z + float(sigma) * noise(i)
        if callback:
            callback(i, z)
    return z


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpmpp_2m": dpmpp_2m,
            "unipc_2": partial(unipc, order=2), "unipc_3": partial(unipc, order=3)}
