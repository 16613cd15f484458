"""Training of GauGAN, CLADE, SCGAN and SEAN: each picture is rebuilt from its label map and its own style."""
from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np

from ldm import images, labels
from ldm.backend import Var, jt
from ldm.baselines import inputs
from ldm.baselines.layers import evaluating
from ldm.baselines.noise import ItemNoise
from ldm.baselines.objective import Comparison, Made, discriminator_terms, generator_terms
from ldm.baselines.synthesis import Synthesis
from ldm.images import from_network, to_network
from ldm.training import parallel
from ldm.training.batch_order import SAMPLES, batch_indices, generator, split
from ldm.training.learning_rate import rate_factor
from ldm.training.tasks.opponent import Opponent

SHOWN = 6                       # pictures in the sample grid
GENERATOR, DISCRIMINATOR = 0, 1     # passes of a step, each with its own noise
LARGEST = 2 ** 31


class Part:
    """The pictures of (a part of) a batch as Vars, and how a network sees them."""

    def __init__(self, batch: dict[str, np.ndarray], config: dict) -> None:
        self.keys = batch["keys"]
        self.one_hot = jt.array(labels.one_hot(batch["labels"]))
        self.real = jt.array(np.stack([to_network(picture) for picture in batch["pictures"]]))
        self.distance = _distance(batch["labels"], config)

    def made(self, network: Synthesis, number: int) -> Made:
        """What the network makes of maps and the pictures' own style, with the noise of pass `number`."""
        style = network.style(self.real, self.one_hot)
        noise = ItemNoise([(key, number) for key in self.keys])
        pictures, routing = network(self.one_hot, style, noise, self.distance)
        return Made(pictures, routing, style)


def _distance(maps: np.ndarray, config: dict) -> Optional[Var]:
    """The distance maps of CLADE's ICPE; None for a model without them."""
    own = config["gan"]["clade"]
    if config["kind"] != "clade" or not own["distance"]:
        return None
    return jt.array(inputs.distances(maps, own["skip_label"]))


class Discriminator(Opponent):
    """The discriminator. It judges pictures that the generator makes anew, with the weights of this step."""

    def __init__(self, network: Any, generator: Synthesis, config: dict) -> None:
        options = config["gan_training"]
        super().__init__(network, jt.optim.AdamW, options["discriminator_learning_rate"], options["betas"])
        self.generator, self.config = generator, config

    def loss_of(self, batch: dict[str, np.ndarray]) -> tuple[Var, dict[str, Var]]:
        """(the sum of the hinge losses, the two)."""
        part = Part(batch, self.config)
        with jt.no_grad():
            made = part.made(self.generator, DISCRIMINATOR).pictures.detach()
        terms = discriminator_terms(self.network, part.one_hot, part.real, made)
        return terms["d_fake"] + terms["d_real"], terms


