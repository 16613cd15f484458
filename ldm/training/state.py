"""The state of a training run: one atomic safetensors file, from which the run goes on as if never stopped.

Every random number of a run is a function of (seed, step), so that the step is all the random state there is.
"""
import re
from pathlib import Path

from ldm import weights
from ldm.errors import UserError

# What may change when a run goes on: it decides how long and what is kept, not what a step does. (A cosine's
# rate depends on `steps` too: a run that is given more of them goes on along the longer cosine.)
FREE = ("steps", "save_every", "sample_every", "log_every", "keep")
NAME = re.compile(r"state-(\d+)\.safetensors$")


def path_of(run, step):
    return Path(run) / f"state-{step:07d}.safetensors"


def saved_steps(run):
    """The steps at which a state of this run was saved, ascending."""
    return sorted(int(m.group(1)) for m in map(NAME.search, (p.name for p in Path(run).glob("state-*"))) if m)


def save(run, step, arrays, config, keep):
    """Write the state of `step` (a dict of numpy arrays), then remove all but the newest `keep`."""
    weights.save(path_of(run, step), arrays, {"step": step, "config": config})
    for old in saved_steps(run)[:-keep]:
        path_of(run, old).unlink()


def latest(run, config, sections):
    """(step, arrays) of the newest state, or (0, None) for a new run. It must have been made with the same
    values in these sections of the config."""
    steps = saved_steps(run)
    if not steps:
        return 0, None
    path = path_of(run, steps[-1])
    arrays, saved = weights.read_state(path)
    differing = [name for section in sections
                 for name in differences(saved["config"][section], config[section], section)]
    if differing:
        raise UserError(path, f"was made with other values of {', '.join(differing)}",
                        "use the same config, or another --output")
    return saved["step"], arrays


def differences(a, b, name):
    """The names below `name` at which two config values differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for key in sorted(a.keys() | b.keys())
                for d in differences(a.get(key), b.get(key), f"{name}.{key}")]
    return [] if a == b or name.split(".")[-1] in FREE else [name]
