"""A tiny model and tiny folders, for tests that run the tools as a user does."""
import contextlib
import importlib
import io
import json
import os
import subprocess
import sys

import numpy as np
from conftest import ROOT, golden_weights
from PIL import Image

from ldm import config as configs
from ldm import images

CONFIG = configs.merge(configs.DEFAULTS, {
    "image_size": [64, 48],
    "autoencoder": {"channels": 32, "channel_mult": [1, 1, 1], "num_res_blocks": 1, "codebook_size": 64,
                    "norm_groups": 8},
    "unet": {"channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_downsampling": [2],
             "head_channels": 16, "spade_channels": 16, "norm_groups": 8},
    "training": {"batch_size": 2, "steps": 8, "save_every": 4, "sample_every": 8, "log_every": 2,
                 "ema_rate": 0.9},
    "autoencoder_training": {"batch_size": 2, "steps": 4, "crop": 32, "quantize_after": 2, "save_every": 2,
                             "sample_every": 4, "log_every": 2, "learning_rate": 1.0e-3,
                             "discriminator_weight": 0.0},
}, "test")
ROUNDS = """
rounds:
  - {strength: 0.5, steps: 3, guidance: 2.0}
  - {strength: 0.4, steps: 2, guidance: 1.5, color_transfer: exact}
"""


def make_model(folder):
    """A model folder with seeded random weights."""
    from ldm import weights
    from ldm.networks import Autoencoder, UNet
    for name, network in (("unet", UNet(**CONFIG["unet"])),
                          ("autoencoder", Autoencoder(**CONFIG["autoencoder"]))):
        shapes = {key: tuple(p.shape) for key, p in network.state_dict().items()}
        weights.save(folder / f"{name}.safetensors", golden_weights(shapes, 7), CONFIG)
    configs.save(folder / "config.yaml", CONFIG)
    (folder / "rounds.yaml").write_text(ROUNDS)
    return folder


def make_pairs(folder, count=4, size=(64, 48)):
    """masks/ and references/ of the same names: smooth colours, blocks of labels."""
    rng = np.random.default_rng(3)
    for name in ("masks", "references"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        blocks = rng.integers(0, 29, (3, 4)).astype(np.uint8)
        Image.fromarray(blocks).resize(size, Image.NEAREST).save(folder / "masks" / f"m{i}.png")
        colours = Image.fromarray(rng.integers(0, 255, (3, 4, 3)).astype(np.uint8))
        images.write_image(folder / "references" / f"m{i}.jpg",
                           np.asarray(colours.resize(size, Image.BICUBIC)))
    return folder


def make_training(folder, config, count=5):
    """config.yaml, data/ in the contest's form, and model/: all that a training needs."""
    pairs = make_pairs(folder / "in", count)
    (folder / "data").mkdir()
    (pairs / "masks").rename(folder / "data/labels")
    (pairs / "references").rename(folder / "data/imgs")
    configs.save(folder / "config.yaml", config)
    (folder / "model").mkdir()
    make_model(folder / "model")
    return folder


def run_tool(tool, *arguments):
    """Call tools/TOOL.py in this process, where Jittor is loaded already. -> as `start_tool`."""
    sys.path.insert(0, str(ROOT / "tools"))
    cli, module = importlib.import_module("cli"), importlib.import_module(tool)
    arguments, out, err = [str(argument) for argument in arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(module.main, arguments)
        except SystemExit as end:
            return subprocess.CompletedProcess([tool, *arguments], end.code, out.getvalue(), err.getvalue())


def start_tool(tool, *arguments, **options):
    """Run tools/TOOL.py in a process of its own, as a user does. -> the process, its output as text."""
    return subprocess.run([sys.executable, ROOT / "tools" / f"{tool}.py", *map(str, arguments)], text=True,
                          capture_output=True, env={**os.environ, **options.pop("env", {})}, **options)


def one_error(process, *words):
    """Assert that a tool ended as a user's error must: status 2, one line `error: ...` with these words."""
    lines = process.stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert process.returncode == 2, process.stderr
    assert len(errors) == 1 and lines[-1] == errors[0] and "Traceback" not in process.stderr, process.stderr
    for word in words:
        assert str(word) in errors[0], errors[0]


def program(path, body):
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def write_json(path, tree):
    path.write_text(json.dumps(tree))
    return path
