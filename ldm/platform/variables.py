"""Environment variables that other programs set and numbers are read from."""
from __future__ import annotations

import os
import re

from ldm.errors import UserError

MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
       "OMPI_COMM_WORLD_LOCAL_SIZE")


def check_variables() -> None:
    """UserError where a variable that must be a number is something else; an empty OMP_NUM_THREADS, of which
    the C++ compiler's threads would complain, is removed."""
    if not os.environ.get("OMP_NUM_THREADS", "1").strip():
        del os.environ["OMP_NUM_THREADS"]
    for name in MPI:
        if not re.fullmatch("[0-9]{1,9}", os.environ.get(name, "0")):
            raise UserError(name, f"is '{os.environ[name]}', not a number",
                            "mpirun sets it: unset it elsewhere")
    if not re.fullmatch("[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*", os.environ.get("OMP_NUM_THREADS", "1").strip()):
        raise UserError("OMP_NUM_THREADS", f"is '{os.environ['OMP_NUM_THREADS']}', not a number of threads",
                        "unset it or set it to 1 or more")