class GANTask:
    """Trains `network` against `discriminator`.

    pictures: N pictures H x W x 3 uint8. maps: their label maps H x W uint8. Both have the config's size. A
    part `held_out` of them is not trained on. comparison: the perceptual loss, if there is one.
    """

    sections = ("kind", "image_size", "gan", "gan_training")

    def __init__(self, network: Synthesis, discriminator: Any, pictures: Sequence[np.ndarray],
                 maps: Sequence[np.ndarray], config: dict, comparison: Optional[Comparison] = None) -> None:
        jt.sync_all()               # draws the new weights now, in a fixed order
        self.network, self.pictures, self.maps, self.config = network, pictures, maps, config
        self.options, self.comparison = config["gan_training"], comparison
        self.items, self.held_out = split(len(maps), self.options["held_out"], self.options["seed"])
        self.discriminator = Discriminator(discriminator, network, config)
        self.statistics = [p for p in network.state_dict().values() if p.is_stop_grad()]
        self.seen: list[dict[str, np.ndarray]] = []         # the parts of a step's batch

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Pictures and label maps, mirrored with probability 1/2, and a key for the noise of each."""
        options, seed = self.options, self.options["seed"]
        rng = generator(step, seed, 0)
        chosen = self.items[batch_indices(step, options["batch_size"], len(self.items), seed)]
        both: tuple[list, list] = ([], [])
        for i in chosen:
            turn = -1 if rng.random() < 0.5 else 1
            for found, source in zip(both, (self.pictures, self.maps)):
                found.append(source[i][:, ::turn])
        return {"pictures": np.stack(both[0]), "labels": np.stack(both[1]),
                "keys": rng.integers(LARGEST, size=len(chosen))}

    def loss(self, batch: dict[str, np.ndarray]) -> tuple[Var, dict[str, Var]]:
        """The sum of the generator's losses, its terms, and the discriminator's losses of the last step."""
        self.seen.append(batch)
        part = Part(batch, self.config)
        share = len(part.keys) / self.options["batch_size"]
        terms = generator_terms(self.discriminator.network, part.one_hot, part.real,
                                part.made(self.network, GENERATOR), self.options, self.comparison, share)
        last = {name: jt.array(np.array([value], np.float32))
                for name, value in self.discriminator.terms.items()}
        return sum(terms.values()), {**terms, **last}

    def after_step(self, step: int) -> None:
        """The discriminator's step, on the same batch. With several processes the running statistics become
        their means."""
        opponent = self.discriminator
        opponent.optimizer.lr = (self.options["discriminator_learning_rate"]
                                 * rate_factor(self.options, step - 1))
        opponent.take_step([(batch, len(batch["keys"]) / self.options["batch_size"]) for batch in self.seen])
        self.seen = []
        if parallel.count() > 1:
            for p in [*self.statistics, *opponent.buffers.values()]:
                p.assign(parallel.total([p.detach()])[0] / parallel.count())

    def sample(self) -> np.ndarray:
        """A row of label maps, one of style references (each the next map's picture), one of results."""
        shown = (self.held_out if len(self.held_out) else self.items)[:SHOWN]
        pictures, maps, references = Previews(self, shown)(self.network)
        return images.grid([[labels.colorize(m) for m in maps], list(references), list(pictures)])

    def arrays(self) -> dict[str, np.ndarray]:
        """The discriminator."""
        return {f"discriminator/{name}": array for name, array in self.discriminator.arrays().items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from what `arrays` returned."""
        prefix = "discriminator/"
        self.discriminator.restore({name[len(prefix):]: array for name, array in arrays.items()
                                    if name.startswith(prefix)})


class Previews:
    """Pictures of the items `indices`, each in the style of the next item's picture, always with the same
    noise."""

    def __init__(self, task: GANTask, indices: np.ndarray) -> None:
        self.task, self.indices = task, [int(i) for i in indices]

    def __call__(self, network: Synthesis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(pictures N x H x W x 3 uint8, maps N x H x W uint8, references N x H x W x 3 uint8)."""
        found = [self._make(network, i, following)
                 for i, following in zip(self.indices, self.indices[1:] + self.indices[:1])]
        pictures, maps, references = zip(*found)
        return np.stack(pictures), np.stack(maps), np.stack(references)

    def _make(self, network, i, following):
        task = self.task
        own, reference, its_map = task.maps[i], task.pictures[following], task.maps[following]
        noise = ItemNoise([(task.options["seed"], SAMPLES, i)])
        one_hot, its_one_hot = (jt.array(labels.one_hot(m[None])) for m in (own, its_map))
        with jt.no_grad(), evaluating(network):
            style = network.style(jt.array(to_network(reference)[None]), its_one_hot)
            made, _ = network(one_hot, style, noise, _distance(own[None], task.config))
            return from_network(made.numpy()[0]), own, reference


class GANValidation:
    """Measures a network on the held-out items. metrics: as in tasks.validation."""

    def __init__(self, task: GANTask, metrics: Any) -> None:
        self.previews, self.metrics = Previews(task, task.held_out), metrics

    def measure(self, network: Synthesis, thorough: bool) -> dict[str, Optional[float]]:
        """{name: number}; empty unless `thorough`: no cheap number tells the quality of a GAN."""
        if not thorough:
            return {}
        numbers = self.metrics(*self.previews(network))
        return {name: float(v) for name, v in numbers.items() if v is not None}
