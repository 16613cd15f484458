"""The paper's Table 2 as settings: each row has one part of the method more than the one above."""
import math
from typing import NamedTuple

from ldm.errors import UserError
from ldm.inference.rounds import Settings


class Row(NamedTuple):
    name: str           # of its folder of results
    title: str          # as the paper prints it
    settings: Settings
    averaged: bool      # the averaged weights (Eq. 7), or those of one checkpoint


def rows(settings, schedule):
    """[Row] of the whole method `settings`, for a schedule.

    DM runs the first round's chain from its top, from pure noise; I2I is the first round as it is; refinement
    are all rounds without, colour transfer with it; ensemble changes the weights alone.
    """
    first = settings.rounds[0]
    if len(settings.rounds) < 2 or first["from"] != "reference":
        raise UserError("rounds", "have no part to leave out",
                        "two or more are needed, the first one from the reference")
    if not any(r["color_transfer"] for r in settings.rounds):
        raise UserError("rounds", "have no color_transfer", "a round from the second on needs it")
    plain = [{**r, "color_transfer": ""} for r in settings.rounds]
    parts = (("dm", "DM (pure noise start)", [_from_noise(first, schedule)], False),
             ("i2i", "+ I2I", [first], False),
             ("refinement", "+ refinement", plain, False),
             ("color_transfer", "+ colour transfer", settings.rounds, False),
             ("ensemble", "+ ensemble", settings.rounds, True))
    return [Row(name, title, settings._replace(rounds=made), averaged)
            for name, title, made, averaged in parts]


def _from_noise(first, schedule):
    """The first round's options, begun at the top of its chain and with its spacing of steps."""
    if first["respacing"]:
        top = {"start": len(schedule.respace(first["respacing"]))}
    else:
        top = {"strength": 1.0, "steps": math.ceil(round(first["steps"] / first["strength"], 6))}
    return {**first, **top, "from": "noise"}
