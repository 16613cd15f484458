"""Values that no training can have are refused before anything starts, by their key."""
import copy

import pytest

from ldm import config as configs
from ldm.errors import UserError
from ldm.training import options


@pytest.mark.parametrize("key, value", [
    ("batch_size", 0), ("steps", 0), ("save_every", 0), ("sample_every", -1), ("log_every", 0), ("keep", 0),
    ("keep_best", -1), ("warmup_steps", -1), ("micro_batch", -1), ("learning_rate", 0.0), ("decay", "linear"),
    ("weight_decay", -0.1), ("label_drop", 1.5), ("ema_rate", 1.0), ("held_out", -1.0), ("metrics_every", 0),
    ("more_ema_rates", [0.5, 2.0]), ("more_ema_rates", ["0.9"]), ("more_ema_rates", [0.9999]),
    ("more_ema_rates", [0.5, 0.5]), ("seed", -1),
])
def test_values_that_are_refused(key, value):
    config = copy.deepcopy(configs.DEFAULTS)
    config["training"][key] = value
    with pytest.raises(UserError, match=rf"^training\.{key}: is .* is needed"):
        options.check(config, "training")


@pytest.mark.parametrize("key, value", [
    ("crop", 16), ("crop", 250), ("discriminator_channels", 0), ("discriminator_channels", 12),
    ("discriminator_start", -1), ("discriminator_weight", -0.5), ("quantize_after", -1),
    ("perceptual_weight", -1.0),
])
def test_values_that_are_refused_of_an_autoencoder(key, value):
    config = copy.deepcopy(configs.DEFAULTS)
    config["autoencoder_training"][key] = value
    with pytest.raises(UserError, match=rf"^autoencoder_training\.{key}: is .* is needed"):
        options.check(config, "autoencoder_training")


def test_what_the_configs_say_is_allowed():
    for section in ("training", "autoencoder_training", "segmenter_training"):
        options.check(configs.DEFAULTS, section)
    options.check_size(configs.DEFAULTS)


@pytest.mark.parametrize("size", [[512, 100], [512], [0, 64], [520, 384]])
def test_image_sizes(size):
    with pytest.raises(UserError, match="image_size: is .* multiples of 64"):
        options.check_size({**configs.DEFAULTS, "image_size": size})
