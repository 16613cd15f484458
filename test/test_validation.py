"""Held-out pictures: never trained on, the same noise every time; what the pictures of validation are."""
import numpy as np
import pytest

from ldm import config as configs
from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.errors import UserError
from ldm.training.batch_order import split
from ldm.training.tasks.diffusion import DiffusionTask
from ldm.training.tasks.previews import Previews
from ldm.training.tasks.validation import Validation

OPTIONS = {**configs.DEFAULTS["training"], "batch_size": 4, "loss": "mse", "held_out": 6.0}
SCHEDULE = Schedule.linear()


class Latents:
    """20 latents 3 x 4 x 6 of which each is all its own number; notes what is read."""

    def __init__(self):
        self.seen = []

    def __len__(self):
        return 20

    def read(self, indices, flips):
        self.seen += list(indices)
        z = np.float32(indices).reshape(-1, 1, 1, 1) * np.ones((1, 3, 4, 6), np.float32)
        return z, np.tile(np.uint8(indices).reshape(-1, 1, 1), (1, 4, 6))


class Network:
    """Predicts `value(t)` everywhere, and notes what it is asked."""

    def __init__(self, value):
        self.value, self.asked = value, []

    def __call__(self, z, t, one_hot):
        self.asked.append((z.numpy(), np.array(t), one_hot.numpy()))
        return jt.array(np.broadcast_to(self.value(np.array(t)).reshape(-1, 1, 1, 1),
                                        (len(t), 6, 4, 6)).astype(np.float32))


def test_held_out_is_a_function_of_the_seed():
    kept, held_out = split(20, 6, seed=1)
    assert sorted([*kept, *held_out]) == list(range(20)) and len(held_out) == 6
    assert np.array_equal(held_out, split(20, 0.3, seed=1)[1])
    assert not np.array_equal(held_out, split(20, 6, seed=2)[1])
    assert np.array_equal(split(20, 0, seed=1)[0], np.arange(20))


@pytest.mark.parametrize("held_out", [1, 20, 25, 0.01, 0.99])
def test_too_few_and_too_many(held_out):
    with pytest.raises(UserError, match="held_out"):
        split(20, held_out, seed=1)


def test_held_out_is_never_trained_on():
    latents = Latents()
    task = DiffusionTask(None, len(latents), SCHEDULE, None, OPTIONS)
    task.use(latents, OPTIONS["batch_size"])
    for step in range(14):
        task.batch(step)
    assert set(latents.seen) == set(range(20)) - set(task.held_out), "four epochs see all others"


def validation(**more):
    latents = Latents()
    return Validation(latents, split(20, 6, 0)[1], SCHEDULE, OPTIONS, **more)


def test_losses_by_quartile():
    v, network = validation(), Network(lambda t: 0.002 * t)
    found = v.losses(network)
    z, t, one_hot = (np.concatenate(parts) for parts in zip(*network.asked))
    items = one_hot.argmax(1)[:, 0, 0]
    values = {q: [] for q in range(4)}
    for z_t, step, item in zip(z, t, items):
        eps = (z_t - np.sqrt(SCHEDULE.alpha_bar[step]) * item) / np.sqrt(1 - SCHEDULE.alpha_bar[step])
        values[step // 250].append(np.mean((0.002 * step - eps) ** 2))
    for q in range(4):
        assert sorted(items[t // 250 == q]) == list(v.indices)
        assert found[f"loss_q{q + 1}"] == pytest.approx(np.mean(values[q]), rel=1e-3)
    assert found["loss"] == pytest.approx(np.mean(list(values.values())), rel=1e-3)
    again = Network(lambda t: 0.002 * t)
    assert v.losses(again) == found, "the same noise every time"


class Decoder:
    """A latent's first channel / 20 as the picture's level, twice the size."""

    def decode(self, z):
        z = z if isinstance(z, jt.Var) else jt.array(z)
        return jt.array(np.repeat(np.repeat(z.numpy() / 20, 2, axis=2), 2, axis=3))


class Verbs(Network):
    """A network whose eps is 0."""

    def modulate(self, one_hot):
        return None

    def encode(self, z, t):
        return z, t

    def decode(self, z, t, modulations):
        return jt.zeros((z.shape[0], 6, 4, 6))


def test_pictures_of_the_sampler():
    indices = np.array([3, 5, 8, 9, 11, 12, 17])               # more than are made at once
    pictures, maps, references = Previews(Latents(), indices, SCHEDULE, Decoder(), seed=0)(Verbs(None))
    assert pictures.shape == references.shape == (7, 8, 12, 3)
    assert pictures.dtype == references.dtype == np.uint8
    assert maps.shape == (7, 8, 12) and [m.min() for m in maps] == [m.max() for m in maps] == list(indices)
    levels = np.round((np.roll(indices, -1) / 20 + 1) * 127.5)
    np.testing.assert_array_equal(references[:, 0, 0, 0], levels, "each has the next one's for a reference")
    again = Previews(Latents(), indices[:3], SCHEDULE, Decoder(), seed=0)(Verbs(None))[0]
    np.testing.assert_array_equal(again[:2], pictures[:2], "the noise is the item's own")


def test_metrics_of_thorough_measurements_alone():
    asked = []

    def metrics(pictures, maps, references):
        asked.append((pictures.shape, maps.shape, references.shape))
        return {"S": np.float32(12), "M": None}

    v, network = validation(autoencoder=Decoder(), metrics=metrics), Verbs(lambda t: 0 * t)
    assert "S" not in v.measure(network, thorough=False) and not asked
    found = v.measure(network, thorough=True)
    assert found["S"] == 12 and "M" not in found and found["loss"] > 0
    assert asked == [((6, 8, 12, 3), (6, 8, 12), (6, 8, 12, 3))]
