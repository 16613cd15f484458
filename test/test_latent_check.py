"""Whether an autoencoder and a U-Net belong together, on the demo."""

import importlib
import shutil

import numpy as np
import pytest
from conftest import ROOT
from tiny import make_model, make_pairs, one_error, run_tool

from ldm import config as configs
from ldm import images, weights
from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.inference import latent_check
from ldm.inference.pipeline import Model

DEMO = ROOT / "models/demo-128"


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
    one_error(run_tool("doctor", "--model", tmp_path / "iidm"), "iidm", "is not a model folder",
              "get_weights.py iidm")
    one_error(run_tool("doctor", "--photos", tmp_path), "--photos", "--model")


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
