"""Heun's method for the diffusion ODE: order 2 by a second prediction in each step. It needs no Jittor."""
from __future__ import annotations

from typing import Iterator

from ldm.diffusion.multistep import Levels
from ldm.diffusion.protocols import Array, Denoiser, Noise, Step, no_noise
from ldm.diffusion.schedule import Schedule


def heun(model: Denoiser, schedule: Schedule, z: Array, start: int, noise: Noise = no_noise,
         eta: float = 0.0) -> Iterator[Step]:
    """Algorithm 1 of Karras et al. 2022 (arXiv 2206.00364) without churn, order 2. It ignores `noise`, `eta`.

    In x = z / alpha and s = sigma / alpha the ODE is dx = eps ds. The step is repeated from its start with
    the mean of the predictions at its two ends: two predictions a step. The last step ends at the clean
    latent, where there is no prediction. So it is of first order, with one prediction.
    """
    levels = Levels(schedule)
    for i in reversed(range(start)):
        eps, _ = model(z, int(schedule.timesteps[i]))
        end = levels.first_order(z, schedule.predict_z0(z, eps, i), i, i - 1)
        if i > 0:
            ahead, _ = model(end, int(schedule.timesteps[i - 1]))
            end = levels.first_order(z, schedule.predict_z0(z, 0.5 * (eps + ahead), i), i, i - 1)
        z = end
        yield Step(i, z)
