"""A short fixed run of the fuzzer."""
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.jittor         # the process has Jittor


def test_sixty_bad_inputs():
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), "--cases", "60", "--seed", "1"]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "60 cases of seed 1: 0 failed" in done.stdout
