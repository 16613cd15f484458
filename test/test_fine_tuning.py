"""--init of the training tools: where a run begins, and which weights it refuses."""
import numpy as np
import pytest
from conftest import ROOT
from tiny import CONFIG, make_training, one_error, run_tool

from ldm import config as configs
from ldm import files, weights
from ldm.errors import UserError
from ldm.training.run import start
from ldm.weights import opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """config.yaml, data/ in the contest's form, and model/."""
    training = {"batch_size": 2, "steps": 1, "save_every": 1, "log_every": 1, "sample_every": 9}
    config = configs.merge(CONFIG, {"training": training}, "test")
    return make_training(tmp_path_factory.mktemp("tuning"), config, count=4)


def train(folder, output, *more, tool="train"):
    arguments = ["--config", folder / "config.yaml", "--data", folder / "data", "--output", output, *more]
    if tool == "train":
        arguments += ["--autoencoder", folder / "model/autoencoder.safetensors"]
    return run_tool(tool, *arguments)


def network_of(run, part="network", step=1):
    state, _ = weights.read_state(run / f"state-{step:07d}.safetensors")
    return {name[len(part) + 1:]: a for name, a in state.items() if name.startswith(f"{part}/")}


def furthest(state, other):
    assert state.keys() == other.keys()
    return max(float(np.abs(state[name] - other[name]).max()) for name in state)


def test_a_run_begins_where_it_is_told_and_remembers_it(folder, tmp_path):
    rate = "training.learning_rate=1.0e-9"
    done = train(folder, tmp_path / "run", "--init", folder / "model", rate)
    assert done.returncode == 0, done.stderr
    began, _ = weights.read_state(folder / "model/unet.safetensors")
    for part in ("network", "ema"):
        assert furthest(network_of(tmp_path / "run", part), began) < 1e-6
    again = train(folder, tmp_path / "run", "--init", folder / "model/unet.safetensors", rate,
                  "training.steps=2")
    assert again.returncode == 0 and "continuing at step 1" in again.stderr, again.stderr
    other = {name: a + 1 for name, a in began.items()}
    weights.save(tmp_path / "other.safetensors", other, CONFIG)
    one_error(train(folder, tmp_path / "run", "--init", tmp_path / "other.safetensors", rate,
                    "training.steps=3"), "--init", "began with other weights")


def test_an_autoencoder_begins_so_too(folder, tmp_path):
    done = train(folder, tmp_path / "run", "--init", folder / "model", "autoencoder_training.steps=2",
                 "autoencoder_training.learning_rate=1.0e-9", tool="train_autoencoder")
    assert done.returncode == 0, done.stderr
    began, _ = weights.read_state(folder / "model/autoencoder.safetensors")
    now = network_of(tmp_path / "run", step=2)
    assert furthest({k: v for k, v in now.items() if "embedding" not in k},
                    {k: v for k, v in began.items() if "embedding" not in k}) < 1e-6


def test_a_segmenter_begins_so_at_another_size(folder, tmp_path):
    more = {"segmenter": {**configs.DEFAULTS["segmenter"], "hidden": [8, 16, 16, 16], "depths": [1] * 4},
            "segmenter_training": {"batch_size": 2, "steps": 1, "save_every": 1, "warmup_steps": 1}}
    configs.save(tmp_path / "c.yaml", {**CONFIG, **more})
    given = ["--config", tmp_path / "c.yaml", "--data", folder / "data"]
    rate = "segmenter_training.learning_rate=1.0e-9"
    done = run_tool("train_segmenter", *given, "--output", tmp_path / "small", rate, "image_size=[64,48]")
    assert done.returncode == 0, done.stderr
    small = tmp_path / "small/segmenter.safetensors"
    done = run_tool("train_segmenter", *given, "--output", tmp_path / "large", "--init", small, rate,
                    "image_size=[128,96]")
    assert done.returncode == 0, done.stderr
    began, now = (weights.read_state(path)[0] for path in (small, tmp_path / "large/segmenter.safetensors"))
    learned = {name for name in began if "running" not in name}
    assert len(learned) > 50
    assert furthest({name: now[name] for name in learned}, {name: began[name] for name in learned}) < 1e-3
    one_error(run_tool("train_segmenter", *given, "--output", tmp_path / "other", "--init", small,
                       "segmenter.decoder=16"), "segmenter.decoder")


def test_a_dry_run_writes_nothing(folder, tmp_path):
    assert train(folder, tmp_path, "--init", folder / "model", "--dry-run").returncode == 0
    assert files.kind_of(tmp_path / start.NOTE) is None


def test_another_codebook_is_explained(folder, tmp_path):
    path = folder / "model/autoencoder.safetensors"
    config = configs.merge(CONFIG, {"autoencoder": {"codebook_size": 0}}, "test")
    with pytest.raises(UserError) as caught:
        start.begin_with(path, Shapes(path), config, "autoencoder", tmp_path)
    assert all(word in str(caught.value) for word in ["autoencoder.codebook_size", "another codebook"])


class Shapes:
    """A network that knows only the shapes of its weights."""

    def __init__(self, path):
        with opened(path) as (entries, _):
            self.shapes = {name: np.zeros(entry.shape, np.float32) for name, entry in entries.items()}

    def state_dict(self):
        return self.shapes

    def load_state_dict(self, state):
        for name, array in state.items():
            self.shapes[name][...] = array


