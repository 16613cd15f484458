"""Which values a config may have. They are checked before anything is built or compiled.

ldm/config.py checks keys and types. This module checks ranges and choices, values of a network that must fit
together, and whether the network fits into memory.
"""
from __future__ import annotations

from numbers import Integral
from typing import Any, Callable, Mapping, NoReturn, Optional, Sequence, Tuple

from ldm import sizes
from ldm.documents import short
from ldm.errors import UserError
from ldm.labels import NUM_CLASSES
from ldm.platform import runtime

SCHEDULES = ("linear", "cosine", "paper")
LOSSES = ("mse", "mse+vb", "mse+vb_rescaled")
WEIGHTINGS = ("none", "debiased")
DECAYS = ("none", "cosine", "linear")
KINDS = ("iidm", "gaugan", "clade", "sean", "scgan")
UPSAMPLINGS = {"normal": 5, "more": 6, "most": 7}    # doublings of a GAN's first map
CHECKPOINTING = ("none", "blocks")
METRICS = ("M", "S", "FD-seg")          # of generated pictures, in validation
LATENT_CHANNELS = 3                     # of the latents that the U-Net is built for
LARGEST_SEED = 2 ** 31 - 1              # accepted by every library that we use
MOST_SEEDS = 10_000                     # of one job
LEAST_CROP = 32

Rule = Tuple[Callable[[Any], bool], str]        # a check, and the allowed values in words


def numbers(least: int, most: int, step: int = 1) -> Rule:
    """The rule for a number from `least` to `most`, a multiple of `step`."""
    kind = "a number" if step == 1 else f"a multiple of {step}"
    return lambda v: least <= v <= most and (step == 1 or v % step == 0), f"{kind} from {least:,} to {most:,}"


def one_of(words: Sequence[str]) -> Rule:
    """The rule for a choice between words."""
    return lambda v: v in words, f"{', '.join(words[:-1])} or {words[-1]}"


def lists(rule: Rule, least: int, most: int) -> Rule:
    """The rule for a list of `least` to `most` values that each follow `rule`."""
    is_right, words = rule
    length = f"{least}" if least == most else f"{least} to {most}"
    return (lambda v: least <= len(v) <= most and all(map(is_right, v)), f"a list of {length}, each {words}")


RATE: Rule = (lambda v: 0 <= v < 1, "a number from 0 to below 1")
SHARE: Rule = (lambda v: 0 <= v <= 1, "a number from 0 to 1")
POSITIVE: Rule = (lambda v: 0 < v <= 1e30, "a number above 0")
WEIGHT: Rule = (lambda v: 0 <= v <= 1e30, "a number of at least 0")
STEPS = numbers(1, 10 ** 9)
FROM_STEP = numbers(0, 10 ** 9)
CHANNELS = numbers(1, 2 ** 16)
MULT = lists(numbers(1, 64), 1, 8)
BLOCKS = numbers(1, 64)

RUN = {"learning_rate": POSITIVE, "weight_decay": WEIGHT, "batch_size": numbers(1, 2 ** 20), "steps": STEPS,
       "warmup_steps": FROM_STEP, "micro_batch": numbers(0, 2 ** 20), "decay": one_of(DECAYS),
       "decay_steps": FROM_STEP, "ema_rate": RATE, "seed": numbers(0, LARGEST_SEED), "save_every": STEPS,
       "sample_every": STEPS, "log_every": STEPS, "keep": numbers(1, 10 ** 6)}
