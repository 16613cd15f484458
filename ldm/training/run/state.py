"""The state of a training run: one atomic safetensors file, from which the run goes on as if never stopped.

Every random number of a run is a function of (seed, step), so that the step is all the random state there is.
"""
import hashlib
import json
import zlib

import numpy as np

from ldm import config as configs
from ldm import weights
from ldm.errors import UserError
from ldm.training.run import checkpoints

# What may change when a run goes on: it decides how long, in what parts and what is kept, not what a step
# does. (A cosine's rate depends on `steps` too: a run that is given more goes on along the longer cosine.)
FREE = ("steps", "save_every", "sample_every", "log_every", "metrics_every", "keep", "keep_best", "best_by",
        "micro_batch", "checkpointing")


def save(run, step, arrays, config, sections):
    """Write the state of `step`: `arrays` (name -> numpy array), the config with the hash of what matters in
    it, and a checksum, since not all damage to a file shows in its form."""
    weights.save(checkpoints.path_of(run, "state", step), arrays,
                 {"step": step, "config": config, "hash": hashed(config, sections),
                  "checksum": checksum(arrays)})


def latest(run, config, sections):
    """(step, arrays, problems): the newest state that is whole, (0, None, []) for a new run.

    problems: texts, what was wrong with newer ones. If none is whole that is a UserError, and so is a state
    made with other values in `sections` of the config, which names them.
    """
    problems = []
    for step in sorted(checkpoints.saved(run, "state"), reverse=True):
        path = checkpoints.path_of(run, "state", step)
        try:
            arrays, saved = _read(path)
        except UserError as e:
            problems.append(str(e))
            continue
        _refuse_other_config(path, saved, config, sections)
        return step, arrays, problems
    if problems:
        raise UserError(run, f"none of its {len(problems)} states can be used, as {problems[0]}",
                        "delete them to begin anew")
    return 0, None, []


def _read(path):
    """(arrays, metadata) of a state file; any damage is a UserError."""
    arrays, saved = weights.read_state(path)
    if not isinstance(saved, dict) or not {"step", "config", "hash", "checksum"} <= saved.keys():
        raise UserError(path, "is no state of a run", "a file that training wrote is needed")
    if checksum(arrays) != saved["checksum"]:
        raise UserError(path, "is damaged: its numbers are not those that were written",
                        "a whole file is needed")
    return arrays, saved


def _refuse_other_config(path, saved, config, sections):
    if saved["hash"] == hashed(config, sections):
        return
    then = configs.merge(configs.DEFAULTS, saved["config"], path)    # keys younger than the state: by default
    differing = [name for section in sections
                 for name in differences(then[section], config[section], section)]
    if differing:
        raise UserError(path, f"was made with other values of {', '.join(differing)}",
                        "use the same config, or another --output")


def checksum(arrays):
    """CRC-32 of all names and numbers, as they are written."""
    crc = 0
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        array = np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else None)
        crc = zlib.crc32(array.data if array.size else b"", zlib.crc32(name.encode(), crc))
    return crc


def hashed(config, sections):
    """A hash of the part of `config` that decides what a step does, 16 digits."""
    def fixed(tree):
        if isinstance(tree, dict):
            return {key: fixed(value) for key, value in tree.items() if key not in FREE}
        return tree
    text = json.dumps(fixed({section: config[section] for section in sections}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(a, b, name):
    """The names below `name` at which two config values differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for key in sorted(a.keys() | b.keys())
                for d in differences(a.get(key), b.get(key), f"{name}.{key}")]
    return [] if a == b or name.split(".")[-1] in FREE else [name]
