"""How the learning rate changes over the steps of a run."""
from __future__ import annotations

import numpy as np


def rate_factor(options: dict, step: int) -> float:
    """The rate of a step (from 0) as a share of `learning_rate`: linear warm-up, then as `decay` says.

    none: constant. cosine, linear: down to zero along a cosine or a line, over the last `decay_steps` or, if
    that is 0, over all steps.
    """
    steps, decay = options["steps"], 1.0
    last = min(options["decay_steps"] or steps, steps)
    share = max(step - (steps - last), 0) / last
    if options["decay"] == "cosine":
        decay = 0.5 * (1 + np.cos(np.pi * share))
    elif options["decay"] == "linear":
        decay = 1 - share
    return min(1.0, (step + 1) / max(1, options["warmup_steps"])) * decay
