"""Runs of several processes or machines: how train.sh starts them, what it refuses, what a process sets."""
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from tiny import program

from ldm.errors import UserError
from ldm.platform import devices, variables

OPEN = "echo 'mpirun (Open MPI) 4.1.4'"
BASH = shutil.which("bash")
SLURM = ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID",
         "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")


@pytest.fixture
def environment(monkeypatch):
    """Set variables, with all of a cluster's unset before."""
    def set_all(**values):
        for name in SLURM:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
    set_all()
    return set_all


# ---- what each process does --------------------------------------------------------------------------------

@pytest.mark.parametrize("values", [
    {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"},
    {"SLURM_STEP_ID": "3", "SLURM_NTASKS": "2"}])
def test_srun_alone_is_refused(environment, values):
    environment(**values)
    with pytest.raises(UserError, match=r"^srun: .*bash tools/train.sh") as caught:
        variables.refuse_srun()
    assert "\n" not in str(caught.value)
    if "SLURM_STEP_NUM_TASKS" in values:                    # the shell script looks at this variable only
        done = subprocess.run([BASH, ROOT / "tools/train.sh", "--gpus", "8"], capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith("error: srun: ")


@pytest.mark.parametrize("values", [
    {}, {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"},                         # a batch script
    {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"},       # one task
    {"SLURM_STEP_ID": variables.INTERACTIVE, "SLURM_NTASKS": "8"},          # the shell of salloc
    {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "OMPI_COMM_WORLD_SIZE": "8"}])    # mpirun's processes
def test_what_is_no_srun_is_not_refused(environment, values):
    environment(**values)
    variables.refuse_srun()


def test_cores_are_shared_on_each_machine(environment, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    for ranks, given, expected in (("4", "", "4"), ("3", None, "5"), ("64", None, "1"), ("4", "2", "2"),
                                   (None, None, None)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        environment(**({"OMPI_COMM_WORLD_LOCAL_SIZE": ranks} if ranks else {}),
                    **({"OMP_NUM_THREADS": given} if given is not None else {}))
        variables.share_cores()
        assert os.environ.get("OMP_NUM_THREADS") == expected


def test_each_machine_needs_a_device_for_each_of_its_processes(environment, monkeypatch):
    monkeypatch.setattr(devices, "visible_devices", lambda: ["0", "1"])
    environment(OMPI_COMM_WORLD_LOCAL_SIZE="3")
    devices.check_ranks()                                   # not asked for GPUs
    environment(OMPI_COMM_WORLD_LOCAL_SIZE="2", IIDM_GPUS="1")
    devices.check_ranks()
    environment(OMPI_COMM_WORLD_LOCAL_SIZE="3", IIDM_GPUS="1")
    with pytest.raises(UserError, match="has 2 NVIDIA devices, 3 processes are here"):
        devices.check_ranks()


# ---- how they are started ----------------------------------------------------------------------------------

def started(tmp_path, *arguments, **values):
    """The words after mpirun that train.sh writes, with a mpirun that only prints them."""
    for name, body in (("mpirun", f'[ "$1" = --version ] && {{ {OPEN}; exit; }}\nprintf "%s\\n" "$@"'),
                       ("mpicc", OPEN)):
        program(tmp_path / name, body)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "VIRTUAL_ENV": sys.prefix}
    done = subprocess.run([BASH, ROOT / "tools/train.sh", *arguments], capture_output=True, text=True,
                          env={**environment, **values}, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    return words[:words.index(str(ROOT / "tools/train.py"))], words


def passed_on(words):
    return {words[i + 1] for i, word in enumerate(words) if word == "-x"}


def test_one_machine_is_started_as_ever(tmp_path):
    options, words = started(tmp_path, "--processes", "2", "--output", "x")
    assert "--oversubscribe" in options and not passed_on(options) and "--map-by" not in options
    assert words[-2:] == ["--output", "x"]


def test_a_hostfile_and_the_environment_are_passed_on(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("a slots=1\nb slots=1\n")
    options, words = started(tmp_path, "--processes", "2", "--hostfile", hosts, "--output", "x",
                             JITTOR_HOME="/tmp/me", OMP_NUM_THREADS="3", use_nccl="0", nvcc_path="")
    assert options[options.index("--hostfile") + 1] == str(hosts) and "--oversubscribe" not in options
    assert options[options.index("--map-by") + 1] == "slot" and options[options.index("-np") + 1] == "2"
    assert passed_on(options) == {"PATH", "VIRTUAL_ENV", "JITTOR_HOME", "OMP_NUM_THREADS", "use_nccl",
                                  "nvcc_path"}
    assert words[-2:] == ["--output", "x"]


def test_the_options_of_the_start_stand_anywhere(tmp_path):
    (tmp_path / "hosts").write_text("# two machines\na slots=1\n\nb max_slots=2 slots = 3   # the larger")
    options, words = started(tmp_path, "--output", "x", "--hostfile", tmp_path / "hosts", "--data", "y",
                             "--processes", "4")
    assert options[options.index("-np") + 1] == "4" and "--hostfile" in options
    assert words[-4:] == ["--output", "x", "--data", "y"]


@pytest.mark.parametrize("text, word", [
    ("a line of words\n???\n", "hosts: line 1 is 'a line of words'; write the name of a machine"),
    ("a slots=two", "hosts: line 1 is 'a slots=two'; write"),
    ("", "hosts: names no machine"), ("# a slots=4\n\n", "hosts: names no machine"),
    ("a slots=1\nb slots=1\n", "hosts: has 2 slots for 3 processes; raise slots=")])
def test_a_hostfile_of_another_form_is_one_line(tmp_path, text, word):
    """mpirun says nothing about it: `--quiet`, which it needs against its banners, hides that too."""
    (tmp_path / "hosts").write_text(text)
    done = subprocess.run([BASH, ROOT / "tools/train.sh", "--processes", "3", "--hostfile", "hosts"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {word}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("status, ours", [(1, True), (255, True), (2, False), (143, False)])
def test_a_machine_that_is_not_reached_is_said(tmp_path, status, ours):
    program(tmp_path / "mpirun", f'[ "$1" = --version ] && {{ {OPEN}; exit; }}; exit {status}')
    program(tmp_path / "mpicc", OPEN)
    (tmp_path / "hosts").write_text("a slots=2\n")
    done = subprocess.run(
        [BASH, ROOT / "tools/train.sh", "--processes", "2", "--hostfile", "hosts"], cwd=tmp_path, text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "VIRTUAL_ENV": sys.prefix},
        capture_output=True, stdin=subprocess.DEVNULL)
    said = (f"error: mpirun: ended with status {status}; run `mpirun --hostfile hosts -np 2 hostname`, which "
            "says why\n")
    assert (done.returncode, done.stderr) == ((2, said) if ours else (status, ""))


@pytest.mark.parametrize("allocation", ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"])
def test_in_an_allocation_the_number_is_of_all_machines(tmp_path, allocation):
    """No device of this machine, a login host perhaps, is counted."""
    options, _ = started(tmp_path, "--gpus", "8", "--output", "x",
                         **{"CUDA_VISIBLE_DEVICES": "", allocation: "7"})
    assert options[options.index("-np") + 1] == "8" and "--oversubscribe" not in options
    assert passed_on(options) == {"PATH", "VIRTUAL_ENV", "IIDM_GPUS"}


@pytest.mark.parametrize("arguments, word", [
    (["--processes", "2", "--hostfile", "no where"], "--hostfile: 'no where' is not a file"),
    (["--processes", "2", "--hostfile"], "--hostfile: '' is not a file"),
    (["--hostfile", __file__], "--hostfile: is for several processes")])
def test_a_wrong_hostfile_is_one_line(arguments, word):
    done = subprocess.run([BASH, ROOT / "tools/train.sh", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {word}") and done.stderr.count("\n") == 1


# ---- what it refuses --------------------------------------------------------------------------------------

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
