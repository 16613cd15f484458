"""The state of a training run: one atomic safetensors file, from which the run goes on as if never stopped.

Every random number of a run is a function of (seed, step), so that the step is all the random state there is.
"""
from __future__ import annotations

import hashlib
import json
import zlib
from typing import NamedTuple, Optional, Sequence

import numpy as np

from ldm import __version__, weights
from ldm import config as configs
from ldm.errors import UserError
from ldm.training.run import checkpoints

# What may change when a run goes on: it decides how long, in what parts and what is kept, not what a step
# does. (A cosine's rate depends on `steps` too: a run that is given more goes on along the longer cosine.)
FREE = ("steps", "save_every", "sample_every", "log_every", "metrics_every", "keep", "keep_best", "best_by",
        "micro_batch", "checkpointing")
# What changes the steps to come and nothing of those behind, such as the rate after a loss that exploded.
CHANGEABLE = ("learning_rate", "weight_decay", "warmup_steps", "decay")


class Found(NamedTuple):
    """A state to go on from. arrays: None for a new run. problems: what was wrong with newer states, as
    texts. changes: {name of a config value: [then, now]} of what may change and did."""

    step: int
    arrays: Optional[dict]
    problems: list
    changes: dict


def save(run, step, arrays, config, sections):
    """Write the state of `step`: `arrays` (name -> numpy array), the config with the hash of what matters in
    it, a digest, since not all damage to a file shows in its form, and the version of this package."""
    weights.save(checkpoints.path_of(run, "state", step), arrays,
                 {"step": step, "config": config, "hash": hashed(config, sections),
                  "digest": digest(step, arrays), "version": __version__})


def latest(run, config: dict, sections: Sequence[str], shapes: Optional[dict] = None,
           at: Optional[int] = None) -> Found:
    """The newest state that is whole, or that of step `at`.

    shapes: {name: shape} of arrays that it must hold. If states are there and none is whole that is a
    UserError, and so is a state made with other values in `sections` of the config, which names them.
    """
    problems, steps = [], sorted(checkpoints.saved(run, "state"), reverse=True)
    if at is not None and at not in steps:
        raise UserError("--from-step", f"is {at}", f"one of {_listed(steps)} is needed")
    for step in steps if at is None else [at]:
        path = checkpoints.path_of(run, "state", step)
        try:
            arrays, saved = _read(path, step)
            changes = _changes(path, saved, config, sections)
            _refuse_other_shapes(path, arrays, shapes or {})
        except _Damaged as e:
            problems.append(str(e))
            continue
        return Found(step, arrays, problems, changes)
    if problems:
        raise UserError(run, f"none of its {len(problems)} states can be used, as {problems[0]}",
                        "delete them to begin anew" if at is None else "choose another step")
    return Found(0, None, [], {})


def _listed(steps):
    return f"the saved steps {', '.join(map(str, sorted(steps)))}" if steps else "the steps of saved states"


class _Damaged(UserError):
    """A state that cannot be used, beside which an older one may be."""


def _read(path, step):
    """(arrays, metadata) of the state file of `step`; any damage is _Damaged."""
    try:
        arrays, saved = weights.read_state(path)
    except UserError as e:
        raise _Damaged(*e.args) from None
    if not isinstance(saved, dict) or not {"step", "config", "hash"} <= saved.keys():
        raise _Damaged(path, "is no state of a run", "a file that training wrote is needed")
    if saved["step"] != step:
        raise _Damaged(path, f"holds the state of step {saved['step']}", "its name must say so")
    whole = (digest(step, arrays) == saved["digest"] if "digest" in saved
             else checksum(arrays) == saved.get("checksum"))
    if not whole:
        raise _Damaged(path, "is damaged: its numbers are not those that were written",
                       "a whole file is needed")
    return arrays, saved


def _refuse_other_shapes(path, arrays, shapes):
    wrong = [name for name, shape in shapes.items()
             if name not in arrays or arrays[name].shape != tuple(shape)]
    if wrong:
        raise _Damaged(path, f"is of another network: '{wrong[0]}' is missing or of another shape",
                       "a state of this network is needed")


def _changes(path, saved, config, sections):
    """{name: [then, now]} of the CHANGEABLE values that differ; other differences are a UserError."""
    if saved["hash"] == hashed(config, sections):
        return {}
    then = configs.merge(configs.DEFAULTS, saved["config"], path)    # keys younger than the state: by default
    differing = {name: values for section in sections
                 for name, values in differences(then[section], config[section], section).items()}
    fixed = [name for name in differing if name.split(".")[-1] not in CHANGEABLE]
    if fixed:
        raise UserError(path, f"was made with other values of {', '.join(fixed)}",
                        "use the same config, or another --output")
    return differing


def digest(step: int, arrays: dict) -> str:
    """A hash of the step and of all names, types, shapes and numbers, as they are written."""
    total = hashlib.sha256(json.dumps(step).encode())
    for name in sorted(arrays):
        array = _written(arrays[name])
        total.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()[:16]


def checksum(arrays):
    """What states of 0.1 have for a digest: CRC-32 of all names and numbers."""
    crc = 0
    for name in sorted(arrays):
        array = _written(arrays[name])
        crc = zlib.crc32(array.data if array.size else b"", zlib.crc32(name.encode(), crc))
    return crc


def _written(array):
    array = np.asarray(array)
    return np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else None)


def is_free(key: str, section: dict) -> bool:
    """Whether a config value decides nothing of what a step does. With a discriminator the parts of a batch
    do: each has an adaptive weight of its own."""
    return key in FREE and not (key == "micro_batch" and section.get("discriminator_weight"))


def hashed(config, sections):
    """A hash of the part of `config` that decides what a step does, 16 digits."""
    def fixed(tree):
        if isinstance(tree, dict):
            return {key: fixed(value) for key, value in tree.items() if not is_free(key, tree)}
        return tree
    text = json.dumps(fixed({section: config[section] for section in sections}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(a, b, name):
    """{name below `name`: [a's value, b's]} where two config sections differ in what is not free."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return {} if a == b else {name: [a, b]}
    return {full: values for key in sorted(a.keys() | b.keys()) if not is_free(key, b)
            for full, values in differences(a.get(key), b.get(key), f"{name}.{key}").items()}
