"""Training of the GANs: what a step changes, continuing to the same bits, the tool, bad input."""
import copy
import json

import numpy as np
import pytest
from tiny import one_error, run_tool
from tiny_gan import KINDS, config_of, data, networks

from ldm import config as configs
from ldm import images, weights
from ldm.backend import jt
from ldm.baselines.layers import evaluating
from ldm.training.learning_rate import rate_factor
from ldm.training.tasks.gan import GANTask
from ldm.training.trainer import Trainer


def trainer(run, kind, **options):
    config = config_of(kind, **options)
    task = GANTask(*networks(config), *data(), config)
    return Trainer(task, run, config, config["gan_training"])


def state_of(run, step):
    return weights.read_state(run / f"state-{step:07d}.safetensors")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_continued_ends_with_the_same_bits(tmp_path, kind):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trainer(whole, kind).train()
    first = trainer(cut, kind)
    first.task.sample()                                         # looking at pictures changes nothing
    before = {name: p.numpy() for name, p in first.task.network.state_dict().items()}
    while first.step < 2:
        first.train_step()
    first.save()
    again = trainer(cut, kind)
    assert again.resume().step == 2
    again.train()
    one, other = state_of(whole, 4), state_of(cut, 4)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    moved = [name for name, a in before.items() if not np.array_equal(a, one[f"network/{name}"])]
    assert any("running_mean" in name for name in moved) and any("weight_u" in name for name in moved)
    assert any(name.endswith("fc.weight") for name in moved)
    lines = [json.loads(line) for line in (whole / "train.jsonl").read_text().splitlines()]
    assert {"gan", "feature", "d_fake", "d_real"} <= lines[-1].keys()
    assert ("kld" in lines[-1]) == (kind in ("gaugan", "clade"))
    assert ("routing" in lines[-1]) == (kind == "scgan")
    picture = images.read_image(whole / "samples-0000004.jpg")
    assert picture.shape[0] > 3 * 32


def test_the_discriminator_has_its_own_rate_and_its_own_noise(tmp_path):
    t = trainer(tmp_path, "gaugan", decay="linear", decay_steps=2)
    rates = []
    while t.step < 4:
        t.train_step()
        rates.append((t.optimizer.lr, t.task.discriminator.optimizer.lr))
    np.testing.assert_allclose(rates, [(1e-3 * f, 4e-3 * f) for f in (1, 1, 1, 0.5)])
    options = {"steps": 6, "decay": "linear", "decay_steps": 3, "warmup_steps": 0}
    assert [rate_factor(options, i) for i in range(6)] == pytest.approx([1, 1, 1, 1, 2 / 3, 1 / 3])


def test_kld_counts_the_whole_batch_in_micro_batches():
    """The divergence is a sum over the batch, however it is computed."""
    config = config_of("gaugan")
    config["gan_training"]["batch_size"] = 2
    task = GANTask(*networks(config), *data(), config)
    batch = task.batch(0)
    halves = [{name: array[i:i + 1] for name, array in batch.items()} for i in (0, 1)]
    with evaluating(task.network):                              # singular vectors stay as they are
        whole, *both = (task.loss(part)[1]["kld"].item() for part in (batch, *halves))
    assert whole == pytest.approx(np.mean(both), rel=1e-4) and whole > 0


def test_micro_batches_may_not_change(tmp_path):
    first = trainer(tmp_path, "clade")
    first.train_step()
    first.save()
    with pytest.raises(configs.UserError, match="micro_batch"):
        trainer(tmp_path, "clade", micro_batch=1).resume()


def write_data(folder):
    pictures, maps = data()
    for i, (picture, labels) in enumerate(zip(pictures, maps)):
        images.write_image(folder / "imgs" / f"{i}.png", picture)
        images.write_image(folder / "labels" / f"{i}.png", labels)
    return folder


