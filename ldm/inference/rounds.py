"""Rounds as data: the keys of configs/infer/*.yaml, their checks, and their meaning for a schedule.

`read` gets the data from a file, `check` turns data into Settings, `load` does both.
"""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Union

from ldm import config as configs
from ldm.diffusion import Schedule
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.schedule import SPACINGS
from ldm.documents import read_yaml, short
from ldm.errors import UserError
from ldm.files import kind_of
from ldm.inference.color_transfer import MODES

SHIPPED = (Path(__file__).parent / "shipped").resolve()     # configs/infer, in an installed package too
DEFAULTS = {
    "sampler": "ddim",          # ddim | ddpm, and for few steps heun | dpmpp_2m | unipc_2 | unipc_3
    "eta": 0.0,                 # of ddim: 0 is deterministic
    "pixels": "exact",          # exact | entry: truncated, and JPEG 75 wherever the entry writes a file
    "jpeg_between_rounds": 0,   # with exact: quality 1..100 of one JPEG between two rounds; 0 is none
    "rounds": [],
}
# Where a round starts, in one of two ways. The entry's: `respacing` and `start`, an index of the respaced
# chain; noise is added for index `start`, the first step is that at `start - 1` (its off-by-one, kept). Ours:
# `strength` = t / 1000 and `steps`, the network steps really run, the first one at the noise's own level;
# `spacing` says in what they are even (see Schedule.window).
# `guidance` is applied where low < t / 1000 <= high, the two of `guidance_interval`, in `strength`'s unit. A
# step elsewhere needs one pass (Kynkaanniemi et al. 2024, arXiv 2404.07724; their noise level sigma at t is
# sqrt(1 / abar_t - 1)).
ROUND = {"respacing": "", "start": 0, "strength": 0.0, "steps": 0, "spacing": "time", "guidance": 1.0,
         "guidance_interval": [0.0, 1.0], "color_transfer": "", "from": "reference"}
LATER = ("guidance_interval",)      # keys that came after version 1 of the record, see Settings.identity
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
    guided: range               # the timesteps at which guidance has its second pass
    color_transfer: str         # of the image before this round: "" for none


    @property
    def guides(self) -> list[bool]:
        """For each step, by index: whether it has guidance's second pass."""
        return [int(t) in self.guided for t in self.chain.timesteps[:self.start]]


class Settings(NamedTuple):
    """Checked rounds; each of `rounds` has all keys of ROUND."""

    sampler: str
    eta: float
    jpeg_between_rounds: int
    rounds: list
    pixels: str = "exact"

    def steps(self, schedule: Schedule) -> int:
        """Network steps of all rounds together."""
        return sum(r.start for r in self.for_schedule(schedule))

    def for_schedule(self, schedule: Schedule) -> list[Round]:
        """UserError if a round asks for steps that the schedule does not have."""
        return [_round(options, schedule, i) for i, options in enumerate(self.rounds)]

    @property
    def uses_reference(self) -> bool:
        """Whether the reference has an effect. A result from pure noise uses it only with colour transfer."""
        return self.rounds[0]["from"] != "noise" or any(r["color_transfer"] for r in self.rounds)

    def identity(self) -> dict[str, Any]:
        """The values that decide about pictures, for the record. Keys in LATER are left out if they have
        their default, so that the identity of older results does not change."""
        return {**self._asdict(), "rounds": [{key: value for key, value in r.items()
                                              if key not in LATER or value != ROUND[key]}
                                             for r in self.rounds]}

    def tree(self) -> dict[str, Any]:
        """Plain data for `check`, without default values."""
        own = {key: value for key, value in self._asdict().items() if value != DEFAULTS[key]}
        return {**own, "rounds": [{key: value for key, value in r.items() if value != ROUND[key]}
                                  for r in self.rounds]}


Source = Union[str, "os.PathLike[str]", Mapping[str, Any], Sequence[Any], Settings]


def load(source: Source, assignments: Sequence[str] = ()) -> Settings:
    """Settings from a YAML file, the name of a shipped one such as "fast", plain data (a list of rounds is
    enough), or Settings.

    assignments: texts such as "sampler=ddpm", "rounds.0.steps=8" and "rounds.*.guidance=3", where * stands
    for every round. Unknown keys, wrong types and impossible combinations are UserErrors.
    """
    if isinstance(source, Settings):
        return check(source.tree(), assignments=assignments) if assignments else source
    if isinstance(source, (list, tuple)):
        source = {"rounds": list(source)}
    if isinstance(source, Mapping):
        return check(source, assignments=assignments)
    path = find(source)
    return check(read_yaml(path), path, assignments)


def find(name: Any) -> Path:
    """The file of rounds at a path, or a shipped file by its name. UserError if neither exists."""
    if not isinstance(name, (str, os.PathLike)):
        raise UserError("rounds", f"are {short(name)}",
                        f"give a file, a mapping or one of {', '.join(names())}")
    shipped = SHIPPED / f"{os.fspath(name)}.yaml"
    if os.fspath(name) in names() and kind_of(name) != "file":
        return shipped
    if kind_of(name) is None:
        raise UserError(name, "is not a file", f"give a file of rounds or one of {', '.join(names())}")
    return Path(name)


def of_model(config: Mapping[str, Any], where: object, assignments: Sequence[str] = ()) -> Settings:
    """The rounds that a model's config names, for use without others. where: the config's file."""
    if config["rounds"] not in names():
        raise UserError(where, f"'rounds' is {short(config['rounds'])}", f"choose {', '.join(names())}")
    return load(config["rounds"], assignments)


