"""The NVIDIA devices of this machine, and which of them this process may use."""
from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from ldm.errors import UserError

NODES = Path("/dev")
WSL = (Path("/dev/dxg"), Path("/usr/lib/wsl/lib/libcuda.so.1"))  # Windows' devices and driver, inside WSL 2
ON_GPUS = "IIDM_GPUS"           # set by tools/train.sh for each process of a run on several machines
ON_CPU = "set CUDA_VISIBLE_DEVICES= to use the CPU"


def present_devices() -> list[str]:
    """The numbers of the devices that the kernel's driver shows. Linux inside Windows (WSL 2) shows one node
    for all devices, so they count as one there."""
    nodes = list(NODES.glob("nvidia[0-9]*"))
    if not nodes and all(path.exists() for path in WSL):
        return ["0"]
    return [str(i) for i in range(len(nodes))]


def visible_devices() -> list[str]:
    """The devices that this process may use, as CUDA_VISIBLE_DEVICES names them; [] where the CPU is used.

    An empty CUDA_VISIBLE_DEVICES and one that begins with -1 hide all, as for every CUDA program, and so does
    an empty nvcc_path.
    """
    found = present_devices()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not found or os.environ.get("nvcc_path") == "":
        return []
    if given is None:
        return found
    named = []
    for word in (word.strip() for word in given.split(",")):
        if not word or word.startswith("-"):             # CUDA ignores what comes after such a name
            break
        named.append(word)
    return named


def hidden_by() -> str | None:
    """The setting that hides the present devices, as a user would write it; None if none does."""
    if not present_devices() or visible_devices():
        return None
    if os.environ.get("nvcc_path") == "":
        return "nvcc_path="
    return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES'][:40]}"


def driver_version() -> tuple[int, int] | None:
    """The newest CUDA that the driver supports, such as (12, 4); None without a driver's library."""
    for name in ("libcuda.so.1", str(WSL[1])):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        version = ctypes.c_int(0)
        if library.cuDriverGetVersion(ctypes.byref(version)) == 0:
            return version.value // 1000, version.value % 1000 // 10
    return None


def check_driver(cuda: tuple[int, ...]) -> None:
    """UserError if the driver is missing, or too old for the CUDA version `cuda`."""
    found = driver_version()
    if found is None:
        raise UserError("NVIDIA driver", "libcuda.so.1 is missing although there is a device",
                        f"install the driver, or start the container with `--gpus all`; or {ON_CPU}")
    if found[0] < cuda[0]:
        raise UserError("NVIDIA driver", f"supports CUDA up to {found[0]}.{found[1]}, and CUDA "
                        f"{'.'.join(map(str, cuda))} is installed", f"update the driver; or {ON_CPU}")


def check_ranks() -> None:
    """UserError if an MPI run with `--gpus` has more processes on this machine than devices."""
    ranks = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", 1))
    found = len(visible_devices())
    if os.environ.get(ON_GPUS) and found < ranks:
        raise UserError("--gpus", f"{platform.node()} has {found} NVIDIA devices, {ranks} processes are here",
                        "give each machine as many slots as it has devices")


def take_device() -> None:
    """Show this rank of an MPI run only the device with its number on this machine. Jittor chooses it with
    NCCL; without NCCL all ranks would take the first device."""
    if found := visible_devices():
        local = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", 0))
        os.environ["CUDA_VISIBLE_DEVICES"] = found[local % len(found)]
