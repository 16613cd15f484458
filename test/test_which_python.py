"""What tools say of a Python or of variables with which they cannot work."""
import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import which_python  # noqa: E402

pytestmark = pytest.mark.process
TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py") if "__main__" in path.read_text())


def tool(*command, **variables):
    return subprocess.run([sys.executable, *command], cwd=ROOT, env={**os.environ, **variables}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True)


@pytest.mark.parametrize("name", TOOLS)
def test_a_python_without_packages_is_one_line(name):
    done = tool("-S", f"tools/{name}", "--help")             # -S: no site-packages
    if name in which_python.WITHOUT:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {sys.executable}: lacks numpy, ") and "pyyaml" in done.stderr


def test_the_environment_made_here_is_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(which_python, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tools/infer.py"])
    monkeypatch.chdir(tmp_path)
    assert which_python.problem() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cv2" else find(name))
    assert which_python.problem().startswith(f"{sys.executable}: lacks opencv-python-headless; ")
    assert "bash tools/infer.sh" in which_python.problem()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for file in ("bin/python", "requirements.installed"):
        (tmp_path / ".venv" / file).touch()
    assert "use `.venv/bin/python tools/infer.py ...`" in which_python.problem()


def test_an_old_python_is_told(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    assert "Python 3.8, but 3.9 or newer is needed" in which_python.problem()


@pytest.mark.parametrize("name, value", [
    ("OMP_NUM_THREADS", "\u00b2"), ("OMP_NUM_THREADS", "0"), ("OMP_NUM_THREADS", "two"),
    ("OMP_NUM_THREADS", "9" * 30), ("OMPI_COMM_WORLD_RANK", "x"), ("OMPI_COMM_WORLD_SIZE", "-1"),
    ("OMPI_COMM_WORLD_LOCAL_RANK", "\u0663")])
def test_a_variable_that_is_no_number_is_one_line(name, value):
    done = tool("tools/infer.py", "--help", **{name: value})
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {name}: is ")