def test_the_tool(tmp_path):
    source = write_data(tmp_path / "data")
    configs.save(tmp_path / "tiny.yaml", config_of("sean"))
    command = ("train_baseline", "--config", tmp_path / "tiny.yaml", "--data", source,
               "--output", tmp_path / "run")
    done = run_tool(*command)
    assert done.returncode == 0, done.stderr
    found, config = weights.read_state(tmp_path / "run/generator.safetensors")
    assert config["kind"] == "sean" and "up_0.ace_0.fc_mu28.weight" in found
    state = state_of(tmp_path / "run", 4)
    np.testing.assert_array_equal(found["fc.weight"], state["network/generator.fc.weight"])
    assert configs.load(tmp_path / "run/config.yaml")["kind"] == "sean"
    published = {name: array for name, array in found.items()}
    published["up_0.ace_0.param_free_norm.num_batches_tracked"] = np.array(5)
    weights.save(tmp_path / "published.safetensors", published)
    convert = ("convert", tmp_path / "published.safetensors", "--output", tmp_path / "ours.safetensors",
               "--config", tmp_path / "tiny.yaml", "--part")
    assert run_tool(*convert, "generator").returncode == 0
    assert weights.read_state(tmp_path / "ours.safetensors")[0].keys() == found.keys()
    one_error(run_tool(*convert, "encoder"), "--part", "vae")


def test_a_dry_run_says_what_it_needs(tmp_path):
    source = write_data(tmp_path / "data")
    configs.save(tmp_path / "tiny.yaml", config_of("sean"))
    done = run_tool("train_baseline", "--config", tmp_path / "tiny.yaml", "--data", source,
                    "--output", tmp_path / "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("parameters", "memory: about", "disk: about", "time: about"))
    assert not (tmp_path / "run/state-0000004.safetensors").exists()


def test_what_a_user_can_cause(tmp_path):
    source = write_data(tmp_path / "data")
    tree = config_of("gaugan")
    for change, words in (({"kind": "iidm"}, ("kind", "gaugan")),
                          ({"image_size": [60, 32]}, ("image_size", "multiples of 32"))):
        configs.save(tmp_path / "bad.yaml", {**tree, **change})
        one_error(run_tool("train_baseline", "--config", tmp_path / "bad.yaml", "--data", source,
                           "--output", tmp_path / "run"), *words)
    configs.save(tmp_path / "good.yaml", tree)
    command = ("train_baseline", "--config", tmp_path / "good.yaml", "--data", source,
               "--output", tmp_path / "run")
    one_error(run_tool(*command, "gan_training.perceptual=vgg"), "--vgg", "not given")
    weights.save(tmp_path / "other.safetensors", {"a": np.zeros(3)})
    one_error(run_tool(*command, "gan_training.perceptual=vgg", "--vgg", tmp_path / "other.safetensors"),
              "other.safetensors", "VGG19")
    one_error(run_tool(*command, "gan_training.perceptual=none", "--vgg", tmp_path / "other.safetensors"),
              "--vgg", "perceptual is none")
    one_error(run_tool(*command, "gan.channels=1"), "gan.channels")
    one_error(run_tool(*command, "gan_training.best_by=loss"), "gan_training.best_by", "FD-seg")


def test_a_finished_model_is_not_trained_over(tmp_path):
    source, model = write_data(tmp_path / "data"), tmp_path / "model/generator.safetensors"
    configs.save(tmp_path / "config.yaml", config_of("gaugan"))
    weights.save(model, {"a": np.zeros(3)})
    before = model.read_bytes()
    one_error(run_tool("train_baseline", "--config", tmp_path / "config.yaml", "--data", source,
                       "--output", model.parent), "model: holds generator.safetensors", "--output")
    assert model.read_bytes() == before and len(list(model.parent.iterdir())) == 1


def test_distances_of_a_mirrored_map():
    from ldm.baselines.inputs import distances
    maps = copy.deepcopy(data()[1][:1])
    straight, turned = distances(maps)[0], distances(maps[:, :, ::-1])[0]
    np.testing.assert_allclose(turned[0], straight[0][:, ::-1], atol=1e-6)
    np.testing.assert_allclose(turned[1], -straight[1][:, ::-1], atol=1e-6)
    assert jt.array(straight).shape == [2, 32, 64]
