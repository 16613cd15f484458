"""Samplers: generators of steps (see `protocols`). They know no network and take any kind of array.

    for step in SAMPLERS["ddim"](model, schedule, z, start, noise, eta):
        z = step.z
"""
from __future__ import annotations

from functools import partial
from typing import Iterator

import numpy as np

from ldm.diffusion.heun import heun
from ldm.diffusion.multistep import dpmpp_2m, unipc
from ldm.diffusion.protocols import Array, Denoiser, Noise, Sampler, Step, no_noise
from ldm.diffusion.schedule import Schedule


def _exp(x):
    return np.exp(x) if isinstance(x, (float, np.ndarray)) else x.exp()


def ddpm(model: Denoiser, schedule: Schedule, z: Array, start: int, noise: Noise = no_noise,
         eta: float = 0.0) -> Iterator[Step]:
    """Ancestral sampling: the inner loop of Algorithm 2 with Eq. 5. It uses the learned variance if there is
    one, and the posterior variance otherwise. `noise` is required, `eta` is ignored."""
    for i in reversed(range(start)):
        eps, values = model(z, int(schedule.timesteps[i]))
        z = schedule.mean(z, eps, i)
        if i > 0:
            log_variance = (schedule.posterior_log_variance[i] if values is None
                            else schedule.log_variance(values, i))
            z = z + _exp(0.5 * log_variance) * noise(i)
        yield Step(i, z)


def ddim(model: Denoiser, schedule: Schedule, z: Array, start: int, noise: Noise = no_noise,
         eta: float = 0.0) -> Iterator[Step]:
    """DDIM (Song et al. 2021, Eq. 12). With eta 0, the entry's value, it is deterministic and needs no
    `noise`."""
    for i in reversed(range(start)):
        eps, _ = model(z, int(schedule.timesteps[i]))
        z0 = schedule.predict_z0(z, eps, i)
        abar, abar_prev = schedule.alpha_bar[i], schedule.alpha_bar_prev[i]
        sigma = eta * np.sqrt((1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev))
        z = float(np.sqrt(abar_prev)) * z0 + float(np.sqrt(1 - abar_prev - sigma ** 2)) * eps
        if eta > 0 and i > 0:
            z = z + float(sigma) * noise(i)
        yield Step(i, z)


SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m,
                                "unipc_2": partial(unipc, order=2), "unipc_3": partial(unipc, order=3)}
