"""Whether an autoencoder and a U-Net belong together, on the demo and on pairs trained for the test."""

import importlib
import shutil

import numpy as np
import pytest
from conftest import ROOT
from tiny import CONFIG, make_model, make_pairs, one_error, run_tool

from ldm import config as configs
from ldm import images, weights
from ldm.backend import jt
from ldm.datasets import encoding, landscape
from ldm.datasets.latents import Latents
from ldm.datasets.procedural import make_scene
from ldm.diffusion import Schedule
from ldm.inference import latent_check
from ldm.inference.pipeline import Model
from ldm.networks import Autoencoder, UNet
from ldm.training.tasks.autoencoder import AutoencoderTask
from ldm.training.tasks.diffusion import DiffusionTask
from ldm.training.trainer import Trainer

DEMO = ROOT / "models/demo"


class Changed:
    """An autoencoder whose latents are `change`d."""

    def __init__(self, autoencoder, change):
        self.autoencoder, self.change = autoencoder, change

    def encode(self, x):
        return jt.array(np.ascontiguousarray(self.change(self.autoencoder.encode(x).numpy())))


def rotation(seed):
    """A change by a random rotation of the three channels, as another training might make."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return lambda z: np.einsum("ij,njhw->nihw", q, z).astype(np.float32)


def times(factor):
    return lambda z: z * np.float32(factor)


WRONG = {**{f"change {i}": change for i, change in enumerate(latent_check.changes())},
         **{f"rotated {seed}": rotation(seed) for seed in range(4)},
         "times 0.5": times(0.5), "times 2": times(2), "shifted": lambda z: z + np.float32(1.5),
         "no latents": times(0)}


@pytest.fixture(scope="module")
def demo():
    """(unet, autoencoder, schedule, pictures) of the demo."""
    config = configs.load(DEMO / "config.yaml")
    pictures = [images.read_image(p, config["image_size"])
                for p in images.list_images(ROOT / "data/samples/references")[:latent_check.PICTURES]]
    return *Model(DEMO, config).networks(config["image_size"]), Schedule.named("linear"), pictures


def test_the_demo_is_a_right_pair(demo):
    report = latent_check.measure(*demo)
    assert report.belong, report.figures()


@pytest.mark.parametrize("change", WRONG)
def test_other_latents_are_told(demo, change):
    unet, autoencoder, *rest = demo
    report = latent_check.measure(unet, Changed(autoencoder, WRONG[change]), *rest)
    assert not report.belong, report.figures()


def test_the_doctor_says_it(tmp_path):
    done = run_tool("doctor", "--model", DEMO)
    assert done.returncode == 0 and "belong together" in done.stdout, done.stderr
    shutil.copytree(DEMO, tmp_path / "model", ignore=shutil.ignore_patterns("*.jpg"))
    state, config = weights.read_state(DEMO / "autoencoder.safetensors")
    for part in ("weight", "bias"):                         # another autoencoder: its latents are exchanged
        state[f"quant_conv.{part}"] = state[f"quant_conv.{part}"][[2, 0, 1]]
    weights.save(tmp_path / "model/autoencoder.safetensors", state, config)
    one_error(run_tool("doctor", "--model", tmp_path / "model"), tmp_path / "model", "belong together")


def test_a_large_job_begins_with_a_warning(tmp_path, monkeypatch):
    """A model of random weights knows no latents; here one picture counts as many."""
    (tmp_path / "model").mkdir()
    make_model(tmp_path / "model")
    make_pairs(tmp_path / "in", count=1)
    arguments = ["--model", tmp_path / "model", "--rounds", tmp_path / "model/rounds.yaml", "--masks",
                 tmp_path / "in/masks", "--references", tmp_path / "in/references",
                 "--output", tmp_path / "out"]
    assert "belong together" not in run_tool("infer", *arguments).stderr
    monkeypatch.setattr(importlib.import_module("infer"), "LARGE", 1)
    done = run_tool("infer", *arguments, "--overwrite", "--seed", "1")
    assert done.returncode == 0 and "warning: " in done.stderr, done.stderr
    assert "do not seem to belong together" in done.stderr and (tmp_path / "out/m0.jpg").exists()


# ---- pairs trained for the test ----------------------------------------------------------------------------

def scenes(folder, count=24):
    """`count` scenes in the contest's form, of the tiny model's size."""
    for name in ("imgs", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        image, labels = make_scene(11, i, CONFIG["image_size"])
        images.write_image(folder / f"imgs/{i:02d}.png", image)
        images.write_image(folder / f"labels/{i:02d}.png", labels)
    return landscape.training_pairs(folder)


def trained_autoencoder(pairs, seed, run):
    """A tiny autoencoder after 100 steps from the weights of `seed`."""
    options = {**CONFIG["autoencoder_training"], "steps": 100, "quantize_after": 100, "batch_size": 4,
               "crop": 48, "seed": seed}
    jt.set_global_seed(seed)
    network = Autoencoder(**CONFIG["autoencoder"])
    task = AutoencoderTask(network, landscape.Pictures([p for p, _ in pairs], CONFIG["image_size"]), options)
    trainer = Trainer(task, run, CONFIG, options)
    for _ in range(options["steps"]):
        trainer.train_step()
    task.finish()
    return network


def trained_unet(pairs, autoencoder, seed, run):
    """A tiny U-Net after 150 steps on the latents of `autoencoder`."""
    encoding.build(pairs, autoencoder, CONFIG["image_size"], run / "latents")
    options = {**configs.DEFAULTS["training"], "steps": 150, "batch_size": 8, "learning_rate": 2e-3,
               "seed": seed, "loss": "mse", "ema_rate": 0.9}
    jt.set_global_seed(seed)
    network, schedule = UNet(**CONFIG["unet"]), Schedule.named("linear")
    task = DiffusionTask(network, len(pairs), schedule, autoencoder, options)
    task.use(Latents(run / "latents"), options["batch_size"])
    trainer = Trainer(task, run, CONFIG, options)
    for _ in range(options["steps"]):
        trainer.train_step()
    return network


@pytest.mark.slow
def test_right_pairs_are_told_from_wrong_ones(demo, tmp_path):
    """10 right pairs: the demo, and three tiny U-Nets for each of three tiny autoencoders. Wrong ones: each
    U-Net with the other autoencoders, and pairs with changed latents. The figures of docs/own-data.md."""
    pairs = scenes(tmp_path / "data")
    autoencoders = [trained_autoencoder(pairs, seed, tmp_path / f"a{seed}") for seed in range(3)]
    unets = {(a, seed): trained_unet(pairs, autoencoders[a], seed, tmp_path / f"u{a}{seed}")
             for a in range(3) for seed in range(3)}
    pictures = [images.read_image(p) for p, _ in pairs[:latent_check.PICTURES]]
    reports = {}
    for (a, seed), unet in unets.items():
        for other, autoencoder in enumerate(autoencoders):
            reports[f"unet {a}{seed}, autoencoder {other}", other == a] = latent_check.measure(
                unet, autoencoder, Schedule.named("linear"), pictures)
    for a in range(3):
        for name, change in WRONG.items():
            reports[f"unet {a}0, {name}", False] = latent_check.measure(
                unets[a, 0], Changed(autoencoders[a], change), Schedule.named("linear"), pictures)
    reports["the demo", True] = latent_check.measure(*demo)
    for name, change in WRONG.items():
        changed = Changed(demo[1], change)
        reports[f"the demo, {name}", False] = latent_check.measure(demo[0], changed, *demo[2:])
    for (name, right), report in reports.items():
        print(f"{'right' if right else 'wrong'}  {name:32} {report.figures()}")
    assert sum(right for _, right in reports) == 10 and len(reports) >= 40
    assert [name for (name, right), report in reports.items() if report.belong != right] == []