@pytest.mark.parametrize("change, words", [
    ({"unet": {"channels": 64}}, ["unet.channels", "width or depth"]),
    ({"schedule": "cosine"}, ["schedule", "noise of one schedule"]),
    ({"autoencoder": {"channels": 64}}, ["autoencoder.channels", "latents of one autoencoder"])])
def test_another_network_is_explained(folder, tmp_path, change, words):
    path = folder / "model/unet.safetensors"
    config = configs.merge(CONFIG, change, "test")
    with pytest.raises(UserError) as caught:
        start.begin_with(path, Shapes(path), config, "unet", tmp_path)
    assert all(word in str(caught.value) for word in [str(path), *words]), caught.value
    assert files.kind_of(tmp_path / start.NOTE) is None


def test_names_are_strict_and_other_classes_are_explained(folder, tmp_path):
    path = folder / "model/unet.safetensors"
    state, _ = weights.read_state(path)
    network, other = Shapes(path), tmp_path / "foreign.safetensors"
    less = dict(state)
    less.pop(name := next(iter(less)))
    weights.save(other, less)
    with pytest.raises(UserError, match=f"missing 1 .{name}"):
        start.begin_with(other, network, CONFIG, "unet", tmp_path / "run")
    more = {name: np.repeat(a, 2, 1) if name.endswith(start.MAPS) else a for name, a in state.items()}
    weights.save(other, more)
    with pytest.raises(UserError, match="was trained with 58 classes of label maps"):
        start.begin_with(other, network, CONFIG, "unet", tmp_path / "run")
    assert files.kind_of(tmp_path / "run") is None


def test_another_size_is_said(folder, tmp_path):
    path = folder / "model/unet.safetensors"
    config = configs.merge(CONFIG, {"image_size": [128, 96]}, "test")
    assert "[64, 48]" in start.begin_with(path, Shapes(path), config, "unet", tmp_path)
    assert start.begin_with(path, Shapes(path), CONFIG, "unet", tmp_path) is None
    state, _ = weights.read_state(path)
    for size in ({}, {"image_size": 7}, {"image_size": None}):      # of a file that another program wrote
        weights.save(tmp_path / "w.safetensors", state, {"unet": CONFIG["unet"], **size,
                                                         "autoencoder": CONFIG["autoencoder"]})
        assert "image_size" in start.begin_with(tmp_path / "w.safetensors", Shapes(path), CONFIG, "unet",
                                                tmp_path)
    vectors = {name: a.ravel() if name.endswith(start.MAPS) else a for name, a in state.items()}
    weights.save(tmp_path / "w.safetensors", vectors)
    with pytest.raises(UserError, match="mlp_shared"):
        start.begin_with(tmp_path / "w.safetensors", Shapes(path), CONFIG, "unet", tmp_path)


# ---- what it is good for -----------------------------------------------------------------------------------

def another_palette(folder, count):
    """Scenes with red and blue exchanged, in the contest's form: a palette that the demo never saw."""
    from ldm import images
    from ldm.datasets.procedural import make_scene
    for name in ("imgs", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        image, labels = make_scene(77, i, (64, 48))
        images.write_image(folder / f"imgs/{i:03d}.png", np.ascontiguousarray(image[..., ::-1]))
        images.write_image(folder / f"labels/{i:03d}.png", labels)
    return folder


def tuned(folder, data, init, count, **options):
    """The held-out loss of the demo's network after `count` steps, with or without its weights."""
    from ldm.backend import jt
    from ldm.datasets import encoding, landscape
    from ldm.datasets.latents import Latents
    from ldm.diffusion import Schedule
    from ldm.networks import Autoencoder, UNet, precision
    from ldm.training.tasks.diffusion import DiffusionTask
    from ldm.training.tasks.validation import Validation
    from ldm.training.trainer import Trainer
    model = ROOT / "models/demo-128"
    config = configs.load(model / "config.yaml", ["image_size=[64, 48]", *(f"training.{k}={v}"
                                                                           for k, v in options.items())])
    schedule, training = Schedule.named("linear"), config["training"]
    autoencoder = Autoencoder(**config["autoencoder"])
    weights.load(model / "autoencoder.safetensors", autoencoder)
    encoding.build(landscape.training_pairs(data), autoencoder, config["image_size"], data / "latents")
    jt.set_global_seed(0)
    network = UNet(**config["unet"])
    if init:
        start.begin_with(model, network, config, "unet", folder)
    precision.apply(network, "fp32")
    latents = Latents(data / "latents")
    task = DiffusionTask(network, len(latents), schedule, autoencoder, training)
    task.use(latents, training["batch_size"])
    validation = Validation(task.latents, task.held_out, schedule, training)
    trainer = Trainer(task, folder, config, training)
    for _ in range(count):
        trainer.train_step()
    with trainer.ema.applied() as averaged:
        return validation.measure(averaged, False)["loss"]


@pytest.mark.slow
def test_fine_tuning_betters_the_demo_and_beats_nothing(tmp_path):
    """200 steps on 50 scenes of another palette, at half the demo's size: the figures of docs/own-data.md."""
    data = another_palette(tmp_path / "data", 62)
    options = {"batch_size": 4, "held_out": 12, "steps": 200, "learning_rate": 2e-4, "warmup_steps": 20,
               "ema_rate": 0.97}
    untouched = tuned(tmp_path / "a", data, True, 0, **options)
    after = tuned(tmp_path / "b", data, True, 200, **options)
    from_nothing = tuned(tmp_path / "c", data, False, 200, **options)
    print(f"held-out loss: demo {untouched:.4f}, fine-tuned {after:.4f}, from nothing {from_nothing:.4f}")
    assert after < untouched and after < from_nothing
