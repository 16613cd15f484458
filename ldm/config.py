"""Configs are YAML files over defaults, with overrides; unknown keys and wrong types stop the run."""
from __future__ import annotations

import copy
import functools
import math
import re
from typing import Any, Sequence

import yaml

from ldm import values
from ldm.documents import parse_yaml, read_yaml, short
from ldm.errors import UserError
from ldm.files import Name, replacing

# The defaults are the entry at full size (its U-Net has 501,540,358 parameters). They are the schema too:
# every allowed key, with the type of its value. The network sections are constructor arguments.
DEFAULTS = {
    "image_size": [512, 384],               # width, height
    "kind": "iidm",                         # iidm, or a GAN: gaugan | clade | sean | scgan
    "schedule": "linear",                   # linear | cosine | paper
    "rounds": "entry",                      # of configs/infer, for a model that is used without others
    "autoencoder": {
        "channels": 128, "channel_mult": [1, 2, 4], "num_res_blocks": 2,
        "z_channels": 3, "embed_dim": 3, "norm_groups": 32,
        "codebook_size": 8192,              # 0: latents are decoded as they are
    },
    "unet": {
        "num_classes": 29, "channels": 256, "channel_mult": [1, 1, 2, 3, 4], "num_res_blocks": 2,
        "attention_downsampling": [4, 8, 16], "head_channels": 64, "learn_sigma": True, "dropout": 0.0,
        "spade_channels": 128, "norm_groups": 32,
    },
    "segmenter": {                          # SegFormer's arguments, here b0's
        "hidden": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder": 256, "reductions": [8, 4, 2, 1],
        "mlp_ratio": 4, "num_classes": 29, "patch": 7, "rectify": False,
    },
    "gan": {                                # generator and encoder of the GANs, here GauGAN's
        "channels": 64, "upsampling": "normal",     # normal | more | most: 5 to 7 doublings of the first map
        "vae": True,                        # a style vector of the reference starts the generator
        "z_dim": 256, "encoder_channels": 64,
        "hidden": 128,                      # channels between label map and SPADE's scale and shift
        "spectral_norm": True,
        "clade": {"distance": False, "skip_label": -1},     # ICPE; a class without positions, -1: none
        "sean": {"style_length": 512, "style_channels": 32,
                 "style_mask": "reference"},        # regions of the reference: by its own mask | target
        "scgan": {"first": 32, "routing": 32, "conv_experts": 3, "norm_experts": 4, "temperature": 0.05,
                  "routing_spectral_norm": True, "position_levels": 0, "nearest": False},
    },
    "training": {                           # tools/train.py
        "learning_rate": 1.0e-4, "weight_decay": 0.0, "batch_size": 30, "steps": 266000, "warmup_steps": 0,
        "micro_batch": 0,                   # items computed at once; 0: this process' whole share of a batch
        "checkpointing": "none",            # none | blocks (recomputed in the backward pass: less memory)
        "precision": "fp32",                # of convolutions and attention: fp32 | bf16; on a GPU tf32 | fp16
        "decay": "none",                    # none | cosine | linear
        "decay_steps": 0,                   # the rate falls in the last so many steps; 0: in all
        "sizes": [],                        # of the pictures in earlier steps, such as
                                            # {until: 6000, size: [128, 96], batch_size: 30}
        "ema_rate": 0.9999,
        "more_ema_rates": [],               # further EMA weights of the same run, each with its own files
        "label_drop": 0.2,
        "loss": "mse+vb",                   # mse | mse+vb | mse+vb_rescaled
        "weighting": "none",                # of the noise levels in the loss: none | debiased
        "held_out": 0.0,                    # images for validation: a number, or a fraction if below 1
        "seed": 0, "save_every": 2000, "sample_every": 2000, "log_every": 10,
        "metrics_every": 10000,             # steps, at the next save
        "keep": 3, "keep_best": 2,          # checkpoints: the newest, and the best by a validation metric
        "best_by": "loss",
    },
    "autoencoder_training": {               # tools/train_autoencoder.py
        "learning_rate": 4.5e-6, "weight_decay": 0.0, "batch_size": 12, "steps": 250000, "warmup_steps": 0,
        "micro_batch": 0, "checkpointing": "none", "decay": "none", "decay_steps": 0, "ema_rate": 0.999,
        "crop": 256,                        # pixels per side
        "linear_start": False,              # start as a linear autoencoder: for small ones from scratch
        "lpips": [],                        # weight files of LPIPS, see ldm/training/tasks/perceptual.py
        "perceptual_weight": 1.0,           # of LPIPS, if its files are given
        "gradient_weight": 1.0,             # of the edge loss, which is used without LPIPS
        "refit": 0.0,                       # above 0: a new codebook at the end, fitted to latents of which
                                            # this share is of pictures in other, stronger colours
        "square_weight": 0.0,               # of the mean square error, which PSNR measures
        "decoder_only": False,              # encoder and codebook stay as --init gives them: so do latents
        "codebook_weight": 1.0,
        "discriminator_weight": 0.75,       # 0: no discriminator
        "discriminator_start": 0, "discriminator_channels": 64,
        "quantize_after": 0,                # steps without codebook, which is then fitted to the latents;
                                            # used from the start, a new encoder's latents collapse onto it
        "seed": 0, "save_every": 2000, "sample_every": 2000, "log_every": 10, "keep": 3,
    },
    "gan_training": {                       # tools/train_baseline.py
        "learning_rate": 1.0e-4, "discriminator_learning_rate": 4.0e-4, "betas": [0.0, 0.9],
        "weight_decay": 0.0, "batch_size": 4, "steps": 250000, "warmup_steps": 0,
        "decay": "linear", "decay_steps": 125000,   # none | cosine | linear, over the last decay_steps
        "ema_rate": 0.0,                    # 0: the last weights, as the originals
        "micro_batch": 0,                   # batch statistics are those of a part
        "discriminator": "patches",         # patches | pyramid
        "discriminator_channels": 64, "discriminator_layers": 4, "discriminator_scales": 2,
        "feature_weight": 10.0, "kld_weight": 0.05, "l1_weight": 0.0,
        "routing_weight": 2.0,              # of the picture of SCGAN's routing network
        "perceptual": "vgg",                # vgg | segmenter | none: whose features are compared
        "perceptual_weight": 10.0,
        "held_out": 0.0, "seed": 0, "save_every": 2000, "sample_every": 2000, "log_every": 10,
        "metrics_every": 10000, "keep": 3, "keep_best": 2, "best_by": "FD-seg",
    },
    "segmenter_training": {                 # tools/train_segmenter.py
        "learning_rate": 1.0e-3, "weight_decay": 0.01, "batch_size": 16, "steps": 40000, "warmup_steps": 500,
        "decay": "cosine", "decay_steps": 0, "ema_rate": 0.999,
        "micro_batch": 0,
        "least_crop": 0.4,                  # fraction of the picture's sides; half of the pictures are whole
        "seed": 0, "save_every": 2000, "sample_every": 2000, "log_every": 10, "keep": 3,
    },
}


NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")       # YAML reads 1e-5 as a word
LARGEST = 2 ** 31                       # limit of whole numbers, which are passed to C code
# Item types of lists that are empty by default.
ITEMS = {"training.more_ema_rates": 0.0, "autoencoder_training.lpips": "",
         "training.sizes": {"until": 0, "size": [0, 0], "batch_size": 0}}


def checked(value: Any, like: Any, where: object, name: str) -> Any:
    """`value` if it has the type of the default `like`, else a UserError.

    A whole number, or a text such as 1e-5, is accepted as a float. Numbers must be finite.
    """
    if isinstance(like, float):
        value = _float(value)
    right = type(value) is type(like) or like is None
    if right and isinstance(value, float) and not math.isfinite(value):
        raise UserError(where, f"'{name}' is {value}", "give a finite number")
    if right and type(value) is int and abs(value) >= LARGEST:
        raise UserError(where, f"'{name}' is {short(value)}", f"give a number below {LARGEST}")
    if not right:
        raise UserError(where, f"'{name}' is {short(value)}",
                        f"give {KINDS[type(like)]} like {short(like)}")
    if isinstance(like, list) and (like or name in ITEMS):
        return [checked(v, like[0] if like else ITEMS[name], where, name) for v in value]
    if isinstance(like, dict):
        if value.keys() != like.keys():
            raise UserError(where, f"'{name}' has the keys {short(', '.join(map(str, value)))}",
                            f"give {', '.join(like)}")
        return {key: checked(v, like[key], where, f"{name}.{key}") for key, v in value.items()}
    return value


KINDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", list: "a list",
         dict: "a mapping"}


def _float(value: Any) -> Any:
    """`value` as a float if it is a number in another notation, else unchanged."""
    if type(value) is str and len(value) < 100 and NUMBER.fullmatch(value):
        return float(value)
    if type(value) is int:
        return float(value) if abs(value) < 2 ** 1000 else math.inf
    return value


def merge(defaults: dict, tree: dict, where: object, prefix: str = "") -> dict:
    """A copy of `defaults` with the leaves of `tree`; every key of `tree` must be in `defaults`."""
    merged = copy.deepcopy(defaults)
    for key, value in tree.items():
        if key not in defaults:
            raise UserError(where, f"unknown key {short(f'{prefix}{key}')}",
                            f"choose {', '.join(sorted(defaults))}")
        name = f"{prefix}{key}"
        if isinstance(defaults[key], dict) and isinstance(value, dict):
            merged[key] = merge(defaults[key], value, where, f"{name}.")
        else:
            merged[key] = checked(value, defaults[key], where, name)
    return merged


def override(config: dict, assignments: Sequence[str]) -> dict:
    """A copy of `config` with the leaves that texts such as "training.learning_rate=2.0e-5" set."""
    config = copy.deepcopy(config)
    for text in assignments:
        path, equals, raw = text.partition("=")
        *parents, leaf = path.split(".")
        try:
            node = functools.reduce(lambda tree, key: tree[key], parents, config)
            known = isinstance(node, dict) and leaf in node
        except (KeyError, TypeError):
            known, node = False, config
        if not equals or not known or isinstance(node[leaf], dict):
            options = ", ".join(sorted(node)) if isinstance(node, dict) else ", ".join(sorted(config))
            raise UserError(cut(text), "is not an option", f"write key=value with one of the keys {options}")
        node[leaf] = checked(parse_yaml(raw, cut(text)), node[leaf], cut(text), path)
    return config


def cut(text: str) -> str:
    """An assignment as the subject of an error."""
    return text if len(text) <= 80 else f"{text[:80]}..."


def load(path: Name, assignments: Sequence[str] = (), networks: Sequence[str] = ()) -> dict:
    """The config of a YAML file: defaults, then the file, then `assignments`; every value is checked.

    networks: the networks that will be built from it (unet, autoencoder, segmenter), see
    values.check_networks. Raises UserError for unknown keys, wrong types and values out of range.
    """
    config = options(path, assignments, DEFAULTS)
    overridden = [text.partition("=")[0] for text in assignments]
    values.check(config, path, overridden)
    values.check_networks(config, networks, path, overridden)
    return config


def options(path: Name, assignments: Sequence[str], defaults: dict) -> dict:
    """`defaults`, replaced by a YAML file's values, then by `assignments`; keys and types are checked."""
    return override(merge(defaults, read_yaml(path), path), assignments)


def save(path: Name, config: dict) -> None:
    """Write `config` as YAML, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(config, sort_keys=False, default_flow_style=None))
