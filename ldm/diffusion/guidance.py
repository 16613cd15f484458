"""Classifier-free guidance."""


def guide(conditional, unconditional, scale):
    """eps_0 + s (eps_m - eps_0); for s <= 1 there is no guidance and the conditional prediction stands (the
    entry's rule). The learned variance is never guided: it comes from the conditional pass."""
    return conditional if scale <= 1 else unconditional + scale * (conditional - unconditional)
