"""Presets: the files of rounds that the page offers, with the seconds they take here, as measured."""
from __future__ import annotations

import json
from statistics import median
from typing import Any, Optional

import yaml

from ldm.diffusion import Schedule
from ldm.errors import UserError
from ldm.inference import estimate, rounds
from ldm.inference.rounds import Settings
from ldm.paint import limits

NAMES = ("draft", "fast", "entry", "paper", "noise")        # of configs/infer, those that are there
WARM_UP = "fast"
LATEST = 5                      # pictures whose seconds are kept


class Presets:
    """The presets of a model, whose config is given, and seconds of any rounds."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.schedule = config, Schedule.named(config["schedule"])
        self.settings = {name: rounds.load(name) for name in NAMES if name in rounds.names()}
        # {rounds as JSON: seconds of the latest pictures}, the newest last. Their median is told, since
        # something may have disturbed one of them.
        self.measured: dict[str, list[float]] = {}

    def named(self, tree: dict[str, Any]) -> Optional[str]:
        """The preset with these rounds, or None."""
        return next((name for name, settings in self.settings.items() if plain(settings) == tree), None)

    def steps(self, settings: Settings) -> int:
        """Network steps of all rounds. Raises UserError for rounds that this model's schedule does not have,
        or that are too many for a page."""
        steps = settings.steps(self.schedule)
        if steps > limits.STEPS:
            raise UserError("rounds", f"have {steps} steps",
                            f"use {limits.STEPS} at most here, tools/infer.py takes more")
        return steps

    def note(self, tree: dict[str, Any], seconds: float) -> None:
        """A picture of these rounds took so many seconds on this machine."""
        latest = [*self.measured.pop(key(tree), []), seconds]
        self.measured[key(tree)] = latest[-LATEST:]
        if len(self.measured) > limits.MEASURED:
            del self.measured[next(iter(self.measured))]

    def seconds(self, tree: dict[str, Any]) -> Optional[float]:
        """For a picture: as measured for these very rounds, else from those measured last and the work that
        both are. None while nothing was measured."""
        if not self.measured:
            return None
        if key(tree) in self.measured:
            return round(median(self.measured[key(tree)]), 2)
        known, seconds = next(reversed(self.measured.items()))
        work = self.work(json.loads(known))
        return round(median(seconds) * self.work(tree) / work, 2)

    def work(self, tree: dict[str, Any]) -> int:
        """Multiply-accumulates of a picture."""
        return estimate.macs(self.config, settings_of(tree), self.schedule)

    def listed(self) -> list[dict[str, Any]]:
        """For the page. measured: were these very rounds run here? If not, the seconds are worked out."""
        return [{"id": name, "seconds": self.seconds(plain(settings)), "steps": settings.steps(self.schedule),
                 "measured": key(plain(settings)) in self.measured, "rounds": plain(settings)}
                for name, settings in self.settings.items()]


def plain(settings: Settings) -> dict[str, Any]:
    """Settings as values that JSON has."""
    return json.loads(json.dumps(settings._asdict()))


def settings_of(tree: dict[str, Any]) -> Settings:
    """Back from `plain`; nothing is checked again."""
    return Settings(**tree)


def key(tree: dict[str, Any]) -> str:
    return json.dumps(tree, sort_keys=True)


def short_yaml(tree: dict[str, Any]) -> str:
    """The file of rounds: what differs from the defaults, a line a round."""
    short = settings_of(tree).tree()
    lines = [yaml.safe_dump({name: value}) for name, value in short.items() if name != "rounds"]
    dumped = [yaml.safe_dump(item, sort_keys=False, default_flow_style=True, width=1000)
              for item in short["rounds"]]
    return "".join([*lines, "rounds:\n", *(f"  - {line}" for line in dumped)])
