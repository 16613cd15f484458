"""The sums of losses that a training step of the generator and of the discriminator minimises."""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Sequence

from ldm.backend import Var, jt
from ldm.baselines import losses
from ldm.baselines.discriminators import FeaturePyramid, Judgement
from ldm.baselines.synthesis import Style

Features = Callable[[Var], Sequence[Var]]


class Comparison(NamedTuple):
    """A perceptual loss. features: pictures -> maps at several depths. weights: one for each."""

    features: Features
    weights: Sequence[float]


class Made(NamedTuple):
    """The result of the generator for a batch, as Synthesis returns it, and the style that it used."""

    pictures: Var
    routing: Optional[Var]
    style: Style


def judge(discriminator: Any, one_hot: Var, made: Var, real: Var) -> tuple[list[Judgement], list[Judgement]]:
    """The judgements of generated and of real pictures, from one pass."""
    return losses.parts(discriminator(jt.concat([one_hot, one_hot]), jt.concat([made, real])))


def generator_terms(discriminator: Any, one_hot: Var, real: Var, made: Made, options: dict,
                    comparison: Optional[Comparison] = None, share: float = 1.0) -> dict[str, Var]:
    """{name: weighted loss} of the generator and encoder; their sum is minimised. options: `gan_training`.

    share: of the batch that these pictures are. The KL divergence is a sum over the batch, not a mean;
    divided by the share, its weighted mean over the parts of a batch is this sum.
    """
    fake, true = judge(discriminator, one_hot, made.pictures, real)
    pyramid = isinstance(discriminator, FeaturePyramid)
    terms = {"gan": losses.deceit(fake),
             "feature": options["feature_weight"] * losses.feature_matching(fake, true, pyramid)}
    if made.style.mean is not None:
        divergence = losses.divergence(made.style.mean, made.style.log_variance)
        terms["kld"] = options["kld_weight"] / share * divergence
    if made.routing is not None and options["routing_weight"]:
        terms["routing"] = options["routing_weight"] * (made.routing - real).abs().mean()
    if comparison is not None:
        with jt.no_grad():
            target = [f.detach() for f in comparison.features(real)]
        loss = losses.perceptual(comparison.features(made.pictures), target, comparison.weights)
        terms["perceptual"] = options["perceptual_weight"] * loss
    if options["l1_weight"]:
        terms["l1"] = options["l1_weight"] * (made.pictures - real).abs().mean()
    return terms


def discriminator_terms(discriminator: Any, one_hot: Var, real: Var, made: Var) -> dict[str, Var]:
    """{name: loss} of the discriminator; their sum is minimised."""
    fake, true = judge(discriminator, one_hot, made.detach(), real)
    return {"d_fake": losses.hinge(fake, 1), "d_real": losses.hinge(true, -1)}
