"""Rounds are data: what configs/infer/*.yaml may say, checked, and what it means for a schedule."""
from typing import NamedTuple, Optional

from ldm import config as configs
from ldm.diffusion import Schedule
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.schedule import SPACINGS
from ldm.documents import short
from ldm.errors import UserError
from ldm.inference.color_transfer import MODES

DEFAULTS = {
    "sampler": "ddim",          # ddim | ddpm, and for few steps dpmpp_2m | unipc_2 | unipc_3
    "eta": 0.0,                 # of ddim: 0 is deterministic
    "pixels": "exact",          # exact | entry: truncated, and JPEG 75 wherever the entry writes a file
    "jpeg_between_rounds": 0,   # with exact: quality 1..100 of one JPEG between two rounds; 0 is none
    "rounds": [],
}
# Where a round starts, in one of two ways. The entry's: `respacing` and `start`, an index of the respaced
# chain; noise is added for index `start`, the first step is that at `start - 1` (its off-by-one, kept). Ours:
# `strength` = t / 1000 and `steps`, the network steps really run, the first one at the noise's own level;
# `spacing` says in what they are even (see Schedule.window).
ROUND = {"respacing": "", "start": 0, "strength": 0.0, "steps": 0, "spacing": "time", "guidance": 1.0,
         "color_transfer": "", "from": "reference"}
RANGES = {"strength": (0, 1), "guidance": (0, 1000), "start": (0, 1000), "steps": (0, 1000)}
MOST_ROUNDS = 100
STARTS = (("respacing", "start"), ("strength", "steps"))
PIXELS = ("exact", "entry")
WORDS = {"spacing": tuple(SPACINGS), "color_transfer": ("", *MODES), "from": ("reference", "noise")}


class Round(NamedTuple):
    """One pass of Algorithm 2's outer loop, for a certain schedule."""

    chain: Schedule             # the steps that are visited
    noise_index: Optional[int]  # the chain's index whose noise level the start image gets; None: pure noise
    start: int                  # steps to run: indices start - 1 ... 0
    guidance: float
    color_transfer: str         # of the image before this round: "" for none


class Settings(NamedTuple):
    """A checked file of rounds."""

    sampler: str
    eta: float
    jpeg_between_rounds: int
    rounds: list
    pixels: str = "exact"

    def steps(self, schedule):
        """Network steps of all rounds together."""
        return sum(r.start for r in self.for_schedule(schedule))

    def for_schedule(self, schedule):
        """[Round]: raises UserError where a round asks for steps that the schedule does not have."""
        return [_round(options, schedule, i) for i, options in enumerate(self.rounds)]


def load(path, assignments=()):
    """Settings from a YAML file; unknown keys, wrong types and impossible combinations are UserErrors."""
    tree = configs.options(path, assignments, DEFAULTS)
    settings = Settings(**{**tree, "rounds": [_merged(r, path) for r in tree["rounds"]]})
    check_numbers(path, settings)
    words = [("sampler", settings.sampler, tuple(SAMPLERS)), ("pixels", settings.pixels, PIXELS)]
    words += [(f"rounds.{key}", r[key], allowed) for r in settings.rounds for key, allowed in WORDS.items()]
    for name, value, allowed in words:
        if value not in allowed:
            raise UserError(path, f"'{name}' is {short(value)}",
                            f"one of {', '.join(a for a in allowed if a)} is needed")
    if settings.pixels == "entry" and settings.jpeg_between_rounds:
        raise UserError(path, "has both pixels: entry and jpeg_between_rounds",
                        "leave jpeg_between_rounds out: the entry's pixels have their own JPEGs")
    if not settings.rounds:
        raise UserError(path, "has no rounds", "at least one is needed")
    for r in settings.rounds:
        _check_start(r, path)
    if settings.rounds[0]["color_transfer"]:
        raise UserError(path, "the first round has a color_transfer", "it starts at the reference itself")
    return settings


def _merged(options, path):
    if not isinstance(options, dict):
        raise UserError(path, f"'rounds' holds {short(options)}", "a mapping for each round is needed")
    return configs.merge(ROUND, options, path, "rounds.")


def check_numbers(path, settings):
    """Refuse numbers out of range, and what is no number; `path` is the subject of the UserError."""
    if not 0 <= settings.eta <= (settings.sampler == "ddim"):
        raise UserError(path, f"'eta' is {settings.eta} and the sampler {short(settings.sampler)}",
                        "0..1 is possible with ddim, 0 with all others")
    ranges = [("jpeg_between_rounds", settings.jpeg_between_rounds, 0, 100)]
    ranges += [(f"rounds.{key}", r[key], *RANGES[key]) for r in settings.rounds for key in RANGES]
    for name, value, least, most in ranges:
        if not least <= value <= most:
            raise UserError(path, f"'{name}' is {value}", f"a number from {least} to {most} is needed")
    if len(settings.rounds) > MOST_ROUNDS:
        raise UserError(path, f"has {len(settings.rounds)} rounds", f"up to {MOST_ROUNDS} are possible")


def _check_start(r, path):
    """Refuse a round that does not say in exactly one way where it starts."""
    respaced, windowed = (any(r[key] != ROUND[key] for key in keys) for keys in STARTS)
    if respaced == windowed:
        raise UserError(path, f"a round has {'both' if respaced else 'no'} start",
                        "give either respacing and start, or strength and steps")
    if respaced and not r["respacing"] or windowed and not r["steps"]:
        raise UserError(path, f"a round has no {'respacing' if respaced else 'steps'}",
                        "give either respacing and start, or strength and steps")
    if r["respacing"] and r["spacing"] != "time":
        raise UserError(path, f"a round has respacing and the spacing {r['spacing']}",
                        "a spacing is possible with strength and steps")
    if r["from"] == "noise" and r["color_transfer"]:
        raise UserError(path, "a round from noise has a color_transfer",
                        "it starts from no picture: leave color_transfer out")


def _round(options, schedule, number):
    if options["respacing"]:
        chain, start, noise_index = schedule.respace(options["respacing"]), options["start"], options["start"]
    else:
        chain = schedule.window(options["strength"], options["steps"], options["spacing"])
        start, noise_index = options["steps"], options["steps"] - 1
    if options["from"] == "noise":
        noise_index = None
    top = len(chain) - (noise_index == start)
    if not 1 <= start <= top:
        raise UserError("rounds", f"round {number + 1} starts at {start}",
                        f"1..{top} is possible in its chain")
    return Round(chain, noise_index, start, options["guidance"], options["color_transfer"])
