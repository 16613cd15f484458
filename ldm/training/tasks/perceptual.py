"""LPIPS from the published files of its weights."""
from __future__ import annotations

import re
from typing import Any, Sequence

from ldm.errors import UserError
from ldm.networks.lpips import LPIPS
from ldm.weights import fill, read_state

# Names in torchvision's VGG16; in the lpips package and in CompVis' code, alone or inside a VQ-GAN; and in
# the lpips package's file of the linear layers. All other names are ignored (VGG16's classifier, the VQ-GAN).
RULES = (
    (re.compile(r"(?:.*\.)?features\.(\d+)\.(weight|bias)"), r"conv\1.\2"),
    (re.compile(r"(?:.*\.)?net\.slice\d\.(\d+)\.(weight|bias)"), r"conv\1.\2"),
    (re.compile(r"(?:.*\.)?lin(\d)\.model\.1\.weight"), r"lin\1"),
)


def open_lpips(paths: Sequence[str]) -> LPIPS:
    """An LPIPS with the weights in the files `paths`: VGG16 and the linear layers, in one file or in two.

    UserError if a tensor is missing, has another shape, or is in two files. No code in the files is run.
    """
    state: dict[str, Any] = {}
    for path in paths:
        if not isinstance(path, str):
            raise UserError("autoencoder_training.lpips", f"names {path!r}", "give a list of paths")
        for name, array in renamed(read_state(path)[0]).items():
            if name in state:
                raise UserError(path, f"holds {name}, which another file holds too",
                                "remove one of the two from the list")
            state[name] = array
    network = LPIPS()
    fill(network, state, " + ".join(paths))
    return network


def renamed(state: dict[str, Any]) -> dict[str, Any]:
    """The tensors of a file that belong to LPIPS, under our names. A linear layer's weight 1 x C x 1 x 1 gets
    the shape C."""
    found = {}
    for name, array in state.items():
        for pattern, ours in RULES:
            match = pattern.fullmatch(name)
            if match:
                new = match.expand(ours)
                found[new] = array.reshape(-1) if new.startswith("lin") else array
    return found
