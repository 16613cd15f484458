"""Which device, driver, CUDA and cuDNN a process computes with, for reports."""
from __future__ import annotations

import ctypes
import subprocess


def describe() -> dict[str, str]:
    """{what: its name or version} of the loaded Jittor's device; what cannot be asked is left out."""
    loaded, found = ctypes.CDLL(None), smi()
    for name, function in (("CUDA", "cudaRuntimeGetVersion"),
                           ("driver's CUDA", "cudaDriverGetVersion")):
        version = ctypes.c_int()
        if hasattr(loaded, function) and not getattr(loaded, function)(ctypes.byref(version)):
            found[name] = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if hasattr(loaded, "cudnnGetVersion"):
        loaded.cudnnGetVersion.restype = ctypes.c_size_t
        version = loaded.cudnnGetVersion()
        step = 10_000 if version >= 90_000 else 1000        # 9.19.0 is 91900, 8.9.7 is 8907
        found["cuDNN"] = f"{version // step}.{version % step // 100}.{version % 100}"
    return found


def smi() -> dict[str, str]:
    """The GPU's name, memory and driver as nvidia-smi says them; {} without it."""
    fields = {"name": "GPU", "memory.total": "memory", "driver_version": "driver"}
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return dict(zip(fields.values(), (word.strip() for word in lines[0].split(",")))) if lines else {}
