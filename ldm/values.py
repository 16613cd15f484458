"""What the values of a config may be: the one place that says so, asked before anything is built or compiled.

ldm/config.py knows keys and types. Here are ranges and choices, what the values of a network must be to each
other so that it can be built, and what memory its weights take.
"""
from typing import Optional, Sequence

from ldm import sizes
from ldm.documents import short
from ldm.errors import UserError
from ldm.labels import NUM_CLASSES
from ldm.platform import runtime

SCHEDULES = ("linear", "cosine", "paper")
LOSSES = ("mse", "mse+vb", "mse+vb_rescaled")
DECAYS = ("none", "cosine")
CHECKPOINTING = ("none", "blocks")
LATENT_CHANNELS = 3                     # of the latents that the U-Net is made for
LARGEST_SEED = 2 ** 31 - 1              # what every library here takes
LEAST_CROP = 32


def numbers(least, most, step=1):
    """The rule of a number from `least` to `most`, a multiple of `step` if that is not 1."""
    kind = "a number" if step == 1 else f"a multiple of {step}"
    return lambda v: least <= v <= most and (step == 1 or v % step == 0), f"{kind} from {least:,} to {most:,}"


def one_of(words):
    return lambda v: v in words, f"one of {', '.join(words)}"


def lists(rule, least, most):
    """The rule of a list of `least` to `most` values that follow `rule` each."""
    is_right, words = rule
    length = f"{least}" if least == most else f"{least} to {most}"
    return (lambda v: least <= len(v) <= most and all(map(is_right, v)), f"a list of {length}, each {words},")


RATE = (lambda v: 0 <= v < 1, "a rate of 0 to below 1")
SHARE = (lambda v: 0 <= v <= 1, "a share of 0 to 1")
POSITIVE = (lambda v: 0 < v <= 1e30, "a number above 0")
WEIGHT = (lambda v: 0 <= v <= 1e30, "a number not below 0")
STEPS = numbers(1, 10 ** 9)
FROM_STEP = numbers(0, 10 ** 9)
CHANNELS = numbers(1, 2 ** 16)
MULT = lists(numbers(1, 64), 1, 8)
BLOCKS = numbers(1, 64)

RUN = {"learning_rate": POSITIVE, "weight_decay": WEIGHT, "batch_size": numbers(1, 2 ** 20), "steps": STEPS,
       "warmup_steps": FROM_STEP, "micro_batch": numbers(0, 2 ** 20), "decay": one_of(DECAYS),
       "ema_rate": RATE, "seed": numbers(0, LARGEST_SEED), "save_every": STEPS,
       "sample_every": STEPS, "log_every": STEPS, "keep": numbers(1, 10 ** 6)}
RULES = {
    "image_size": lists(numbers(1, 2 ** 14), 2, 2),
    "schedule": one_of(SCHEDULES),
    "autoencoder": {
        "channels": CHANNELS, "channel_mult": MULT, "num_res_blocks": BLOCKS, "z_channels": CHANNELS,
        "codebook_size": numbers(1, 2 ** 24), "norm_groups": CHANNELS,
        "embed_dim": (lambda v: v == LATENT_CHANNELS, f"{LATENT_CHANNELS}, which the U-Net's latents have,")},
    "unet": {
        "num_classes": (lambda v: v == NUM_CLASSES, f"{NUM_CLASSES}, the classes of label maps,"),
        "channels": numbers(2, 2 ** 16, 2), "channel_mult": MULT, "num_res_blocks": BLOCKS,
        "attention_downsampling": lists(numbers(1, 2 ** 10), 0, 16), "head_channels": CHANNELS,
        "dropout": RATE, "spade_channels": CHANNELS, "norm_groups": CHANNELS},
    "segmenter": {
        "hidden": lists(CHANNELS, 4, 4), "depths": lists(numbers(1, 256), 4, 4), "decoder": CHANNELS,
        "reductions": lists(numbers(1, 64), 4, 4), "mlp_ratio": numbers(1, 64),
        "num_classes": (lambda v: v == NUM_CLASSES, f"{NUM_CLASSES}, the classes of label maps,"),
        "patch": (lambda v: v in (3, 7), "3 or 7")},
    "training": {
        **RUN, "checkpointing": one_of(CHECKPOINTING), "precision": one_of(runtime.PRECISIONS),
        "more_ema_rates": lists(RATE, 0, 16), "label_drop": SHARE, "loss": one_of(LOSSES),
        "held_out": numbers(0, 10 ** 9), "metrics_every": STEPS, "keep_best": numbers(0, 10 ** 6)},
    "autoencoder_training": {
        **RUN, "checkpointing": one_of(CHECKPOINTING), "crop": numbers(LEAST_CROP, 2 ** 14, 16),
        "perceptual_weight": WEIGHT, "gradient_weight": WEIGHT, "codebook_weight": WEIGHT,
        "discriminator_weight": WEIGHT, "discriminator_start": FROM_STEP,
        "discriminator_channels": numbers(8, 2 ** 12, 8), "quantize_after": FROM_STEP},
    "segmenter_training": {**RUN, "least_crop": (lambda v: 0.01 <= v <= 1, "a share of 0.01 to 1")},
}