SIZES = {"until": STEPS, "size": lists(numbers(1, 2 ** 14), 2, 2), "batch_size": numbers(1, 2 ** 20)}
RULES: dict[str, Any] = {               # a Rule for each key, a dict of them for each section
    "image_size": lists(numbers(1, 2 ** 14), 2, 2),
    "kind": one_of(KINDS),
    "schedule": one_of(SCHEDULES),
    "autoencoder": {
        "channels": CHANNELS, "channel_mult": MULT, "num_res_blocks": BLOCKS, "z_channels": CHANNELS,
        "codebook_size": numbers(0, 2 ** 24), "norm_groups": CHANNELS,
        "embed_dim": (lambda v: v == LATENT_CHANNELS, f"{LATENT_CHANNELS}, the U-Net's latent channels")},
    "unet": {
        "num_classes": (lambda v: v == NUM_CLASSES, f"{NUM_CLASSES}, the number of label classes"),
        "channels": numbers(2, 2 ** 16, 2), "channel_mult": MULT, "num_res_blocks": BLOCKS,
        "attention_downsampling": lists(numbers(1, 2 ** 10), 0, 16), "head_channels": CHANNELS,
        "dropout": RATE, "spade_channels": CHANNELS, "norm_groups": CHANNELS},
    "segmenter": {
        "hidden": lists(CHANNELS, 4, 4), "depths": lists(numbers(1, 256), 4, 4), "decoder": CHANNELS,
        "reductions": lists(numbers(1, 64), 4, 4), "mlp_ratio": numbers(1, 64),
        "num_classes": (lambda v: v == NUM_CLASSES, f"{NUM_CLASSES}, the number of label classes"),
        "patch": (lambda v: v in (3, 7), "3 or 7")},
    "gan": {
        "channels": numbers(2, 2 ** 12, 2), "upsampling": one_of(tuple(UPSAMPLINGS)), "z_dim": CHANNELS,
        "encoder_channels": CHANNELS, "hidden": CHANNELS,
        "clade": {"skip_label": numbers(-1, NUM_CLASSES - 1)},
        "sean": {"style_length": CHANNELS, "style_channels": CHANNELS,
                 "style_mask": one_of(("reference", "target"))},
        "scgan": {"first": CHANNELS, "routing": numbers(2, 2 ** 12, 2), "conv_experts": numbers(1, 64),
                  "norm_experts": numbers(1, 64), "temperature": POSITIVE, "position_levels": numbers(0, 7)}},
    "gan_training": {
        **RUN, "discriminator_learning_rate": POSITIVE, "betas": lists(RATE, 2, 2),
        "discriminator": one_of(("patches", "pyramid")), "discriminator_channels": CHANNELS,
        "discriminator_layers": numbers(2, 8), "discriminator_scales": numbers(1, 4),
        "feature_weight": WEIGHT, "kld_weight": WEIGHT, "l1_weight": WEIGHT, "routing_weight": WEIGHT,
        "perceptual": one_of(("vgg", "segmenter", "none")), "perceptual_weight": WEIGHT,
        "held_out": numbers(0, 10 ** 9), "metrics_every": STEPS, "keep_best": numbers(0, 10 ** 6),
        "best_by": one_of(METRICS)},
    "training": {
        **RUN, "checkpointing": one_of(CHECKPOINTING), "precision": one_of(runtime.PRECISIONS),
        "more_ema_rates": lists(RATE, 0, 16), "label_drop": SHARE, "loss": one_of(LOSSES),
        "weighting": one_of(WEIGHTINGS),
        "held_out": numbers(0, 10 ** 9), "metrics_every": STEPS, "keep_best": numbers(0, 10 ** 6),
        "best_by": one_of(("loss", *(f"loss_q{q}" for q in (1, 2, 3, 4)), *METRICS))},
    "autoencoder_training": {
        **RUN, "checkpointing": one_of(CHECKPOINTING), "crop": numbers(LEAST_CROP, 2 ** 14, 16),
        "perceptual_weight": WEIGHT, "gradient_weight": WEIGHT, "square_weight": WEIGHT,
        "refit": (lambda v: 0 <= v <= 0.5, "a number from 0 to 0.5"),
        "codebook_weight": WEIGHT,
        "discriminator_weight": WEIGHT, "discriminator_start": FROM_STEP,
        "discriminator_channels": numbers(8, 2 ** 12, 8), "quantize_after": FROM_STEP},
    "segmenter_training": {**RUN, "least_crop": (lambda v: 0.01 <= v <= 1, "a number from 0.01 to 1")},
}


class Refusal:
    """Raises the UserErrors of one config.

    where: the config's file. overridden: keys that were set on the command line, whose errors do not name
    the file.
    """

    def __init__(self, where: Optional[object], overridden: Sequence[str]) -> None:
        self.where, self.overridden = where, overridden

    def __call__(self, name: str, value: Any, allowed: str, of: str = "") -> NoReturn:
        subject = name if self.where is None or name in self.overridden else f"{self.where}: {name}"
        raise UserError(subject, f"is {short(value)}{of}", f"choose {allowed}")


def check(config: dict, where: Optional[object] = None, overridden: Sequence[str] = ()) -> None:
    """Raise a UserError that names the key if a value cannot be used by any network or training.

    where, overridden: see Refusal.
    """
    refuse = Refusal(where, overridden)
    _check_rules(config, RULES, refuse, "")
    _check_autoencoder(config["autoencoder"], refuse)
    _check_unet(config["unet"], refuse)
    hidden = config["segmenter"]["hidden"]
    if any(h % hidden[0] for h in hidden):
        refuse("segmenter.hidden", hidden, "a list of multiples of its first")
    _check_gan(config, refuse)
    _check_trainings(config, refuse)


