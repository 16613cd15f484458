"""The state of a training run: one safetensors file. A run that continues from it ends with the same bits as
one that was never stopped.

All random numbers depend on (seed, step) only, so that the step is the whole random state.
"""
from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence, Union

import numpy as np

from ldm import __version__, weights
from ldm import config as configs
from ldm.errors import UserError
from ldm.training.run import checkpoints

# Options that may change when a run continues: they do not change what a step computes. (The rate of a cosine
# depends on `steps`: with more steps a run continues on the longer cosine.)
FREE = ("steps", "save_every", "sample_every", "log_every", "metrics_every", "keep", "keep_best", "best_by",
        "micro_batch", "checkpointing")
# Options that may change, too, as they only affect later steps. Such a change is logged.
CHANGEABLE = ("learning_rate", "weight_decay", "warmup_steps", "decay", "decay_steps", "sizes", "refit")


class Found(NamedTuple):
    """A state to continue from. arrays: None for a new run. problems: texts on newer states that are damaged.
    changes: {option: [then, now]} of the CHANGEABLE options that differ."""

    step: int
    arrays: Optional[dict]
    problems: list
    changes: dict


def save(run: Union[str, Path], step: int, arrays: dict, config: dict, sections: Sequence[str]) -> None:
    """Write the state of `step`: `arrays` (name -> numpy array), the config with a hash of its relevant
    options, a digest of the arrays to detect damage, and the version of this package."""
    weights.save(checkpoints.path_of(run, "state", step), arrays,
                 {"step": step, "config": config, "hash": hashed(config, sections),
                  "digest": digest(step, arrays), "version": __version__})


def latest(run: Union[str, Path], config: dict, sections: Sequence[str], shapes: Optional[dict] = None,
           at: Optional[int] = None) -> Found:
    """The newest undamaged state, or that of step `at`.

    shapes: {name: shape} of the arrays that it must hold. UserError if there are states and all of them are
    damaged, or if the state was made with other values in these `sections` of the config.
    """
    problems, steps = [], sorted(checkpoints.saved(run, "state"), reverse=True)
    if at is not None and at not in steps:
        raise UserError("--from-step", f"is {at}, which is not saved", f"choose one of {_listed(steps)}")
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
        raise UserError(run, f"none of its {len(problems)} states can be used ({problems[0]})",
                        "delete them to start again" if at is None else "choose another step")
    return Found(0, None, [], {})


def _listed(steps):
    return f"the saved steps {', '.join(map(str, sorted(steps)))}" if steps else "the steps of saved states"


class _Damaged(UserError):
    """A state that cannot be used; an older one may be usable."""


def _read(path, step):
    """(arrays, metadata) of the state file of `step`; any damage is _Damaged."""
    try:
        arrays, saved = weights.read_state(path)
    except UserError as e:
        raise _Damaged(*e.args) from None
    if not isinstance(saved, dict) or not {"step", "config", "hash"} <= saved.keys():
        raise _Damaged(path, "is not a state of a run", "delete it")
    if saved["step"] != step:
        raise _Damaged(path, f"holds the state of step {saved['step']}", "give it the name of that step")
    whole = (digest(step, arrays) == saved["digest"] if "digest" in saved
             else checksum(arrays) == saved.get("checksum"))
    if not whole:
        raise _Damaged(path, "is damaged: its numbers have changed since it was written", "delete it")
    return arrays, saved


def _refuse_other_shapes(path, arrays, shapes):
    wrong = [name for name, shape in shapes.items()
             if name not in arrays or arrays[name].shape != tuple(shape)]
    if wrong:
        raise _Damaged(path, f"is of another network: '{wrong[0]}' is missing or has another shape",
                       "delete it, or give another --output")


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
                        "use the same config or give another --output")
    return differing


def digest(step: int, arrays: dict) -> str:
    """A hash of the step and of the names, types, shapes and numbers of all arrays, as they are written."""
    total = hashlib.sha256(json.dumps(step).encode())
    for name in sorted(arrays):
        array = _written(arrays[name])
        total.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()[:16]


def checksum(arrays: dict) -> int:
    """CRC-32 of all names and numbers: states of version 0.1 have it instead of a digest."""
    crc = 0
    for name in sorted(arrays):
        array = _written(arrays[name])
        crc = zlib.crc32(array.data if array.size else b"", zlib.crc32(name.encode(), crc))
    return crc


def _written(array):
    array = np.asarray(array)
    return np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else None)


def is_free(key: str, section: dict) -> bool:
    """Whether an option does not change what a step computes. With a discriminator `micro_batch` does: each
    micro-batch has its own adaptive weight, or its own batch statistics."""
    adversarial = section.get("discriminator_weight") or "discriminator" in section
    return key in FREE and not (key == "micro_batch" and adversarial)


def hashed(config: dict, sections: Sequence[str]) -> str:
    """A hash, 16 digits, of the options in `sections` that change what a step computes."""
    def fixed(tree):
        if isinstance(tree, dict):
            return {key: fixed(value) for key, value in tree.items() if not is_free(key, tree)}
        return tree
    text = json.dumps(fixed({section: config[section] for section in sections}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(a: Any, b: Any, name: str) -> dict[str, list]:
    """{full name: [a's value, b's value]} of the options in the section `name` that differ and may not."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return {} if a == b else {name: [a, b]}
    return {full: values for key in sorted(a.keys() | b.keys()) if not is_free(key, b)
            for full, values in differences(a.get(key), b.get(key), f"{name}.{key}").items()}
