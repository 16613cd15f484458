"""Networks: `UNet` predicts noise, `Autoencoder` maps images to latents and back. They use no schedule."""
from ldm.networks.autoencoder import Autoencoder
from ldm.networks.unet import UNet

__all__ = ["Autoencoder", "UNet"]
