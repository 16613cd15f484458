"""Training in several processes: equal to one, continued by any number, stopped and refused as one."""
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from tiny import CONFIG, make_model, make_pairs, one_error

from ldm import config as configs
from ldm import weights
from ldm.platform import compilers

found = compilers.mpi()
needs_mpi = pytest.mark.skipif(not (found and found[1] and shutil.which("mpirun")),
                               reason="no Open MPI: `apt-get install openmpi-bin libopenmpi-dev`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """config.yaml, data/ in the contest's form, and model/ with an autoencoder."""
    folder = tmp_path_factory.mktemp("parallel")
    pairs = make_pairs(folder / "in", count=5)
    (folder / "data").mkdir()
    (pairs / "masks").rename(folder / "data/labels")
    (pairs / "references").rename(folder / "data/imgs")
    (folder / "model").mkdir()
    make_model(folder / "model")
    training = {"batch_size": 4, "steps": 4, "save_every": 2, "log_every": 1, "sample_every": 4}
    configs.save(folder / "config.yaml", configs.merge(CONFIG, {"training": training}, "test"))
    return folder


def command(folder, output, processes, *more):
    return ["bash", ROOT / "tools/train.sh", "--processes", str(processes),
            "--config", folder / "config.yaml", "--data", folder / "data", "--output", output,
            "--autoencoder", folder / "model/autoencoder.safetensors", *more]


def train(*arguments, **variables):
    variables = {"VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command(*arguments), env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)


@pytest.fixture(scope="module")
def alone(folder):
    """A run of one process."""
    done = train(folder, folder / "alone", 1)
    assert done.returncode == 0, done.stderr
    return folder / "alone"


def furthest(a, b):
    """The largest relative distance of the arrays of two states, network, averages and moments alike."""
    first, second = (weights.read_state(run / "state-0000004.safetensors")[0] for run in (a, b))
    assert first.keys() == second.keys()
    names = [name for name in first if name.split("/")[0] in ("network", "ema", "m", "v")]
    return max(np.linalg.norm(first[n] - second[n]) / max(np.linalg.norm(second[n]), 1e-12) for n in names)


@needs_mpi
def test_two_ranks_are_one_process(folder, alone, tmp_path):
    done = train(folder, tmp_path / "both", 2)
    assert done.returncode == 0, done.stderr
    assert furthest(tmp_path / "both", alone) < 1e-5
    assert sorted(p.name for p in (tmp_path / "both").iterdir()) == sorted(p.name for p in alone.iterdir())


@needs_mpi
@pytest.mark.parametrize("first, then", [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number(folder, alone, tmp_path, first, then):
    assert train(folder, tmp_path, first, "training.steps=2").returncode == 0
    done = train(folder, tmp_path, then)
    assert done.returncode == 0 and done.stderr.count("continuing at step 2") == 1, done.stderr
    assert furthest(tmp_path, alone) < 1e-5


@needs_mpi
def test_sigterm_saves_once_and_ends_well(folder, tmp_path):
    never = (f"training.{key}=100000" for key in ("steps", "save_every", "sample_every"))
    process = subprocess.Popen(command(folder, tmp_path, 2, *never), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 300
    while not (tmp_path / "train.jsonl").exists() and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 0, process.stderr.read()
    assert len(list(tmp_path.glob("state-*"))) == 1


@needs_mpi
def test_what_is_wrong_is_said_once(folder, tmp_path):
    one_error(train(folder, tmp_path, 2, "training.batch_size=1"), "batch_size: is 1 for 2 processes")
    one_error(train(folder, tmp_path, 2, "training.learning_rate=1.0e+30"), "the loss is", "at step")


@needs_mpi
def test_an_error_of_one_rank_ends_all(folder, tmp_path):
    """Rank 0 alone writes: the other waits for it meanwhile."""
    (tmp_path / "train.jsonl").mkdir(parents=True)
    done = train(folder, tmp_path, 2)
    assert done.returncode == 2 and "train.jsonl" in done.stderr, done.stderr


def program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


OPEN = "echo 'mpirun (Open MPI) 4.1.4'"


@pytest.mark.parametrize("mpirun, mpicc, message", [
    (None, None, "mpirun: is not on the PATH; run `apt-get install openmpi-bin libopenmpi-dev`"),
    ("echo HYDRA build details:", None, "mpirun: belongs to another MPI, and Jittor works with Open MPI "
                                        "only; run `apt-get install openmpi-bin libopenmpi-dev`"),
    (OPEN, None, "mpicc: is not on the PATH; run `apt-get install openmpi-bin libopenmpi-dev`"),
    (OPEN, "echo 'unknown option'; exit 1", "mpicc: belongs to another MPI, and Jittor works with Open "
                                            "MPI only; run `apt-get install openmpi-bin libopenmpi-dev`")])
def test_another_mpi_is_one_line(tmp_path, mpirun, mpicc, message):
    for name, body in (("mpirun", mpirun), ("mpicc", mpicc)):
        if body:
            program(tmp_path / name, body)
    done = refused(tmp_path, "--processes", "2")
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")


def refused(path, *arguments, **variables):
    """Run train.sh with nothing but `path` on the PATH."""
    return subprocess.run([shutil.which("bash"), ROOT / "tools/train.sh", *arguments], capture_output=True,
                          text=True, env={"PATH": str(path), "HOME": str(path), **variables})


def test_numbers_of_processes_and_devices_are_checked(tmp_path):
    for value in ("0", "two", ""):
        done = refused(tmp_path, "--processes", value)
        assert (done.returncode, done.stderr) == (2, f"error: --processes: is '{value}'; give a number "
                                                     "above 0\n")
    for name, body in (("mpirun", OPEN), ("mpicc", OPEN)):
        program(tmp_path / name, body)
    done = refused(tmp_path, "--gpus", "3", CUDA_VISIBLE_DEVICES="", VIRTUAL_ENV=sys.prefix)
    assert (done.returncode, done.stderr) == (2, "error: --gpus: is 3, but there are 0 NVIDIA devices; "
                                                 "give a number up to that\n")
