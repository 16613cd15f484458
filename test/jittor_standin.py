"""A stand-in for Jittor, in a home folder of its own: the real one would compile for minutes."""
import os
import subprocess
import sys
import textwrap
from unittest import mock

import pytest
from conftest import ROOT

CORE = ".cache/jittor/jt1/core/jittor_core.x.so"
STAND_IN = '''
import ctypes, os, sys
from pathlib import Path
from jittor_utils import home_folder as home
count = len(list(home.glob("import_*"))) + 1
(home / f"import_{count}").touch()
if eval(os.environ.get("REBUILDS", "False")):
    if os.environ.get("log_silent") != "1":     # the real one's log keeps to that too
        print("jit_utils updated, please rerun your command.")
    sys.exit(0)
if eval(os.environ.get("KILLED", "False")):     # as by loading a library that was cut off
    os.kill(os.getpid(), 7)
if eval(os.environ.get("BREAKS", "False")):
    raise RuntimeError("Check failed:\\n no such thing")
for number in (2, 17):                          # SIGINT, SIGCHLD behind Python's back, as Jittor does
    ctypes.CDLL(None).signal(number, ctypes.c_void_p(1))
from contextlib import nullcontext
from types import SimpleNamespace
(home / ".cache/jittor/jt1/core").mkdir(parents=True, exist_ok=True)
core = home / ".cache/jittor/jt1/core/jittor_core.x.so"
if not core.exists():
    core.write_bytes(b"\\x7fELF\\x02\\x01" + bytes(58))
compiler = SimpleNamespace(cache_path=core.parent)
flags, has_cuda, nn = SimpleNamespace(), 0, None
flag_scope = lambda **flags: nullcontext()
code = lambda *arguments, **sources: SimpleNamespace(sync=lambda: None)
'''
STAND_IN_UTILS = '''
import atexit, os
from pathlib import Path
home_folder = Path(os.environ.get("JITTOR_HOME", Path.home()))      # asked once, as the real one does
cache_path = home_folder / ".cache/jittor/jt1/core"
pool_size = int(os.environ.get("POOL", 0))
def pool_cleanup():
    print("pool ended")
if pool_size:
    atexit.register(pool_cleanup)
'''


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder of its own; what `prepare` sets ends with the test."""
    with mock.patch.dict(os.environ):
        for name in ("JITTOR_HOME", "nvcc_path", "use_mkl", "use_mpi", "cc_path", "mpicc_path", "log_silent",
                     "cache_name", "python_config_path"):
            os.environ.pop(name, None)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield tmp_path


def start(home, code="from ldm.backend import jt", **variables):
    """Start `code` as a tool's main, with the stand-in for Jittor."""
    for name, text in (("jittor", STAND_IN), ("jittor_utils", STAND_IN_UTILS)):
        (home / "stand_in" / name).mkdir(parents=True, exist_ok=True)
        (home / "stand_in" / name / "__init__.py").write_text(text)
    script = home / "script.py"
    # Its version is none that has patches: on no machine may it need one.
    script.write_text(f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tools')!r}]\nimport cli\n"
                      "from ldm.platform import runtime\nfrom ldm.platform.patch import Facts\n"
                      "runtime.facts = lambda: Facts((3, 11, 0), (1, 26, 0))\n"
                      f"def main(argv):\n{textwrap.indent(code, '    ')}\ncli.run(main)\n")
    environment = {**os.environ, "PYTHONPATH": str(home / "stand_in"), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen([sys.executable, str(script)], env=environment, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(home, code="from ldm.backend import jt", **variables):
    process = start(home, code, **variables)
    out, err = process.communicate()
    return process.returncode, out, err


def imports(home):
    return len(list(home.glob("import_*")))
