"""The config kept inside a file of weights against the one that is about to be used with it."""
from __future__ import annotations

from ldm.config import DEFAULTS
from ldm.errors import UserError

# The sections that must agree, by the network whose weights they are: what the weights were trained for. An
# autoencoder knows no schedule and works at any size.
SECTIONS = {"unet": ("image_size", "schedule", "unet", "autoencoder"), "autoencoder": ("autoencoder",)}
FREE = ("unet.dropout",)                    # of training only


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
    """The sections of `config` that matter for a part's weights, with the defaults of what it leaves out."""
    made = {}
    for key in SECTIONS[part]:
        value, default = config.get(key, DEFAULTS[key]), DEFAULTS[key]
        made[key] = {**default, **value} if isinstance(value, dict) and isinstance(default, dict) else value
    return made


def refuse_other_config(path, found: dict | None, config: dict, part: str, of="the config") -> None:
    """UserError, which names the keys, if the weights in `path`, kept with the config `found`, are for
    another network than `config` describes. found: None, as in foreign files, is no fault; part: "unet" or
    "autoencoder"; of: what the error calls `config`."""
    if not isinstance(found, dict):
        return
    keys = [key for key in differing(network_sections(found, part), network_sections(config, part))
            if key not in FREE]
    if keys:
        raise UserError(path, f"was made with other values of {', '.join(keys)} than {of} has",
                        "use the config that belongs to these weights")
