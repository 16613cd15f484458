"""The scale of the loss in fp16, whose smallest gradients would else be rounded to nothing."""
import numpy as np

FIRST, LARGEST = 2.0 ** 16, 2.0 ** 24
PATIENCE = 1000             # steps without an overflow after which the scale is doubled


class Diverged(Exception):
    """A step whose numbers are of no use. Its text says which; the trainer knows the way on."""


class LossScale:
    """A power of 2 that the loss is multiplied by, and its gradients are divided by; 1 unless `dynamic`.

    A step whose gradients overflow is computed again with half of it: no step is left out.
    """

    def __init__(self, dynamic):
        self.dynamic, self.value, self.calm = dynamic, FIRST if dynamic else 1.0, 0

    def scaled(self, loss):
        """`loss(batch) -> (Var, terms)`, times the scale."""
        if self.value == 1:
            return loss

        def run(batch):
            value, terms = loss(batch)
            return value * self.value, terms
        return run

    def unscaled(self, variables):
        return variables if self.value == 1 else [v * (1 / self.value) for v in variables]

    def overflow(self, step):
        """Take half the scale for another try of `step`; Diverged where none is small enough."""
        if self.value <= 1:
            raise Diverged(f"the gradients overflow at step {step}, however small the scale (with precision "
                           "bf16 they would not)")
        self.value, self.calm = self.value / 2, 0

    def calm_step(self):
        """A step's gradients were finite."""
        self.calm += 1
        if self.dynamic and self.calm == PATIENCE:
            self.value, self.calm = min(2 * self.value, LARGEST), 0

    def arrays(self):
        """What a state keeps: nothing where the scale never changes."""
        return {"scale": np.float32([self.value, self.calm])} if self.dynamic else {}

    def restore(self, arrays):
        if self.dynamic and "scale" in arrays:
            self.value, self.calm = float(arrays["scale"][0]), int(arrays["scale"][1])
