"""One optimiser step: micro-batches equal the whole batch, hold no more memory, and nothing stays alive."""
import gc

import numpy as np
import pytest
from tiny import CONFIG

from ldm import config as configs
from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.diffusion.losses import mse_weights
from ldm.errors import UserError
from ldm.networks import UNet, checkpointing, precision
from ldm.training import fused
from ldm.training.step import apply, gradients
from ldm.training.tasks.diffusion import DiffusionTask
from ldm.training.trainer import Trainer
from ldm.training.trial_run import RandomLatents


@pytest.mark.parametrize("kind", [fused.AdamW, jt.optim.Adam])
def test_steps_are_counted_from_one(kind):
    """Adam's first step is the rate times the gradient's sign, however small the gradient is: the moments are
    corrected for one step. The second one, in numpy."""
    x, g, rate = jt.array(np.float32([1, -2, 3])), np.float32([1e-3, -0.5, 20]), 0.25
    optimizer = kind([x], rate, betas=(0.5, 0.9), eps=1e-12)
    optimizer.weight_decay = 0.0
    apply(optimizer, [jt.array(g)], 0)
    np.testing.assert_allclose(x.numpy(), [0.75, -1.75, 2.75], rtol=1e-4)
    apply(optimizer, [jt.array(-g)], 1)
    expected = -0.25 * g / 0.75 / np.sqrt(0.19 * g ** 2 / 0.19)
    np.testing.assert_allclose(x.numpy(), [0.75, -1.75, 2.75] - rate * expected, rtol=1e-4)


def trainer(tmp_path, **options):
    """Of the tiny network, on random latents of 16 x 12."""
    unet = {"dropout": options.pop("dropout", 0.0)}
    config = configs.merge(CONFIG, {"unet": unet, "training": options}, "test")
    jt.set_global_seed(1)
    network = UNet(**config["unet"])
    jt.sync_all()                               # random weights are drawn when they are computed
    precision.apply(network, config["training"]["precision"])
    checkpointing.apply(network, config["training"]["checkpointing"])
    task = DiffusionTask(network, 16, Schedule.linear(1000), None, config["training"])
    task.use(RandomLatents(16, (16, 12), 29), config["training"]["batch_size"])
    return Trainer(task, tmp_path, config, config["training"])


def parameters(trainer):
    return np.concatenate([p.numpy().ravel() for p in trainer.parameters.values()])


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_equal_the_whole(tmp_path, micro_batch):
    """With dropout, whose masks must not depend on the division."""
    whole, parted = (trainer(tmp_path, batch_size=8, micro_batch=m, dropout=0.2) for m in (0, micro_batch))
    batch, size = whole.task.batch(0), 8
    both = [gradients(t.task.loss, batch, size, list(t.parameters.values()), m or size)
            for t, m in ((whole, 0), (parted, micro_batch))]
    (a, terms), (b, parts) = [([g.numpy() for g in grads], {k: v.item() for k, v in terms.items()})
                              for grads, terms in both]
    largest = max(np.linalg.norm(g) for g in a)
    assert all(np.linalg.norm(x - y) < 1e-5 * max(np.linalg.norm(x), 1e-3 * largest) for x, y in zip(a, b))
    assert parts == pytest.approx(terms, rel=1e-5)


@pytest.mark.parametrize("options", [{}, pytest.param({"micro_batch": 1, "checkpointing": "blocks"},
                                                      marks=pytest.mark.slow)])
def test_nothing_stays_alive(tmp_path, options):
    gc.collect()                                    # what earlier tests left does not count
    run = trainer(tmp_path, **options)
    seen = {}
    for step in range(1, 61):
        run.train_step()
        if step in (10, 60):
            seen[step] = jt.liveness_info()
    assert seen[10] == seen[60]


def test_a_step_that_fails_changes_nothing(tmp_path):
    run = trainer(tmp_path)
    run.train_step()
    before, batch = parameters(run), run.task.batch
    run.batch = lambda step: {**batch(step), "z_t": np.full((2, 3, 12, 16), np.nan, np.float32)}
    with pytest.raises(UserError, match="training: the loss is nan at step 1; "):
        run.train_step()
    assert run.step == 1 and np.array_equal(parameters(run), before)
    run.batch = batch
    run.train_step()
    assert np.isfinite(parameters(run)).all() and not np.array_equal(parameters(run), before)


def test_weights_of_noise_levels():
    """An error of eps is one of z_0, so many times larger, and that is its weight where it is above 1."""
    s, t = Schedule.linear(1000), np.array([0, 100, 500, 999])
    assert np.array_equal(mse_weights(s, t, "none"), np.ones(4))
    weights = mse_weights(s, t, "debiased")
    assert list(weights[:2]) == [1, 1] and weights[3] == pytest.approx(157, abs=1)
    z0, eps = np.full((1, 1), 0.3), np.full((1, 1), -0.7)
    z_t = s.add_noise(z0, 500, eps)
    wrong = (z_t - np.sqrt(1 - s.alpha_bar[500]) * (eps + 1e-3)) / np.sqrt(s.alpha_bar[500])
    assert abs(wrong - z0).item() == pytest.approx(1e-3 * weights[2], rel=1e-3)