class Refusal:
    """Raises the UserErrors of one config. where: its file; overridden: names that were given beside it,
    which the file is not to blame for."""

    def __init__(self, where, overridden):
        self.where, self.overridden = where, overridden

    def __call__(self, name, value, allowed, of=""):
        subject = name if self.where is None or name in self.overridden else f"{self.where}: {name}"
        raise UserError(subject, f"is {short(value)}{of}", f"{allowed} is needed")


def check(config: dict, where: Optional[object] = None, overridden: Sequence[str] = ()) -> None:
    """Refuse a value that no network and no training can have, with a UserError that names its key."""
    refuse = Refusal(where, overridden)
    _check_rules(config, RULES, refuse, "")
    _check_autoencoder(config["autoencoder"], refuse)
    _check_unet(config["unet"], refuse)
    hidden = config["segmenter"]["hidden"]
    if any(h % hidden[0] for h in hidden):
        refuse("segmenter.hidden", hidden, "a list of multiples of its first")
    _check_trainings(config, refuse)


def _check_rules(tree, rules, refuse, prefix):
    for key, rule in rules.items():
        name, value = prefix + key, tree[key]
        if isinstance(rule, dict):
            _check_rules(value, rule, refuse, f"{name}.")
        elif not rule[0](value):
            refuse(name, value, rule[1])


def _check_autoencoder(o, refuse):
    if o["channels"] % o["norm_groups"]:
        refuse("autoencoder.norm_groups", o["norm_groups"], "a divisor of channels",
               f" for {o['channels']} channels")


def _check_unet(o, refuse):
    for m in o["channel_mult"]:
        if o["channels"] * m % o["norm_groups"]:
            refuse("unet.norm_groups", o["norm_groups"], "a divisor of every level's channels",
                   f" for {o['channels'] * m} channels")
    levels = enumerate(o["channel_mult"])
    attended = {m for i, m in levels if 2 ** i in o["attention_downsampling"]} | {o["channel_mult"][-1]}
    for m in sorted(attended):
        if o["channels"] * m % o["head_channels"]:
            refuse("unet.head_channels", o["head_channels"], "a divisor of the channels of every attention",
                   f" for {o['channels'] * m} channels")


def _check_trainings(config, refuse):
    o, rates = config["training"], config["training"]["more_ema_rates"]
    if len({f"{v:g}" for v in [*rates, o["ema_rate"]]}) <= len(rates):           # as in their files' names
        refuse("training.more_ema_rates", rates, "a list of rates all different and other than ema_rate")
    if o["loss"] != "mse" and not config["unet"]["learn_sigma"]:
        refuse("training.loss", o["loss"], "mse", " without unet.learn_sigma")
    o, autoencoder = config["autoencoder_training"], config["autoencoder"]
    if o["linear_start"]:
        groups = autoencoder["norm_groups"]
        if groups < 3 or autoencoder["channels"] // groups < 4:
            refuse("autoencoder_training.linear_start", True, "3 or more norm_groups of 4 or more channels",
                   f" for {autoencoder['channels']} channels in {groups} groups")
        if autoencoder["z_channels"] != LATENT_CHANNELS:
            refuse("autoencoder_training.linear_start", True, f"autoencoder.z_channels={LATENT_CHANNELS}",
                   f" for {autoencoder['z_channels']} z_channels")


def check_networks(config: dict, names: Sequence[str], where: Optional[object] = None,
                   overridden: Sequence[str] = ()) -> None:
    """Refuse what the networks `names` (unet, autoencoder, segmenter) of a checked config cannot do: pictures
    that they cannot halve as often as they do, and weights or maps that this machine's memory cannot hold."""
    refuse = Refusal(where, overridden)
    size = config["image_size"]
    step = sizes.factor(config["autoencoder"]) if set(names) & {"unet", "autoencoder"} else 1
    step *= sizes.factor(config["unet"]) if "unet" in names else 1
    if any(side % step for side in size):
        refuse("image_size", size, f"a width and a height, multiples of {step},")
    if "segmenter" in names:
        _check_segmenter_size(config, refuse)
    memory = sizes.machine_memory()
    for name in names:
        weights = sizes.FLOAT * sizes.parameters(config, name)
        maps = 0 if runtime.on_gpu() else sizes.largest(config, name)
        if weights > memory:
            refuse(name, f"a network of {weights / 1e9:.3g} GB", f"one for the {memory / 1e9:.3g} GB here")
        if maps > memory:
            refuse("image_size", size, f"what fits into the {memory / 1e9:.3g} GB here",
                   f", whose maps in the {name} take {maps / 1e9:.3g} GB")


def _check_segmenter_size(config, refuse):
    """Each stage's map must be as large as the square that its attention takes together."""
    o = config["segmenter"]
    first = (o["patch"] + 1) // 2
    least = max(reduction * first * 2 ** i for i, reduction in enumerate(o["reductions"]))
    if min(config["image_size"]) < least:
        refuse("image_size", config["image_size"], f"{least} or more a side for this segmenter")