def _check_rules(tree: Mapping[str, Any], rules: Mapping[str, Any], refuse: Refusal, prefix: str) -> None:
    for key, rule in rules.items():
        name, value = prefix + key, tree[key]
        if isinstance(rule, dict):
            _check_rules(value, rule, refuse, f"{name}.")
        elif not rule[0](value):
            refuse(name, value, rule[1])


def _check_autoencoder(options: Mapping[str, Any], refuse: Refusal) -> None:
    if options["channels"] % options["norm_groups"]:
        refuse("autoencoder.norm_groups", options["norm_groups"], "a divisor of channels",
               f" for {options['channels']} channels")


def _check_unet(options: Mapping[str, Any], refuse: Refusal) -> None:
    mult, channels = options["channel_mult"], options["channels"]
    for m in mult:
        if channels * m % options["norm_groups"]:
            refuse("unet.norm_groups", options["norm_groups"], "a divisor of every level's channels",
                   f" for {channels * m} channels")
    attended = {m for i, m in enumerate(mult) if 2 ** i in options["attention_downsampling"]} | {mult[-1]}
    for m in sorted(attended):
        if channels * m % options["head_channels"]:
            refuse("unet.head_channels", options["head_channels"],
                   "a divisor of the channels of every attention layer", f" for {channels * m} channels")


def _check_gan(config: Mapping[str, Any], refuse: Refusal) -> None:
    kind, options = config["kind"], config["gan"]
    if kind == "sean" and options["vae"]:
        refuse("gan.vae", True, "false", " for sean, which has an encoder of its own")
    if kind == "scgan" and options["upsampling"] == "most":
        refuse("gan.upsampling", "most", "normal or more", " for scgan, whose routing has seven levels")


def _check_trainings(config: Mapping[str, Any], refuse: Refusal) -> None:
    training, rates = config["training"], config["training"]["more_ema_rates"]
    if len({f"{v:g}" for v in [*rates, training["ema_rate"]]}) <= len(rates):    # %g: as in file names
        refuse("training.more_ema_rates", rates, "different rates, none equal to ema_rate")
    if training["loss"] != "mse" and not config["unet"]["learn_sigma"]:
        refuse("training.loss", training["loss"], "mse", " without unet.learn_sigma")
    _check_sizes(config, refuse)
    autoencoder = config["autoencoder"]
    if config["autoencoder_training"]["linear_start"]:
        groups = autoencoder["norm_groups"]
        if groups < 3 or autoencoder["channels"] // groups < 4:
            refuse("autoencoder_training.linear_start", True, "3 or more norm_groups of 4 or more channels",
                   f" for {autoencoder['channels']} channels in {groups} groups")
        if autoencoder["z_channels"] != LATENT_CHANNELS:
            refuse("autoencoder_training.linear_start", True, f"autoencoder.z_channels={LATENT_CHANNELS}",
                   f" for {autoencoder['z_channels']} z_channels")


def _check_sizes(config: Mapping[str, Any], refuse: Refusal) -> None:
    """`training.sizes`: the image sizes of a run's earlier steps."""
    width, height = config["image_size"]
    reached = 0
    for part in config["training"]["sizes"]:
        for key, rule in SIZES.items():
            if not rule[0](part[key]):
                refuse(f"training.sizes.{key}", part[key], rule[1])
        if part["until"] <= reached:
            refuse("training.sizes.until", part["until"], f"a step after {reached}, in ascending order")
        reached = part["until"]
        if part["size"][0] * height != part["size"][1] * width:
            refuse("training.sizes.size", part["size"], f"the proportions of image_size, {width} x {height}")


