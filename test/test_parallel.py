"""Training in several processes: equal to one, continued by any number, stopped and refused as one."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from conftest import ROOT
from tiny import CONFIG, make_training, one_error, program

from ldm import config as configs
from ldm import weights
from ldm.platform import compilers

found = compilers.mpi()
needs_mpi = pytest.mark.skipif(not (found and found[1] and shutil.which("mpirun")),
                               reason="no Open MPI: `apt-get install openmpi-bin libopenmpi-dev`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """config.yaml, data/ in the contest's form, and model/ with an autoencoder."""
    training = {"batch_size": 4, "steps": 4, "save_every": 2, "log_every": 1, "sample_every": 4}
    config = configs.merge(CONFIG, {"training": training}, "test")
    return make_training(tmp_path_factory.mktemp("parallel"), config)


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


@pytest.fixture(scope="module")
def both(folder):
    """A run of two processes."""
    done = train(folder, folder / "both", 2)
    assert done.returncode == 0, done.stderr
    return folder / "both"


@needs_mpi
def test_two_ranks_are_one_process(alone, both):
    assert furthest(both, alone) < 1e-5
    assert sorted(p.name for p in both.iterdir()) == sorted(p.name for p in alone.iterdir())


@needs_mpi
@pytest.mark.parametrize("first, then", [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number(folder, alone, both, tmp_path, first, then):
    shutil.copytree({1: alone, 2: both}[first], tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*-0000004.*"):               # as if it had ended after step 2
        path.unlink()
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


@needs_mpi
def test_two_machines_are_one_process(folder, alone, tmp_path):
    """The second machine is this one: Open MPI's agent runs here what it should run there, without this
    process' environment."""
    agent, hosts, output = tmp_path / "agent", tmp_path / "hosts", tmp_path / "both"
    short = tempfile.mkdtemp(dir="/tmp")                    # Open MPI's sockets have short names
    program(agent, f'echo "$1" >>{tmp_path}/agent.log\nmkdir -p {short}/$1\nmachine={short}/$1\nshift\n'
                   f'cd /; exec env -i HOME="$HOME" TMPDIR=$machine PATH=/usr/bin:/bin sh -c "$*"')
    hosts.write_text("machine-a slots=1\nmachine-b slots=1\n")
    done = subprocess.run(
        ["bash", ROOT / "tools/train.sh", "--processes", "2", "--hostfile", hosts, "--config",
         folder / "config.yaml", "--data", folder / "data", "--output", output, "--autoencoder",
         folder / "model/autoencoder.safetensors"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMPI_MCA_plm_rsh_agent": str(agent),
             "VIRTUAL_ENV": sys.prefix})
    shutil.rmtree(short)
    assert done.returncode == 0, done.stderr
    assert sorted((tmp_path / "agent.log").read_text().split()) == ["machine-a", "machine-b"]
    assert furthest(output, alone) < 1e-5
    assert np.isfinite(furthest(output, alone))
