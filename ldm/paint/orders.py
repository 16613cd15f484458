"""Turns a job's JSON into an Order: every value is checked before the job may wait."""
from __future__ import annotations

import re
from typing import Any

from ldm.errors import UserError
from ldm.inference import rounds
from ldm.inference.rounds import Settings
from ldm.paint import limits, presets
from ldm.paint.errors import Refusal, gone, of_user_error
from ldm.paint.jobs import Order
from ldm.paint.presets import Presets
from ldm.paint.store import Mask, Reference, Store
from ldm.values import LARGEST_SEED

CLIENT = re.compile(r"[A-Za-z0-9_-]{1,64}")
NAME = re.compile(r"[\w-]{1,64}")           # of the mask: it becomes a file's name in a bundle
ID = re.compile(r"[0-9a-f]{32}")
KEYS = {"client", "mask", "reference", "seed", "name", "variations", "rounds"}


def read(tree: dict[str, Any], store: Store, known: Presets) -> Order:
    """The order in a job's JSON. Raises Refusal: 400 for its form, 404 for what is gone, 422 for values."""
    if unknown := sorted(set(tree) - KEYS):
        raise Refusal(400, str(unknown[0])[:60], "is not a key of a job", f"choose {', '.join(sorted(KEYS))}")
    mask = find(store, Mask, "mask", tree.get("mask"))
    reference = None
    if tree.get("reference") is not None:
        reference = find(store, Reference, "reference", tree["reference"])
    variations = number(tree, "variations", 1, 1, limits.VARIATIONS)
    seed = number(tree, "seed", 0, 0, LARGEST_SEED - variations + 1)
    settings = rounds_of(tree.get("rounds", presets.WARM_UP), known)
    plain = presets.plain(settings)
    if reference is None and settings.uses_reference:
        raise Refusal(422, "reference", "is missing, and these rounds use one",
                      "choose a style picture, or rounds from noise without colour transfer",
                      code="no-reference")
    try:
        steps = known.steps(settings)
    except UserError as e:
        raise of_user_error(e) from None
    seconds = known.seconds(plain)
    return Order(word(tree, "client", CLIENT), mask, reference, seed, word(tree, "name", NAME, "image"),
                 variations, plain, known.named(plain), steps,
                 None if seconds is None else seconds * variations)


def find(store: Store, kind: type, key: str, name: Any) -> Any:
    """The mask or reference with an id. Raises Refusal."""
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise Refusal(400, key, "is not an id", f"send the id of a {key}")
    thing = store.get(kind, name)
    if thing is None:
        raise gone(f"the {key}", code=key)
    return thing


def number(tree: dict[str, Any], key: str, default: int, least: int, most: int) -> int:
    value = tree.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise Refusal(422, key, f"is {str(value)[:40]}", f"use a whole number from {least} to {most}")
    return value


def word(tree: dict[str, Any], key: str, pattern: re.Pattern[str], default: Any = None) -> str:
    value = tree.get(key, default)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Refusal(422, key, "is not a word", "use 1 to 64 letters, digits, _ and -")
    return value


def rounds_of(given: Any, known: Presets) -> Settings:
    """Settings of a preset's name, or of rounds as a mapping."""
    if isinstance(given, str):
        if given not in known.settings:
            raise Refusal(422, "rounds", f"is {given[:40]!r}", f"choose {', '.join(known.settings)}")
        return known.settings[given]
    if not isinstance(given, dict):
        raise Refusal(422, "rounds", "is not a preset nor a mapping", "send a preset's name or the rounds")
    try:
        return rounds.check(given)
    except UserError as e:
        raise of_user_error(e) from None
