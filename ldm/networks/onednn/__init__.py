"""Inference on the CPU by oneDNN: activations in blocks of channels, weights packed once, fused operators."""
from __future__ import annotations

from ldm.backend import Module
from ldm.networks.onednn.autoencoder import BlockedAutoencoder
from ldm.networks.onednn.layers import translatable
from ldm.networks.onednn.unet import BlockedUNet
from ldm.networks.unet import UNet

__all__ = ["BlockedAutoencoder", "BlockedUNet", "for_inference"]


def for_inference(network: Module, height: int, width: int, winograd: bool = True,
                  consume: bool = False) -> Module:
    """A UNet or Autoencoder that computes in blocks, for inputs of this size, if the machine and the widths
    allow it; else the network itself. Both have the same methods. `winograd`: see operators.Convolution.
    consume: drop the network's weights on the way, so that they are never in memory twice; it is of no use
    afterwards."""
    if getattr(network, "_in_blocks", False) or not translatable(network):
        return network
    blocked = BlockedUNet if isinstance(network, UNet) else BlockedAutoencoder
    return blocked(network, height, width, winograd, consume)
