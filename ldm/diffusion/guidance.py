"""Classifier-free guidance."""
from ldm.diffusion.protocols import Array


def guide(conditional: Array, unconditional: Array, scale: float) -> Array:
    """The guided noise eps_0 + s (eps_m - eps_0). For s <= 1 it is eps_m, without guidance: the entry's rule.

    The learned variance is never guided: it comes from the conditional pass."""
    return conditional if scale <= 1 else unconditional + scale * (conditional - unconditional)
