"""A short fixed run of the fuzzer, and what it would see if a tool did wrong."""
import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_sixty_bad_inputs():
    done = subprocess.run([sys.executable, Path(__file__).with_name("fuzz.py"), "--cases", "60", "--seed", "1"],
                          text=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "60 cases of seed 1: 0 failed" in done.stdout
