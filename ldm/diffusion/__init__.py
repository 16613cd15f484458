"""The diffusion process. It knows no network. Only the losses need Jittor."""
from ldm.diffusion.schedule import Schedule

__all__ = ["Schedule"]
