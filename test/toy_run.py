"""A finished toy run, and how two runs are compared: for the tests of the trainer and of its states."""
import os
import shutil
import signal

import numpy as np
import pytest
import toy

from ldm import weights
from ldm.training.run import jsonl

MEASURED = ("samples_per_second", "memory_gb", "hours_left")     # what differs from run to run


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """40 steps, undisturbed."""
    run = tmp_path_factory.mktemp("whole")
    assert toy.go_on(run) == []
    return run


def lines(run, name):
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in jsonl.read(run / name)]


def assert_equal(a, b):
    """The same files, the same numbers in each, bit for bit, and the same logs."""
    assert {p.name for p in a.iterdir()} == {p.name for p in b.iterdir()}
    for path in a.glob("*.safetensors"):
        (first, one), (second, two) = weights.read_state(path), weights.read_state(b / path.name)
        assert one == two and first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], err_msg=f"{path.name} {name}")
    for name in ("train.jsonl", "validation.jsonl"):
        assert lines(a, name) == lines(b, name)


def stop_at(run, step, **options):
    """Resume the run in `run` and end it after `step`, as SIGTERM would."""
    t = toy.trainer(run, **options)
    t.resume()
    t.train(lambda done, terms: done == step and os.kill(os.getpid(), signal.SIGTERM))
    return t


def copied(whole, folder):
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    return folder
