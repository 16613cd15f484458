"""Compares the config inside a weight file with the config that it is used with."""
from __future__ import annotations

from typing import Callable

from ldm.config import DEFAULTS
from ldm.errors import UserError
from ldm.files import Name

# The sections that must be equal, for the weights of each network. An autoencoder has no schedule and works
# at any size.
SECTIONS = {"unet": ("image_size", "schedule", "unet", "autoencoder"), "autoencoder": ("autoencoder",),
            "segmenter": ("segmenter",), "generator": ("kind", "image_size", "gan"),
            "encoder": ("kind", "image_size", "gan")}
FREE = ("unet.dropout", "gan.sean.style_mask")      # used in training only; chosen when pictures are made


def differing(one: dict, other: dict, prefix: str = "") -> list[str]:
    """The dotted keys whose values differ between two trees, sorted."""
    found = []
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differing(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return sorted(found)


def network_sections(config: dict, part: str) -> dict:
    """The sections of `config` that matter for a part's weights, completed with the defaults."""
    sections = {}
    for key in SECTIONS[part]:
        value, default = config.get(key, DEFAULTS[key]), DEFAULTS[key]
        completed = isinstance(value, dict) and isinstance(default, dict)
        sections[key] = {**default, **value} if completed else value        # type: ignore[dict-item]
    if part == "unet" and isinstance(sections["autoencoder"], dict):
        del sections["autoencoder"]["codebook_size"]            # it works on latents before quantisation
    return sections


def refuse_other_config(path: Name, found: dict | None, config: dict, part: str,
                        of: Name = "the config") -> None:
    """Raise a UserError that names the keys if the weights in `path` were made for another config.

    found: the config in the file; None, as in foreign files, is accepted. part: a key of SECTIONS.
    of: the name of `config` in the error.
    """
    if not isinstance(found, dict):
        return
    keys = [key for key in differing(network_sections(found, part), network_sections(config, part))
            if key not in FREE]
    if keys:
        raise UserError(path, f"was made with other values of {', '.join(keys)} than {of} has",
                        "use the config that belongs to these weights")


def with_config(path: Name, config: dict, part: str,
                of: Name = "the config") -> Callable[[dict | None], None]:
    """`refuse_other_config` as a function of the config that is found in `path`, for `weights.load`."""
    return lambda found: refuse_other_config(path, found, config, part, of)
