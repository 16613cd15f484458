"""Training against a patch discriminator, as the VQ-GAN is (Esser, Rombach and Ommer 2021)."""
import numpy as np

from ldm.backend import jt, nn
from ldm.networks.discriminator import PatchDiscriminator
from ldm.training import parallel
from ldm.training import step as steps

BETAS = (0.5, 0.9)          # of its Adam, as in the VQ-GAN
DELTA, LARGEST = 1e-4, 1e4  # of the adaptive weight, as in the VQ-GAN's code; the paper has 1e-6, no bound


def hinge(real, made):
    """The discriminator's loss, from its logits for real and for made images."""
    return 0.5 * (nn.relu(1 - real).mean() + nn.relu(1 + made).mean())


def adaptive_weight(reconstruction, adversarial, last_layer):
    """Eq. 7: |grad reconstruction| / (|grad adversarial| + delta) at the generator's last layer, a constant
    by which the two losses pull on it equally."""
    wanted, pushed = (jt.grad(loss, last_layer, retain_graph=True).sqr().sum().sqrt()
                      for loss in (reconstruction, adversarial))
    # Synced, or what these gradients needed would live until the step ends.
    return (wanted / (pushed + DELTA)).minimum(LARGEST).detach().sync()


class Adversary:
    """The discriminator with its optimiser; `arrays` is all that a run needs to go on with it."""

    def __init__(self, options):
        self.network = PatchDiscriminator(options["discriminator_channels"])
        self.parameters = self.network.state_dict()
        self.optimizer = jt.optim.Adam(list(self.parameters.values()), options["learning_rate"], betas=BETAS)
        self.batch_size, self.updates, self.loss = options["batch_size"], 0, 0.0

    def against(self, made):
        """The generator's loss: made images are to look real."""
        return -self.network(made).mean()

    def update(self, parts):
        """One step of the discriminator on [(real, made)], the parts of this process' share of a batch."""
        weighted = [(part, len(part[0]) / self.batch_size) for part in parts]
        sums, terms = steps.accumulate(self.loss_of, weighted, list(self.parameters.values()))
        steps.apply(self.optimizer, parallel.total(sums), self.updates)
        self.updates += 1
        self.loss = parallel.total([terms["loss"]])[0].item()

    def loss_of(self, part):
        real, made = part
        return hinge(self.network(jt.array(real)), self.network(made)), {}

    def _variables(self):
        group = self.optimizer.param_groups[0]
        for i, (name, p) in enumerate(self.parameters.items()):
            yield name, p
            yield f"m/{name}", group["m"][i]
            yield f"v/{name}", group["values"][i]

    def arrays(self):
        return {**{name: v.numpy() for name, v in self._variables()},
                "updates": np.array([self.updates]), "loss": np.float32([self.loss])}

    def restore(self, arrays):
        for name, variable in self._variables():
            variable.assign(jt.array(arrays[name]))
        self.updates, self.loss = int(arrays["updates"][0]), float(arrays["loss"][0])
