"""Training against a patch discriminator, as for the VQ-GAN (Esser, Rombach and Ommer 2021)."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from ldm.backend import Var, jt, nn
from ldm.networks.discriminator import PatchDiscriminator
from ldm.training import parallel
from ldm.training.step import accumulate, apply

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


class Adversary:
    """The discriminator with its optimiser. options: the config's `autoencoder_training`."""

    def __init__(self, options: dict) -> None:
        self.network = PatchDiscriminator(options["discriminator_channels"])
        self.parameters = self.network.state_dict()
        self.optimizer = jt.optim.Adam(list(self.parameters.values()), options["learning_rate"], betas=BETAS)
        self.batch_size, self.updates, self.loss = options["batch_size"], 0, 0.0

    def generator_loss(self, generated: Var) -> Var:
        """The loss of the generator: low if its images look real to the discriminator."""
        return -self.network(generated).mean()

    def update(self, parts: Sequence[tuple[np.ndarray, Var]]) -> None:
        """Take one step of the discriminator. parts: (real, generated) images, the micro-batches of this
        process' share of a batch."""
        weighted = [(part, len(part[0]) / self.batch_size) for part in parts]
        sums, terms = accumulate(self.loss_of, weighted, list(self.parameters.values()))
        apply(self.optimizer, parallel.total(sums), self.updates)
        self.updates += 1
        self.loss = parallel.total([terms["loss"]])[0].item()

    def loss_of(self, part: tuple[np.ndarray, Var]) -> tuple[Var, dict[str, Var]]:
        """(the discriminator's loss for one part, {})."""
        real, generated = part
        return hinge(self.network(jt.array(real)), self.network(generated)), {}

    def _variables(self):
        group = self.optimizer.param_groups[0]
        for i, (name, p) in enumerate(self.parameters.items()):
            yield name, p
            yield f"m/{name}", group["m"][i]
            yield f"v/{name}", group["values"][i]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that a run needs to continue with it."""
        return {**{name: v.numpy() for name, v in self._variables()},
                "updates": np.array([self.updates]), "loss": np.array([self.loss], np.float32)}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Continue from what `arrays` returned."""
        for name, variable in self._variables():
            variable.assign(jt.array(arrays[name]))
        self.updates, self.loss = int(arrays["updates"][0]), float(arrays["loss"][0])
