"""Checks that this Python can run a tool, and names one that can if it is too old or lacks packages.

Every tool imports this first, through cli.py. It imports the standard library only.
"""
from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"numpy": "numpy", "PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml",
           "tqdm": "tqdm"}
WITHOUT = ("doctor.py", "setup_cuda.py")        # these tools report missing packages themselves


def made_environment() -> Optional[Path]:
    """The Python of the environment that our scripts created in the repository, or None."""
    for name in (".venv", ".venv-iidm"):
        python = ROOT / name / "bin/python"
        if (ROOT / name / "requirements.installed").is_file() and python.is_file():
            return python
    return None


def problem() -> Optional[str]:
    """What is wrong with this Python, and what to do; None if nothing is."""
    tool = sys.argv[0] if sys.argv else ""
    missing = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    if sys.version_info < (3, 9):
        fault = "is Python %d.%d, but 3.9 or newer is needed" % sys.version_info[:2]
    elif missing and os.path.basename(tool) not in WITHOUT:
        fault = "lacks " + ", ".join(missing)
    else:
        return None
    python = made_environment()
    if python and not os.path.samefile(python, sys.executable):
        remedy = f"use `{os.path.relpath(python)} {tool} ...`"
    else:
        remedy = "use a Python that has them, or run `bash tools/infer.sh`, which creates one in .venv"
    return f"{sys.executable}: {fault}; {remedy}"


def check() -> None:
    """Exit with an error line and status 2 if this Python cannot run the tool."""
    if found := problem():
        print("error: " + found, file=sys.stderr)
        sys.exit(2)
