"""A start for small autoencoders: at first they are linear, with mean colours in and smooth colours out.

From random weights a small autoencoder needs thousands of steps to learn colours, because of its
normalisations. Here each colour has a group of channels of its own with the values x, -x, K and -K. The pair
makes the group's mean 0 and K fixes its deviation, so that the normalisation changes nothing. At large
arguments SiLU is nearly linear: so is silu(4 + x) - silu(4 - x). The residual branches begin at 0, all other
channels at random.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from ldm.backend import jt

K, LIFT = 4.0, 4.0
# The slope of silu(LIFT + x) - silu(LIFT - x) at 0.
SLOPE = 2 * (1 / (1 + np.exp(-LIFT)) * (1 + LIFT / (1 + np.exp(LIFT))))
MEAN_OF_4 = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]]) / 4                 # a convolution of stride 2
BILINEAR = np.outer([1, 2, 1], [1, 2, 1]) / 16                              # after nearest upsampling
HERE = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def channels(width: int, groups: int) -> list[list[int]]:
    """For each colour the channels of (x, -x, K, -K), in a layer of `width` channels. ValueError for fewer
    than three groups, or groups of fewer than four."""
    size = width // groups
    if size < 4 or groups < 3:
        raise ValueError(f"{width} channels in {groups} groups are too few for three groups of four")
    return [[c * size + j for j in range(4)] for c in range(3)]


def linear_start(network: Any, groups: int) -> None:
    """Set the weights of a new Autoencoder in place: 3 latent channels, norms of `groups` groups."""
    state = {name: p.numpy() for name, p in network.state_dict().items()}
    for name, w in state.items():
        if ".conv2." in name or ".proj_out." in name:
            w[:] = 0
        elif name.endswith("nin_shortcut.weight"):
            keep(w, state[name[:-6] + "bias"], [np.ones((1, 1))] * 4, groups)
        elif name.endswith("downsample.conv.weight"):
            keep(w, state[name[:-6] + "bias"], [MEAN_OF_4] * 4, groups)
        elif name.endswith("upsample.conv.weight"):
            keep(w, state[name[:-6] + "bias"], [BILINEAR, BILINEAR, HERE, HERE], groups)
    for part in ("encoder", "decoder"):
        enter(state[f"{part}.conv_in.weight"], state[f"{part}.conv_in.bias"], groups)
        leave(state, part, groups)
    for name in ("quant_conv", "post_quant_conv"):
        state[f"{name}.weight"][:, :, 0, 0], state[f"{name}.bias"][:] = np.eye(3), 0
    network.load_state_dict({name: jt.array(w) for name, w in state.items()})


def clear(w: np.ndarray, b: np.ndarray, width: int, groups: int) -> None:
    """Set the colours' groups of a convolution's output to 0: nothing random may enter them."""
    last = 3 * (width // groups)
    w[:last], b[:last] = 0, 0


def enter(w: np.ndarray, b: np.ndarray, groups: int) -> None:
    """Make a convolution put its three input channels into the colours' groups."""
    clear(w, b, len(w), groups)
    for c, (plus, minus, high, low) in enumerate(channels(len(w), groups)):
        w[plus, c], w[minus, c], b[high], b[low] = HERE, -HERE, K, -K


def keep(w: np.ndarray, b: np.ndarray, kernels: Sequence[np.ndarray], groups: int) -> None:
    """Make a convolution pass the colours' groups on, with one kernel for each of the four channels."""
    clear(w, b, len(w), groups)
    for ours, theirs in zip(channels(len(w), groups), channels(w.shape[1], groups)):
        for i, j, kernel in zip(ours, theirs, kernels):
            w[i, j] = kernel


def leave(state: dict[str, np.ndarray], part: str, groups: int) -> None:
    """Make the last norm, SiLU and convolution of a part turn the colours' groups into three channels."""
    scale, shift = state[f"{part}.norm_out.weight"], state[f"{part}.norm_out.bias"]
    w, b = state[f"{part}.conv_out.weight"], state[f"{part}.conv_out.bias"]
    w[:], b[:] = 0, 0
    for c, (plus, minus, _, _) in enumerate(channels(len(scale), groups)):
        scale[[plus, minus]], shift[[plus, minus]] = K * np.sqrt(2 * groups / len(scale)), LIFT
        w[c, plus], w[c, minus] = HERE / SLOPE, -HERE / SLOPE
