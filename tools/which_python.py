"""Says in one line which Python to use, where the one that runs a tool is too old or lacks packages.

Every tool begins with it, by way of cli.py, and only the standard library is imported here.
"""
import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"numpy": "numpy", "PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml",
           "tqdm": "tqdm"}
WITHOUT = ("doctor.py", "setup_cuda.py")        # these say themselves what is missing


def made_environment():
    """The Python of the environment that the scripts made in the repository, or None."""
    for name in (".venv", ".venv-iidm"):
        python = ROOT / name / "bin/python"
        if (ROOT / name / "requirements.installed").is_file() and python.is_file():
            return python
    return None


def problem():
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
        remedy = "use the Python that has them, or `bash tools/infer.sh`, which makes one in .venv"
    return f"{sys.executable}: {fault}; {remedy}"


def check():
    """End this process with one line and status 2 if its Python cannot run a tool."""
    if found := problem():
        print("error: " + found, file=sys.stderr)
        sys.exit(2)
