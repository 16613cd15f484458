"""Tiny GANs, for tests: 64 x 32 pixels, a few channels."""
import copy

import numpy as np

from ldm import config as configs
from ldm.backend import jt

KINDS = ("gaugan", "clade", "sean", "scgan")
OPTIONS = {
    "image_size": [64, 32],
    "gan": {"channels": 2, "z_dim": 4, "encoder_channels": 2, "hidden": 4,
            "sean": {"style_length": 6, "style_channels": 2}, "scgan": {"first": 2, "routing": 2}},
    "gan_training": {"discriminator_channels": 4, "discriminator_layers": 3, "perceptual": "none",
                     "batch_size": 2, "steps": 4, "save_every": 2, "sample_every": 4, "log_every": 1,
                     "learning_rate": 1.0e-3, "discriminator_learning_rate": 4.0e-3},
}


def config_of(kind, **training):
    """The config of a tiny GAN."""
    tree = copy.deepcopy(OPTIONS)
    tree["kind"] = kind
    tree["gan"]["vae"] = kind in ("gaugan", "clade")
    tree["gan_training"].update(discriminator="pyramid" if kind == "scgan" else "patches", **training)
    return configs.merge(configs.DEFAULTS, tree, "test")


def data(count=5):
    """(pictures, label maps) of smooth colours and blocks of labels."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 29, (count, 4, 8)).astype(np.uint8)
    maps = blocks.repeat(8, 1).repeat(8, 2)
    colours = rng.integers(30, 220, (29, 3))
    noise = rng.integers(0, 20, (*maps.shape, 3))
    return (colours[maps] + noise).astype(np.uint8), maps


def networks(config, seed=1):
    """(Synthesis, discriminator) with new weights of a seed."""
    from ldm.baselines import models
    from ldm.baselines.synthesis import Synthesis
    jt.set_global_seed(seed)
    return Synthesis.of(config), models.discriminator(config)


def make_model(folder, kind):
    """A model folder with weights that are not trained."""
    from ldm import weights
    config = config_of(kind)
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in networks(config)[0].parts().items():
        state = {key: p.numpy() for key, p in part.state_dict().items()}
        weights.save(folder / f"{name}.safetensors", state, config)
    configs.save(folder / "config.yaml", config)
    return folder
