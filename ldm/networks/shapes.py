"""The names and shapes of a config's network, to compare files of weights with."""
from __future__ import annotations

from ldm.networks import Autoencoder, UNet


def expected_shapes(config: dict, part: str) -> dict[str, tuple[int, ...]]:
    """name -> shape of the network of a config's section `part`, "unet" or "autoencoder"."""
    network = {"unet": UNet, "autoencoder": Autoencoder}[part](**config[part])
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
