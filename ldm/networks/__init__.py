"""Networks, which know no schedule: `UNet` predicts noise, `Autoencoder` maps images to latents and back."""
from ldm.networks.autoencoder import Autoencoder
from ldm.networks.unet import UNet

__all__ = ["Autoencoder", "UNet"]