def names() -> list[str]:
    """The names of the shipped rounds."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def assignments(options: Mapping[str, Any]) -> list[str]:
    """Turn keyword options into assignments for `load`: `guidance=2.5` applies to every round,
    `sampler="ddpm"` to all rounds together; names with dots are kept."""
    texts = []
    for key, value in options.items():
        try:
            text = json.dumps(value, default=lambda x: x.item())            # numpy's numbers
        except (TypeError, ValueError, AttributeError, RecursionError):
            raise UserError(key, f"is {short(value)}", "give a number, a word, or a list of rounds") from None
        texts.append(f"{f'rounds.*.{key}' if key in ROUND else key}={text}")
    return texts


def check(tree: Mapping[str, Any], where: object = "rounds", assignments: Sequence[str] = ()) -> Settings:
    """Settings from plain data, as a YAML file or JSON has it. where: the subject of a UserError."""
    if not isinstance(tree, Mapping) or not all(isinstance(key, str) for key in tree):
        raise UserError(where, "is not a mapping of options", "write lines of the form `key: value`")
    of_rounds = [text for text in assignments if text.startswith("rounds.")]
    others = [text for text in assignments if text not in of_rounds]
    merged = configs.merge(DEFAULTS, dict(tree), where)
    if any(text.startswith("rounds=") for text in others):
        merged["rounds"] = []                               # new rounds are not compared with the old ones
    merged = configs.override(merged, others)
    rounds = _overridden([_merged(r, where) for r in merged["rounds"]], of_rounds)
    settings = Settings(**{**merged, "rounds": rounds})
    check_numbers(where, settings)
    words = [("sampler", settings.sampler, tuple(SAMPLERS)), ("pixels", settings.pixels, PIXELS)]
    words += [(f"rounds.{key}", r[key], allowed) for r in settings.rounds for key, allowed in WORDS.items()]
    for name, value, allowed in words:
        if value not in allowed:
            raise UserError(where, f"'{name}' is {short(value)}",
                            f"choose one of {', '.join(a for a in allowed if a)}")
    if settings.pixels == "entry" and settings.jpeg_between_rounds:
        raise UserError(where, "has both pixels: entry and jpeg_between_rounds",
                        "leave jpeg_between_rounds out: the entry's pixels have their own JPEGs")
    if not settings.rounds:
        raise UserError(where, "has no rounds", "give at least one")
    for r in settings.rounds:
        _check_start(r, where)
    if settings.rounds[0]["color_transfer"]:
        raise UserError(where, "has a color_transfer in its first round",
                        "remove it: this round starts at the reference itself")
    return settings


def _merged(options, where):
    if not isinstance(options, Mapping):
        raise UserError(where, f"'rounds' holds {short(options)}", "give a mapping for each round")
    return configs.merge(ROUND, dict(options), where, "rounds.")


def _overridden(rounds, assignments):
    """The rounds with the values that texts such as "rounds.*.guidance=3" set."""
    tree = {"rounds": {str(i): r for i, r in enumerate(rounds)}}
    for text in assignments:
        key, equals, value = text.partition("=")
        _, number, *option = key.split(".")
        if len(option) != 1 or number not in ("*", *tree["rounds"]):
            raise UserError(configs.cut(text), f"is no option of the {len(rounds)} rounds",
                            "write rounds.0.guidance=3 for the first one, or rounds.*.guidance=3")
        for i in tree["rounds"] if number == "*" else [number]:
            tree = configs.override(tree, [f"rounds.{i}.{option[0]}{equals}{value}"])
    return list(tree["rounds"].values())


def check_numbers(where: object, settings: Settings) -> None:
    """UserError for values out of range or not finite. where: the subject of the error."""
    if not 0 <= settings.eta <= (settings.sampler == "ddim"):
        raise UserError(where, f"'eta' is {settings.eta} and the sampler {short(settings.sampler)}",
                        "choose 0 to 1 with ddim, 0 with all others")
    ranges = [("jpeg_between_rounds", settings.jpeg_between_rounds, 0, 100)]
    ranges += [(f"rounds.{key}", r[key], *RANGES[key]) for r in settings.rounds for key in RANGES]
    for name, value, least, most in ranges:
        if not least <= value <= most:
            raise UserError(where, f"'{name}' is {value}", f"give a number from {least} to {most}")
    for interval in (r["guidance_interval"] for r in settings.rounds):
        if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise UserError(where, f"'rounds.guidance_interval' is {short(interval)}",
                            "give two numbers from 0 to 1, the lower one first")
    if len(settings.rounds) > MOST_ROUNDS:
        raise UserError(where, f"has {len(settings.rounds)} rounds", f"give {MOST_ROUNDS} at most")


def _check_start(r, where):
    """UserError if a round does not give its start in exactly one way."""
    respaced, windowed = (any(r[key] != ROUND[key] for key in keys) for keys in STARTS)
    remedy = "give either respacing and start, or strength and steps"
    if respaced == windowed:
        raise UserError(where, f"has {'two starts' if respaced else 'no start'} in a round", remedy)
    if respaced and not r["respacing"] or windowed and not r["steps"]:
        raise UserError(where, f"has no {'respacing' if respaced else 'steps'} in a round", remedy)
    if r["respacing"] and r["spacing"] != "time":
        raise UserError(where, f"has respacing and the spacing {r['spacing']} in a round",
                        "use a spacing with strength and steps")
    if r["from"] == "noise" and r["color_transfer"]:
        raise UserError(where, "has a color_transfer in a round from noise",
                        "leave color_transfer out: this round starts from no picture")


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
        raise UserError("rounds", f"start at {start} in round {number + 1}",
                        f"choose 1 to {top} in its chain")
    low, high = (round(share * len(schedule)) for share in options["guidance_interval"])
    guided = range(low, high) if options["guidance"] > 1 else range(0)      # the timestep 0 is t = 1
    return Round(chain, noise_index, start, options["guidance"], guided, options["color_transfer"])
