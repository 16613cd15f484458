"""The diffusion process, which knows no network. `Schedule`, samplers and guidance need no Jittor; losses do."""
from ldm.diffusion.schedule import Schedule

__all__ = ["Schedule"]
