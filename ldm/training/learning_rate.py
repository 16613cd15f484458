"""How the learning rate changes over the steps of a run."""
from __future__ import annotations

import numpy as np


def rate_factor(options: dict, step: int) -> float:
    """The rate of a step (from 0) as a share of `learning_rate`: linear warm-up, then as `decay` says.

    none: constant. cosine: down to zero along a cosine. linear: constant in the first half of the steps, then
    down to zero along a line, as GANs are trained.
    """
    steps, decay = options["steps"], 1.0
    if options["decay"] == "cosine":
        decay = 0.5 * (1 + np.cos(np.pi * step / steps))
    elif options["decay"] == "linear":
        decay = min(1.0, 2 * (1 - step / steps))
    return min(1.0, (step + 1) / max(1, options["warmup_steps"])) * decay