def check_networks(config: dict, names: Sequence[str], where: Optional[object] = None,
                   overridden: Sequence[str] = ()) -> None:
    """Raise UserError if the networks `names` (unet, autoencoder, segmenter, gan) of a config cannot run.

    The image size must be divisible by their downsampling factor. Their weights, and on the CPU their
    largest feature map, must fit into this machine's memory.
    """
    refuse = Refusal(where, overridden)
    size, step = config["image_size"], _multiple(config, names)
    if "gan" in names:
        _check_gan_size(config, refuse)
    if "unet" in names and config["kind"] != "iidm":
        refuse("kind", config["kind"], "iidm", ", whose model folder has no diffusion model")
    if any(side % step for side in size):
        refuse("image_size", size, f"a width and a height that are multiples of {step}")
    for part in config["training"]["sizes"] if "unet" in names else ():
        if any(side % step for side in part["size"]):
            refuse("training.sizes.size", part["size"], f"a width and a height that are multiples of {step}")
    if "segmenter" in names:
        _check_segmenter_size(config, refuse)
    memory = sizes.machine_memory()
    for name in names:
        weights = sizes.FLOAT * sizes.parameters(config, name)
        maps = 0 if runtime.on_gpu() else sizes.largest(config, name)
        if weights > memory:
            refuse(name, f"a network of {weights / 1e9:.3g} GB",
                   f"one that fits into the {memory / 1e9:.3g} GB of this machine")
        if maps > memory:
            refuse("image_size", size, f"a size that fits into the {memory / 1e9:.3g} GB of this machine",
                   f", whose feature maps in the {name} take {maps / 1e9:.3g} GB")


def _multiple(config: Mapping[str, Any], names: Sequence[str]) -> int:
    """The networks' downsampling factor, which must divide the sides of a picture."""
    step = sizes.factor(config["autoencoder"]) if set(names) & {"unet", "autoencoder"} else 1
    return step * (sizes.factor(config["unet"]) if "unet" in names else 1)


def seeds(text: str, where: object) -> list[int]:
    """Seeds from a text such as "0..3" or "1,5,9". Raises UserError about `where`."""
    found: list[int] = []
    for part in text.split(","):
        ends = [end.strip() for end in part.split("..")]
        if len(ends) > 2 or not all(end.isascii() and end.isdecimal() and len(end) < 11 for end in ends):
            raise UserError(where, f"is {short(text)}", "write 0..3 or 1,5,9")
        first, last = int(ends[0]), int(ends[-1])
        if not first <= last <= LARGEST_SEED:
            raise UserError(where, f"is {short(text)}", f"count up, from 0 to {LARGEST_SEED} at most")
        if last - first >= MOST_SEEDS or len(found) + last - first >= MOST_SEEDS:
            raise UserError(where, f"is {short(text)}", f"give {MOST_SEEDS} seeds at most")
        found += range(first, last + 1)
    if len(set(found)) != len(found):
        raise UserError(where, f"is {short(text)}, with a seed that occurs twice", "leave it out")
    return found


def resized(config: dict, size: Sequence[int], where: object = "size") -> dict:
    """A copy of a checked config for pictures of another size = (width, height), to make them.

    Raises UserError about `where` for a size that the U-Net and the autoencoder cannot compute, with the
    nearest one that they can, and for one that does not fit into this machine's memory.
    """
    names, largest = ("unet", "autoencoder"), 2 ** 14
    step = _multiple(config, names)
    if (not isinstance(size, (list, tuple)) or len(size) != 2
            or not all(isinstance(side, Integral) and not isinstance(side, bool) for side in size)):
        raise UserError(where, f"is {short(size)}", "give a width and a height in pixels")
    size = [int(side) for side in size]
    nearest = [min(max(step, round(side / step) * step), largest // step * step) for side in size]
    if size != nearest:
        raise UserError(where, f"is {size[0]} x {size[1]}",
                        f"choose multiples of {step}, such as {nearest[0]} x {nearest[1]}")
    other = {**config, "image_size": size}
    try:
        check_networks(other, names)
    except UserError as e:
        raise UserError(where, *e.args[1:]) from None
    return other


def _check_gan_size(config: Mapping[str, Any], refuse: Refusal) -> None:
    """A GAN's config must name its kind, and each doubling must halve the picture's sides evenly."""
    if config["kind"] == "iidm":
        refuse("kind", config["kind"], ", ".join(KINDS[1:]), ", which is no GAN")
    step = 2 ** UPSAMPLINGS[config["gan"]["upsampling"]]
    if any(side % step for side in config["image_size"]):
        refuse("image_size", config["image_size"], f"a width and a height that are multiples of {step}",
               f" for gan.upsampling={config['gan']['upsampling']}")


def _check_segmenter_size(config: Mapping[str, Any], refuse: Refusal) -> None:
    """Each stage's map must be at least as large as the square that its attention reduces to one position."""
    options = config["segmenter"]
    first = (options["patch"] + 1) // 2
    least = max(reduction * first * 2 ** i for i, reduction in enumerate(options["reductions"]))
    if min(config["image_size"]) < least:
        refuse("image_size", config["image_size"], f"{least} or more pixels per side for this segmenter")
