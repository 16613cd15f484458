"""Checks environment variables that other programs set and that are read as numbers."""
from __future__ import annotations

import os
import re

from ldm.errors import UserError

MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
       "OMPI_COMM_WORLD_LOCAL_SIZE")
NUMBERS = ("log_v", "log_silent", "use_parallel_op_compiler", "IIDM_RESTARTS")   # Jittor's, and one of ours
INTERACTIVE = "4294967290"          # Slurm's number for the step that a shell of `salloc` is in


def share_cores() -> None:
    """In a process of an MPI run, set OMP_NUM_THREADS, unless it is set, to its share of the machine's cores.

    Call it before numpy is imported. The machines of a run may have different numbers of cores and processes,
    so no launcher can set it.
    """
    ranks = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "")
    if ranks.isdecimal() and int(ranks) > 0 and not os.environ.get("OMP_NUM_THREADS", "").strip():
        os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // int(ranks)))


def refuse_srun() -> None:
    """UserError if Slurm's srun started several of this process: they would be separate runs. Jittor's
    processes find each other by Open MPI's mpirun only, and Open MPI 5 does not notice srun."""
    variables = os.environ
    tasks = variables.get("SLURM_STEP_NUM_TASKS") or variables.get("SLURM_NTASKS", "1")
    if ("OMPI_COMM_WORLD_SIZE" not in variables and tasks.isdecimal() and int(tasks) > 1
            and variables.get("SLURM_STEP_ID", INTERACTIVE) != INTERACTIVE):
        raise UserError("srun", f"starts {tasks} single runs, not one of {tasks} processes",
                        f"start one in the allocation: `bash tools/train.sh --gpus {tasks} ...`")


def check_variables() -> None:
    """UserError if a variable that must be a number is something else. An empty OMP_NUM_THREADS is removed,
    since the OpenMP library would print a warning about it."""
    if not os.environ.get("OMP_NUM_THREADS", "1").strip():
        del os.environ["OMP_NUM_THREADS"]
    for name in MPI:
        if not re.fullmatch("[0-9]{1,9}", os.environ.get(name, "0")):
            raise UserError(name, f"is '{os.environ[name]}', not a number",
                            "mpirun sets it: unset it elsewhere")
    for name in NUMBERS:
        if not re.fullmatch("[0-9]{1,9}", os.environ.get(name, "0")):
            raise UserError(name, f"is '{os.environ[name]}', not a number", "unset it")
    if not re.fullmatch("[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*", os.environ.get("OMP_NUM_THREADS", "1").strip()):
        raise UserError("OMP_NUM_THREADS", f"is '{os.environ['OMP_NUM_THREADS']}', not a number of threads",
                        "unset it or set it to 1 to 9999")
