"""Training against a patch discriminator, as for the VQ-GAN (Esser, Rombach and Ommer 2021)."""
from __future__ import annotations

from typing import Sequence

import numpy as np

from ldm.backend import Var, jt, nn
from ldm.networks.discriminator import PatchDiscriminator
from ldm.training.tasks.opponent import Opponent

BETAS = (0.5, 0.9)          # of Adam, as in the VQ-GAN
DELTA, LARGEST = 1e-4, 1e4  # of the adaptive weight, as in the VQ-GAN's code; in the paper 1e-6 and no bound


def hinge(real: Var, generated: Var) -> Var:
    """The discriminator's loss. real, generated: its logits for real and for generated images."""
    return 0.5 * (nn.relu(1 - real).mean() + nn.relu(1 + generated).mean())


def adaptive_weight(reconstruction: Var, adversarial: Var, last_layer: Var) -> Var:
    """Eq. 7 of the VQ-GAN: |grad reconstruction| / (|grad adversarial| + delta), gradients at the weights of
    the generator's last layer. With this constant weight both losses have equal gradients there."""
    of_reconstruction, of_adversary = (jt.grad(loss, last_layer, retain_graph=True).sqr().sum().sqrt()
                      for loss in (reconstruction, adversarial))
    # Synced: otherwise the memory of these gradients would stay in use until the end of the step.
    return (of_reconstruction / (of_adversary + DELTA)).minimum(LARGEST).detach().sync()


class Adversary(Opponent):
    """The discriminator with its optimiser. options: the config's `autoencoder_training`."""

    def __init__(self, options: dict) -> None:
        network = PatchDiscriminator(options["discriminator_channels"])
        super().__init__(network, jt.optim.Adam, options["learning_rate"], BETAS)
        self.batch_size = options["batch_size"]

    def generator_loss(self, generated: Var) -> Var:
        """The loss of the generator: low if its images look real to the discriminator."""
        return -self.network(generated).mean()

    def update(self, parts: Sequence[tuple[np.ndarray, Var]]) -> None:
        """Take one step of the discriminator. parts: (real, generated) images, the micro-batches of this
        process' share of a batch."""
        self.take_step([(part, len(part[0]) / self.batch_size) for part in parts])

    def loss_of(self, batch: tuple[np.ndarray, Var]) -> tuple[Var, dict[str, Var]]:
        """(the discriminator's loss for one part, {})."""
        real, generated = batch
        return hinge(self.network(jt.array(real)), self.network(generated)), {}
