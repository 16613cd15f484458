"""The networks of a config: `kind` (gaugan, clade, sean, scgan), `image_size` and the section `gan`."""
from __future__ import annotations

from typing import Any, Optional

from ldm.baselines.clade import CLADE
from ldm.baselines.discriminators import FeaturePyramid, MultiScale
from ldm.baselines.encoder import Encoder
from ldm.baselines.gaugan import GauGAN
from ldm.baselines.scgan import SCGAN
from ldm.baselines.sean import SEAN
from ldm.errors import UserError
from ldm.labels import NUM_CLASSES
from ldm.weights.names import BESIDE, COUNTER


def generator(config: dict) -> Any:
    """The generator."""
    kind, o = config["kind"], config["gan"]
    own = o[kind] if kind in o else {}
    shared = {"channels": o["channels"], "upsampling": o["upsampling"], "spectral": o["spectral_norm"]}
    place = tuple(config["image_size"]), NUM_CLASSES
    z_dim = o["z_dim"] if o["vae"] else 0
    if kind == "gaugan":
        return GauGAN(*place, **shared, z_dim=z_dim, hidden=o["hidden"])
    if kind == "clade":
        return CLADE(*place, **shared, z_dim=z_dim, distance=own["distance"])
    if kind == "sean":
        return SEAN(*place, **shared, hidden=o["hidden"], length=own["style_length"],
                    style_channels=own["style_channels"])
    return SCGAN(*place, **shared, z_dim=z_dim, hidden=o["hidden"], first=own["first"],
                 routing=own["routing"], experts=(own["conv_experts"], own["norm_experts"]),
                 temperature=own["temperature"],
                 routing_spectral=own["routing_spectral_norm"] and o["spectral_norm"],
                 position_levels=own["position_levels"], nearest=own["nearest"])


def encoder(config: dict) -> Optional[Encoder]:
    """The encoder of style vectors; None without VAE."""
    o = config["gan"]
    return Encoder(o["encoder_channels"], o["z_dim"], o["spectral_norm"]) if o["vae"] else None


def discriminator(config: dict) -> Any:
    """The discriminator."""
    o, spectral = config["gan_training"], config["gan"]["spectral_norm"]
    if o["discriminator"] == "pyramid":
        return FeaturePyramid(NUM_CLASSES, o["discriminator_channels"], spectral)
    return MultiScale(NUM_CLASSES, o["discriminator_channels"], o["discriminator_layers"],
                      o["discriminator_scales"], config["kind"] == "sean", spectral)


def expected_shapes(config: dict, part: str) -> dict[str, tuple[int, ...]]:
    """name -> shape of the network of a config, "generator" or "encoder". UserError if it has none."""
    network = {"generator": generator, "encoder": encoder}[part](config)
    if network is None:
        raise UserError("--part", f"is {part}, which a model with gan.vae=false does not have",
                        "give --part generator")
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def published_shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """name -> shape as in the published files of weights, with PyTorch's counters of batches (shape ())."""
    found: dict[str, tuple[int, ...]] = {}
    for name, value in network.state_dict().items():
        found[name] = tuple(value.shape)
        if name.endswith(BESIDE):
            found[name[:-len(BESIDE)] + COUNTER] = ()
    return found
