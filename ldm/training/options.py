"""The values that a training section of a config may have; its keys and types ldm/config.py knows."""
from ldm.errors import UserError
from ldm.platform import runtime

DECAYS = ("none", "cosine")


def check(config, section):
    """Refuse a value of `config[section]` that no training can have, with a UserError that names its key."""
    o = config[section]

    def need(key, is_right, allowed):
        if key in o and not is_right(o[key]):
            raise UserError(f"{section}.{key}", f"is {o[key]!r}", f"{allowed} is needed")

    for key in ("batch_size", "steps", "save_every", "sample_every", "log_every", "metrics_every", "keep"):
        need(key, lambda v: v >= 1, "a number above 0")
    for key in ("warmup_steps", "keep_best", "micro_batch", "held_out", "weight_decay", "seed",
                "quantize_after", "perceptual_weight", "gradient_weight", "codebook_weight",
                "discriminator_weight", "discriminator_start"):
        need(key, lambda v: v >= 0, "a number not below 0")
    need("learning_rate", lambda v: v > 0, "a number above 0")
    need("crop", lambda v: v >= 32 and v % 16 == 0, "a multiple of 16 from 32 on")
    need("discriminator_channels", lambda v: v >= 8 and v % 8 == 0, "a multiple of 8")
    if "precision" in o:
        runtime.check_precision(o["precision"], f"{section}.precision")
    need("decay", lambda v: v in DECAYS, f"one of {', '.join(DECAYS)}")
    need("label_drop", lambda v: 0 <= v <= 1, "a share of 0 to 1")
    need("ema_rate", lambda v: 0 <= v < 1, "a rate of 0 to below 1")
    need("more_ema_rates", lambda rates: _are_rates([*rates, o["ema_rate"]]),
         "a list of rates of 0 to below 1, all different and other than ema_rate,")


def _are_rates(values):
    return (all(type(v) is float and 0 <= v < 1 for v in values)
            and len({f"{v:g}" for v in values}) == len(values))          # as in the names of their files


def check_size(config):
    """Refuse an `image_size` that the networks of `config` cannot halve as often as they do."""
    step = 2 ** (len(config["autoencoder"]["channel_mult"]) + len(config["unet"]["channel_mult"]) - 2)
    size = config["image_size"]
    if len(size) != 2 or any(side < 1 or side % step for side in size):
        raise UserError("image_size", f"is {size}", f"a width and a height, multiples of {step}, are needed")
