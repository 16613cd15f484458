"""The diffusion process: it knows no network. `Schedule`, samplers, guidance need no Jittor; losses do."""
from ldm.diffusion.schedule import Schedule

__all__ = ["Schedule"]
