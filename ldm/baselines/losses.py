"""The losses of the four GANs (Park et al. 2019, Appendix A). Each returns a Var of one number."""
from __future__ import annotations

from typing import Sequence

from ldm.backend import Var, nn
from ldm.baselines.discriminators import Judgement


def _mean(values):
    values = list(values)
    return sum(values[1:], values[0]) / len(values)


def deceit(fake: Sequence[Judgement]) -> Var:
    """The generator's adversarial loss: minus the mean logit, averaged over the scales."""
    return _mean(-scale.prediction.mean() for scale in fake)


def hinge(judgements: Sequence[Judgement], sign: int) -> Var:
    """The discriminator's loss of real (sign -1) or generated (sign 1) pictures, averaged over the scales."""
    return _mean(nn.relu(1 + sign * scale.prediction).mean() for scale in judgements)


def feature_matching(fake: Sequence[Judgement], real: Sequence[Judgement], pyramid: bool) -> Var:
    """Mean |difference| of the features, summed over the layers and averaged over the scales. pyramid: of
    SCGAN's discriminator, averaged over its layers instead."""
    pairs = [(a, b.detach()) for one, other in zip(fake, real) for a, b in zip(one.features, other.features)]
    total = sum((a - b).abs().mean() for a, b in pairs)
    return total / (len(pairs) if pyramid else len(fake))


def divergence(mean: Var, log_variance: Var) -> Var:
    """KL divergence of style vectors from the standard normal distribution, summed over batch and vector."""
    return -0.5 * (1 + log_variance - mean * mean - log_variance.exp()).sum()


def perceptual(fake: Sequence[Var], real: Sequence[Var], weights: Sequence[float]) -> Var:
    """The weighted sum of the mean |difference| of a network's features at several depths."""
    return sum(w * (a - b.detach()).abs().mean() for w, a, b in zip(weights, fake, real))


def parts(judgements: Sequence[Judgement]) -> tuple[list[Judgement], list[Judgement]]:
    """The first and the second half of a batch: generated pictures, then real ones."""
    def cut(x, second):
        N = x.shape[0] // 2
        return x[N:] if second else x[:N]
    first, last = ([Judgement([cut(f, second) for f in scale.features], cut(scale.prediction, second))
                    for scale in judgements] for second in (False, True))
    return first, last
