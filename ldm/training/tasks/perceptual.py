"""LPIPS from the files of weights that were published for it."""
import re

from ldm.errors import UserError
from ldm.networks.lpips import LPIPS
from ldm.weights import fill, read_state

# Names in torchvision's VGG16; in the lpips package, which CompVis' code follows, alone or within a VQ-GAN;
# and in lpips' file of the linear layers. Other names (VGG16's classifier, the VQ-GAN) are not needed.
RULES = (
    (re.compile(r"(?:.*\.)?features\.(\d+)\.(weight|bias)"), r"conv\1.\2"),
    (re.compile(r"(?:.*\.)?net\.slice\d\.(\d+)\.(weight|bias)"), r"conv\1.\2"),
    (re.compile(r"(?:.*\.)?lin(\d)\.model\.1\.weight"), r"lin\1"),
)


def open_lpips(paths):
    """The LPIPS whose weights the files `paths` hold together: VGG16's and the linear layers', or all in one.

    UserError where one is missing, of another shape, or there twice. No code of the files is run.
    """
    state = {}
    for path in paths:
        if not isinstance(path, str):
            raise UserError("autoencoder_training.lpips", f"names {path!r}", "paths of files are needed")
        for name, array in renamed(read_state(path)[0]).items():
            if name in state:
                raise UserError(path, f"holds {name} again", "each tensor in one of the files is needed")
            state[name] = array
    network = LPIPS()
    fill(network, state, " + ".join(paths))
    return network


def renamed(state):
    """What of a file belongs to LPIPS, under our names; a linear layer's 1 x C x 1 x 1 weight as C."""
    found = {}
    for name, array in state.items():
        for pattern, ours in RULES:
            match = pattern.fullmatch(name)
            if match:
                new = match.expand(ours)
                found[new] = array.reshape(-1) if new.startswith("lin") else array
    return found
