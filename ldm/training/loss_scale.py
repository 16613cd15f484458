"""The scale of the loss in fp16. Without it the smallest gradients would be rounded to 0."""
from __future__ import annotations

from typing import Callable

import numpy as np

from ldm.backend import Var
from ldm.training.task import Batch

FIRST, LARGEST = 2.0 ** 16, 2.0 ** 24
PATIENCE = 1000             # the scale is doubled after so many steps without an overflow


Loss = Callable[[Batch], tuple[Var, dict[str, Var]]]


class Diverged(Exception):
    """A step with unusable numbers. The text says which; the trainer adds what to do."""


class LossScale:
    """A power of 2: the loss is multiplied by it, the gradients are divided by it. It is 1 unless `dynamic`.

    If gradients overflow the scale is halved and the step computed again: no step is skipped.
    """

    def __init__(self, dynamic: bool) -> None:
        self.dynamic, self.value, self.calm = dynamic, FIRST if dynamic else 1.0, 0

    def scaled(self, loss: Loss) -> Loss:
        """The function `loss` with its value, but not its terms, times the scale."""
        if self.value == 1:
            return loss

        def run(batch):
            value, terms = loss(batch)
            return value * self.value, terms
        return run

    def unscaled(self, variables: list[Var]) -> list[Var]:
        """Gradients of the scaled loss -> gradients of the loss."""
        return variables if self.value == 1 else [v * (1 / self.value) for v in variables]

    def overflow(self, step: int) -> None:
        """Halve the scale to compute `step` again. Raises Diverged if the scale is 1 already."""
        if self.value <= 1:
            raise Diverged(f"the gradients overflow in fp16 at step {step}, even without a scale (bf16 has a "
                           "larger range)")
        self.value, self.calm = self.value / 2, 0

    def calm_step(self) -> None:
        """Count a step with finite gradients."""
        self.calm += 1
        if self.dynamic and self.calm == PATIENCE:
            self.value, self.calm = min(2 * self.value, LARGEST), 0

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays for a state; none if the scale never changes."""
        return {"scale": np.array([self.value, self.calm], np.float32)} if self.dynamic else {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue with what `arrays` returned."""
        if self.dynamic and "scale" in arrays:
            self.value, self.calm = float(arrays["scale"][0]), int(arrays["scale"][1])
