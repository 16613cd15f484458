"""A model folder whose config is not that of its weights: refused, with the keys. Needs no Jittor."""
import pytest

from ldm import config as configs
from ldm.errors import UserError
from ldm.weights.agreement import refuse_other_config

CONFIG = configs.merge(configs.DEFAULTS, {"unet": {"channels": 64}}, "test")


@pytest.mark.parametrize("part, change, keys", [
    ("unet", {"schedule": "cosine"}, "schedule"),
    ("unet", {"image_size": [128, 96]}, "image_size"),
    ("unet", {"unet": {"channels": 64, "attention_downsampling": [4]}}, "unet.attention_downsampling"),
    ("unet", {"schedule": "cosine", "autoencoder": {"embed_dim": 4}}, "autoencoder.embed_dim, schedule"),
    ("autoencoder", {"autoencoder": {"num_res_blocks": 1}}, "autoencoder.num_res_blocks"),
    ("autoencoder", {"autoencoder": {"codebook_size": 0}}, "autoencoder.codebook_size"),
])
def test_what_matters_must_agree(part, change, keys):
    found = configs.merge(CONFIG, change, "test")
    with pytest.raises(UserError, match=f"^file: was made with other values of {keys} than model has"):
        refuse_other_config("file", found, CONFIG, part, "model")


@pytest.mark.parametrize("part, found", [
    ("unet", None),                                                     # a foreign file
    ("unet", {"unet": {"channels": 64}}),                               # what is left out has its default
    ("unet", configs.merge(CONFIG, {"training": {"steps": 7}, "unet": {"dropout": 0.3}}, "test")),
    ("unet", configs.merge(CONFIG, {"autoencoder": {"codebook_size": 0}}, "test")),     # latents are the same
    ("autoencoder", {"schedule": "cosine", "image_size": [256, 256]}),  # an autoencoder knows neither
])
def test_what_does_not_matter_may_differ(part, found):
    refuse_other_config("file", found, CONFIG, part)


def test_a_file_whose_config_is_no_config():
    with pytest.raises(UserError, match="^file: was made with other values of autoencoder than model has"):
        refuse_other_config("file", {**CONFIG, "autoencoder": 5}, CONFIG, "unet", "model")
