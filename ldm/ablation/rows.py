"""The paper's Table 2 as settings: each row has one more part of the method than the row above it."""
from __future__ import annotations

import math
from typing import NamedTuple

from ldm.diffusion import Schedule
from ldm.errors import UserError
from ldm.inference.rounds import Settings


class Row(NamedTuple):
    """One row. name: its folder of results. title: as the paper prints it. averaged: with the averaged
    weights (Eq. 7), not with those of one checkpoint."""

    name: str
    title: str
    settings: Settings
    averaged: bool


def rows(settings: Settings, schedule: Schedule) -> list[Row]:
    """The rows of the whole method `settings`. UserError if it has no parts to leave out.

    DM is the first round's chain from its top, starting from pure noise. I2I is the first round. Refinement
    is all rounds without colour transfer, and the next row is with it. Ensemble only changes the weights.
    """
    first = settings.rounds[0]
    if len(settings.rounds) < 2 or first["from"] != "reference":
        raise UserError("rounds", "have no part to leave out",
                        "give two or more rounds, the first one with `from: reference`")
    if not any(r["color_transfer"] for r in settings.rounds):
        raise UserError("rounds", "have no color_transfer", "add it to a round from the second on")
    plain = [{**r, "color_transfer": ""} for r in settings.rounds]
    parts = (("dm", "DM (pure noise start)", [_from_noise(first, schedule)], False),
             ("i2i", "+ I2I", [first], False),
             ("refinement", "+ refinement", plain, False),
             ("color_transfer", "+ colour transfer", settings.rounds, False),
             ("ensemble", "+ ensemble", settings.rounds, True))
    return [Row(name, title, settings._replace(rounds=rounds), averaged)
            for name, title, rounds, averaged in parts]


def _from_noise(first, schedule):
    """The first round's options, but from the top of its chain, with the same spacing of steps."""
    if first["respacing"]:
        top = {"start": len(schedule.respace(first["respacing"]))}
    else:
        top = {"strength": 1.0, "steps": math.ceil(round(first["steps"] / first["strength"], 6))}
    return {**first, **top, "from": "noise"}
