"""One interface to all four models: label map and style in, picture out."""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from ldm.backend import Var, jt, nn
from ldm.baselines import models
from ldm.baselines.encoder import sampled

Noise = Callable[[str, tuple], np.ndarray]


class Style(NamedTuple):
    """A model's data of a photograph. mean, log_variance: of a VAE's style vector. codes: SEAN's."""

    mean: Optional[Var] = None
    log_variance: Optional[Var] = None
    codes: Optional[Var] = None


class Synthesis(nn.Module):
    """A generator and, with VAE, its encoder. Names in the state: these words, then a published name."""

    def __init__(self, generator: Any, encoder: Optional[Any] = None) -> None:
        self.generator = generator
        if encoder is not None:
            self.encoder = encoder
        self.with_encoder = encoder is not None

    @classmethod
    def of(cls, config: dict) -> Synthesis:
        """The networks of a config, with new weights."""
        return cls(models.generator(config), models.encoder(config))

    def parts(self) -> dict[str, Any]:
        """{"generator" and, with VAE, "encoder": network}, each with a file of weights of its own."""
        return {"generator": self.generator, **({"encoder": self.encoder} if self.with_encoder else {})}

    def style(self, pictures: Var, one_hot: Var) -> Style:
        """The style of photographs N x 3 x H x W in -1..1. one_hot: their label maps, for SEAN."""
        if self.with_encoder:
            mean, log_variance = self.encoder(pictures)
            return Style(mean, log_variance)
        if hasattr(self.generator, "Zencoder"):
            return Style(codes=self.generator.Zencoder(pictures, one_hot))
        return Style()

    def execute(self, one_hot: Var, style: Style, noise: Noise,
                distance: Optional[Var] = None) -> tuple[Var, Optional[Var]]:
        """(pictures, the picture of SCGAN's routing network or None).

        noise(name, shape): standard normal numbers, "eps" for a VAE's vector, a norm's name in SEAN.
        distance: the map of CLADE's ICPE.
        """
        def drawn(name, shape):
            return jt.array(noise(name, tuple(shape)))

        if style.codes is not None:
            return self.generator(one_hot, style.codes, drawn), None
        z = None
        if style.mean is not None:
            z = sampled(style.mean, style.log_variance, drawn("eps", style.mean.shape))
        made = self.generator(one_hot, z, *(() if distance is None else (distance,)))
        return made if isinstance(made, tuple) else (made, None)
