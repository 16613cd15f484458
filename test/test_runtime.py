"""The runtime, with a stand-in for Jittor where a real one would compile for minutes."""
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from conftest import ROOT

from ldm.errors import UserError
from ldm.platform import cache, compilers, damage, devices, jittor_copy, onednn, runtime
from ldm.platform.patches import PATCHES

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
    script.write_text(f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tools')!r}]\nimport cli\n"
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


# ---- where the cache is ------------------------------------------------------------------------------------

def test_cache_home_is_home_unless_told_otherwise(home, monkeypatch):
    assert cache.cache_home() == home
    saved = home / ".cache/jittor/config.json"
    saved.parent.mkdir(parents=True)
    saved.write_text("{}")
    assert cache.cache_home() == home
    saved.write_text(json.dumps({"JITTOR_HOME": "/elsewhere"}))
    assert str(cache.cache_home()) == "/elsewhere"
    monkeypatch.setenv("JITTOR_HOME", str(home / "mine"))
    assert cache.cache_home() == home / "mine"
    assert cache.cache_folder() == home / "mine/.cache/jittor"


@pytest.mark.parametrize("text", ["{", "[1]", '{"JITTOR_HOME": 3}'])
def test_a_broken_choice_of_cache_is_named(home, text):
    (home / ".cache/jittor").mkdir(parents=True)
    (home / ".cache/jittor/config.json").write_text(text)
    with pytest.raises(UserError, match="config.json: is not JSON as Jittor writes it; delete it"):
        cache.cache_home()


def test_a_cache_that_cannot_be_written_is_one_line(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("JITTOR_HOME", str(home / "file"))
    monkeypatch.setattr(onednn, "package", lambda: (home, home))
    with pytest.raises(UserError, match="cannot be written .* set JITTOR_HOME to a folder of yours"):
        onednn.link()


# ---- oneDNN ------------------------------------------------------------------------------------------------

@pytest.fixture
def package(home, monkeypatch):
    """An installed oneDNN package."""
    prefix = home / "venv"
    (prefix / "lib").mkdir(parents=True)
    (prefix / "include").mkdir()
    (prefix / "lib/libdnnl.so.2").write_text("library")
    (prefix / "include/dnnl.hpp").write_text("header")
    monkeypatch.setattr(sys, "prefix", str(prefix))
    return prefix


def cached(home):
    return home / ".cache/jittor/mkl" / onednn.FOLDER


def test_onednn_is_linked_where_jittor_looks(home, package):
    assert onednn.in_cache() is None
    assert onednn.link()
    assert onednn.in_cache() == "linked"
    for name in ("libmkldnn.so", "libdnnl.so.2"):
        assert (cached(home) / "lib" / name).read_text() == "library"
    assert (cached(home) / "include/dnnl.hpp").read_text() == "header"
    assert [p.name for p in cached(home).parent.iterdir()] == [onednn.FOLDER]


def test_links_of_another_environment_stay_until_it_is_deleted(home, package, monkeypatch):
    onednn.link()
    other = home / "other"
    package.rename(other)                        # as if the first environment were deleted
    assert onednn.in_cache() is None and not onednn.link()
    monkeypatch.setattr(sys, "prefix", str(other))
    assert onednn.link()
    assert os.readlink(cached(home) / "include") == str(other / "include")
    monkeypatch.setattr(sys, "prefix", str(home / "third"))
    assert onednn.link()                 # a third environment without the package uses them
    assert os.readlink(cached(home) / "include") == str(other / "include")


def test_jittors_own_download_stays(home, package):
    (cached(home) / "lib").mkdir(parents=True)
    (cached(home) / "include").mkdir()
    (cached(home) / "include/dnnl.hpp").write_text("theirs")
    (cached(home) / "lib/libdnnl.so").write_text("theirs")
    (cached(home) / "lib/libmkldnn.so").symlink_to("libdnnl.so")
    assert onednn.link() and onednn.in_cache() == "download"
    assert (cached(home) / "lib/libmkldnn.so").read_text() == "theirs"


def test_a_download_that_was_cut_off_is_replaced(home, package):
    (cached(home) / "include").mkdir(parents=True)
    (cached(home) / "include/dnnl.h").write_text("half")
    assert onednn.link() and onednn.in_cache() == "linked"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="left to Jittor elsewhere")
def test_without_onednn_jittor_does_not_look_for_it(home, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(home))
    runtime.prepare()
    assert os.environ["use_mkl"] == "0"


# ---- CUDA, MPI, headers ------------------------------------------------------------------------------------

def test_no_device_no_nvcc(monkeypatch):
    monkeypatch.setenv("nvcc_path", "/usr/local/cuda/bin/nvcc")
    monkeypatch.setattr(devices, "present_devices", lambda: ["0"])
    runtime.prepare()
    assert os.environ["nvcc_path"] == "/usr/local/cuda/bin/nvcc"
    monkeypatch.setattr(devices, "present_devices", lambda: [])
    runtime.prepare()
    assert os.environ["nvcc_path"] == ""


def test_prepare_keeps_what_the_user_set(monkeypatch):
    monkeypatch.setenv("log_silent", "0")
    monkeypatch.setenv("cache_name", "mine")
    runtime.prepare()
    assert (os.environ["log_silent"], os.environ["cache_name"]) == ("0", "mine")


def program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_gpu_that_is_not_to_be_used(monkeypatch):
    monkeypatch.setattr(devices, "present_devices", lambda: ["0"])
    monkeypatch.delenv("nvcc_path", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert runtime.on_gpu()
    runtime.check_precision("bf16", "--precision")
    monkeypatch.setenv("nvcc_path", "")
    assert not runtime.on_gpu()
    with pytest.raises(UserError, match="--precision: is fp16 without a GPU"):
        runtime.check_precision("fp16", "--precision")


@pytest.mark.parametrize("given, here, visible", [
    (None, 2, ["0", "1"]), ("4,7", 8, ["4", "7"]), ("", 2, []), (" ", 2, []), ("-1", 2, []),
    ("1,-1,0", 2, ["1"]), ("GPU-8932f937,MIG-7", 2, ["GPU-8932f937", "MIG-7"]), ("0", 0, [])])
def test_visible_devices(monkeypatch, given, here, visible):
    monkeypatch.setattr(devices, "present_devices", lambda: [str(i) for i in range(here)])
    monkeypatch.delenv("nvcc_path", raising=False)
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert devices.visible_devices() == visible
    assert runtime.on_gpu() == bool(visible)
    if here:
        assert devices.hidden_by() == (None if visible else f"CUDA_VISIBLE_DEVICES={given}")
    runtime.prepare()
    assert (os.environ.get("nvcc_path") == "") == (not visible)


def test_a_device_of_linux_inside_windows(home, monkeypatch):
    """WSL 2 has no /dev/nvidia0, but /dev/dxg and Windows' driver."""
    for name in ("dxg", "libcuda.so.1"):
        (home / name).touch()
    monkeypatch.setattr(devices, "WSL", (home / "dxg", home / "libcuda.so.1"))
    monkeypatch.setattr(devices, "NODES", home)
    assert devices.present_devices() == ["0"]
    (home / "libcuda.so.1").unlink()
    assert devices.present_devices() == []
    (home / "nvidia3").touch()
    (home / "nvidiactl").touch()
    assert devices.present_devices() == ["0"]


@pytest.mark.parametrize("given, rank, taken", [("4,7", 1, "7"), ("4,7", 2, "4"), ("", 1, "")])
def test_without_nccl_each_rank_has_its_device(monkeypatch, given, rank, taken):
    monkeypatch.setattr(devices, "present_devices", lambda: [str(i) for i in range(8)])
    monkeypatch.delenv("nvcc_path", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", str(rank))
    for _ in range(2):                          # a process prepares more than once
        devices.take_device()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == taken


OPEN_MPI = "echo 'mpicc: Open MPI 4.1.4 (Language: C)'"
OTHER_MPI = "echo 'unknown option: Open MPI 4'; exit 1"


@pytest.mark.parametrize("body, version", [(OPEN_MPI, "4.1.4"), (OTHER_MPI, None)])
def test_mpi_is_kept_from_jittor_outside_of_mpirun(home, monkeypatch, body, version):
    monkeypatch.setenv("mpicc_path", str(program(home / "mpicc", body)))
    assert compilers.mpi() == (str(home / "mpicc"), version)
    runtime.prepare()
    assert os.environ["use_mpi"] == "0"


def test_a_rank_of_a_run_needs_open_mpi(home, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("mpicc_path", str(program(home / "mpicc", OPEN_MPI)))
    runtime.prepare()
    assert os.environ["use_mpi"] == "1"
    for body, message in ((OTHER_MPI, f"{home}/mpicc: is not Open MPI's"),
                          (None, "mpicc: is not on the PATH")):
        if body:
            program(home / "mpicc", body)
        else:
            monkeypatch.setenv("mpicc_path", str(home / "none"))
        with pytest.raises(UserError, match=f"{message}; .*apt-get install openmpi-bin libopenmpi-dev"):
            runtime.prepare()


def test_headers_are_where_the_config_script_says(home, monkeypatch):
    (home / "inc").mkdir()
    (home / "inc/Python.h").write_text("")
    script = program(home / "python3.99-config", f"echo -I/nowhere -I{home}/inc")
    monkeypatch.setenv("python_config_path", str(script))
    assert compilers.python_headers() == home / "inc"
    (home / "inc/Python.h").unlink()
    assert compilers.python_headers() is None


def test_the_config_script_of_the_base_python_is_found(home, monkeypatch):
    """Jittor itself does not look there: a virtual environment of a Python outside /usr would not start."""
    (home / "base/bin").mkdir(parents=True)
    monkeypatch.setattr(compilers, "sys", SimpleNamespace(
        executable=str(home / "venv/bin/python"), base_prefix=str(home / "base"), platform="linux",
        prefix=str(home), version_info=SimpleNamespace(minor=99)))
    assert compilers.python_config() is None
    script = program(home / "base/bin/python3.99-config", "")
    assert compilers.python_config() == script
    runtime.prepare()
    assert os.environ["python_config_path"] == str(script)


# ---- what has been compiled --------------------------------------------------------------------------------

def test_a_notice_is_given_until_it_is_done(home, capsys):
    runtime.prepare()
    core = home / "jittor_core.cpython.so"
    core.touch()

    def compiled():
        stamp = runtime._stamp("core")
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(json.dumps({"folder": str(home), "cores": runtime._cores(home)}))

    compiled()
    assert runtime.compiled_core() == core
    runtime.notice_compile("net", "compiling net")
    done = runtime.notice_compile("net", "compiling net")
    assert capsys.readouterr().err == "compiling net\n" * 2
    done()
    runtime.notice_compile("net", "compiling net")
    assert capsys.readouterr().err == ""
    runtime.notice_compile("other net", "compiling other")
    assert capsys.readouterr().err == "compiling other\n"
    os.utime(core, (2e9, 2e9))                   # the core was built anew, and with it everything will be
    assert runtime.compiled_core() is None
    compiled()
    runtime.notice_compile("net", "compiling net")
    assert capsys.readouterr().err == "compiling net\n"
    core.unlink()
    assert runtime.compiled_core() is None


def test_a_missing_jittor_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "jittor", raising=False)
    with pytest.raises(UserError, match="jittor: is not installed in .*; run `pip install"):
        jittor_copy.installed()


# ---- the first start ---------------------------------------------------------------------------------------

NOTICE = "First use: compiling Jittor's core, about 3 minutes on two cores, once ...\n"


def test_the_core_is_compiled_once_with_a_notice(home):
    assert run(home) == (0, "", NOTICE) and imports(home) == 2
    assert run(home) == (0, "", "") and imports(home) == 3


def test_rerun_exits_of_the_first_compile_are_taken(home):
    assert run(home, REBUILDS="count < 3") == (0, "", NOTICE)
    assert imports(home) == 4                    # two exits, one good import in the child, one in the process


def test_a_later_rerun_exit_restarts_the_command(home):
    run(home)
    code = ("import os, sys\nfrom ldm.backend import jt\n"
            "print('works', sys.argv[0][-9:], os.environ.get('IIDM_RESTARTS'))")
    assert run(home, code, REBUILDS="count == 3") == (0, "works script.py None\n", "")
    assert imports(home) == 5                    # the exit, the child, the restarted process


def test_restarts_end(home):
    run(home)
    status, out, err = run(home, REBUILDS="sys.argv[0] != '-c'")
    assert (status, out) == (2, "")
    assert err.startswith("error: jittor: rebuilt itself at three starts in a row") and err.count("\n") == 1


def test_a_jittor_that_does_not_start_is_one_line(home):
    status, out, err = run(home, BREAKS="True")
    assert (status, out) == (2, "") and err.startswith(NOTICE + "error: jittor: does not start (...")
    assert "RuntimeError: Check failed: no such thing" in err and err.count("\n") == 2
    run(home)
    status, out, err = run(home, BREAKS="True")  # the core is there, the import fails
    assert (status, out) == (2, "") and err.startswith("error: jittor: does not start (... Check failed: ")


def test_a_jittor_imported_before_is_one_line(home):
    for name in ("jittor", "jittor_utils"):
        status, out, err = run(home, f"import {name}\nfrom ldm.backend import jt")
        assert (status, out) == (2, "") and err.startswith("error: jittor: was imported before ldm")
        assert "ldm.backend" in err and err.count("\n") == 1


def test_no_compiler_is_one_line(home):
    message = "error: g++: is not on the PATH; Jittor compiles its operators with it: `apt-get install g++`\n"
    assert run(home, PATH=str(home)) == (2, "", message)


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros"])
def test_a_damaged_core_is_named_and_compiled_again(home, damage):
    run(home)
    core = home / CORE
    whole = core.read_bytes()
    core.write_bytes({"cut": whole[:40], "empty": b"", "zeros": bytes(len(whole))}[damage])
    status, out, err = run(home, KILLED=f"(home / '{CORE}').exists() and "
                                        f"(home / '{CORE}').read_bytes() != {whole!r}")
    assert (status, out) == (0, "") and err.count("\n") == 1, err
    assert err.startswith(f"{core}: damaged in Jittor's cache; compiling Jittor's core again")
    assert core.read_bytes() == whole and run(home) == (0, "", "")


def test_a_core_that_dies_though_it_looks_whole_is_compiled_again(home):
    run(home)
    core = home / CORE
    core.write_bytes(core.read_bytes() + b"other")
    status, out, err = run(home, KILLED=f"(home / '{CORE}').exists() and "
                                        f"(home / '{CORE}').stat().st_size > 64")
    assert (status, out) == (0, "") and err.startswith(f"{core}: damaged") and err.count("\n") == 1, err


def test_damaged_operators_are_named_and_removed(home):
    run(home)
    folder = (home / CORE).with_name("jit")
    folder.mkdir()
    whole = (home / CORE).read_bytes()
    for name, content in (("a.so", b"\x7fELF"), ("a.so.key", b"key"), ("b.so", whole)):
        (folder / name).write_bytes(content)
    said = f"{folder}/a.so: damaged in Jittor's cache; compiled again when it is needed\n"
    assert run(home) == (0, "", said)
    assert [path.name for path in folder.iterdir()] == ["b.so"]


def waits(process):
    """Is it waiting for a file lock?"""
    lines = map(str.split, Path("/proc/locks").read_text().splitlines())
    return any(words[1] == "->" and str(process.pid) in words for words in lines)


@pytest.mark.parametrize("kind", ["flock", "lockf"])
def test_operators_that_another_process_compiles_are_left(home, kind):
    """Jittor's Python code locks its cache by flock, its C++ code by fcntl: each must be waited for."""
    run(home)
    operator = (home / CORE).with_name("a.so")
    operator.write_bytes(b"\x7fELF")                                # half written
    with open(home / CORE.replace("core/jittor_core.x.so", "jittor.lock"), "w") as lock:
        getattr(fcntl, kind)(lock, fcntl.LOCK_EX)
        process = start(home)
        while not waits(process):
            assert process.poll() is None and operator.exists()
            time.sleep(0.02)
        shutil.copyfile(home / CORE, operator)                      # the other process is done
    process.communicate()
    assert process.returncode == 0 and operator.exists()


def test_a_whole_library_is_not_damaged(tmp_path):
    library = tmp_path / "whole.so"
    (tmp_path / "x.cc").write_text(compilers.PROGRAM)
    subprocess.run([compilers.compiler(), "-shared", "-fPIC", tmp_path / "x.cc", "-o", library], check=True)
    assert not damage.is_damaged(library)
    content = library.read_bytes()
    for cut in (0, 10, 64, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.so").write_bytes(content[:cut])
        assert damage.is_damaged(tmp_path / "cut.so"), cut


def test_a_library_that_was_changed_after_its_key_is_damaged(tmp_path):
    library, key = tmp_path / "a_op.so", tmp_path / "a_op.so.key"
    (tmp_path / "x.cc").write_text(compilers.PROGRAM)
    subprocess.run([compilers.compiler(), "-shared", "-fPIC", tmp_path / "x.cc", "-o", library], check=True)
    key.write_text("key")
    os.utime(key, ns=(10 ** 18, library.stat().st_mtime_ns))
    assert not damage.is_damaged(library)
    with open(library, "r+b") as file:
        file.seek(200)
        file.write(b"other")
    os.utime(library, ns=(10 ** 18, key.stat().st_mtime_ns + 1))
    assert damage.is_damaged(library)
    assert damage.remove_damaged(tmp_path) == [library] and not key.exists()


def test_another_version_is_named_before_it_is_compiled(home):
    code = ("from ldm.platform import jittor_copy\nfrom ldm.platform.patches import PATCHES\n"
            "jittor_copy.chosen = jittor_copy.needed = lambda facts: PATCHES[:1]\n"
            "from ldm.backend import jt")
    status, _, err = run(home, code, BREAKS="True")
    first, *_, last = err.splitlines()
    assert status == 2 and "is used as it is" in first and PATCHES[0].why in first
    assert last.startswith("error: jittor") and err.count("used as it is") == 1


def test_a_cache_copied_to_another_folder_is_not_taken_for_compiled(home):
    run(home)
    other = home / "other"
    shutil.copytree(home / ".cache", other / ".cache")
    for count in (2, 3):                         # a child that compiles what is missing, and the start itself
        assert run(home, JITTOR_HOME=str(other)) == (0, "", "")
        assert imports(other) == count
    assert imports(home) == 2


def test_a_compiler_that_does_not_work_is_one_line(home):
    broken = program(home / "g++-broken", "echo 'fatal error: Killed signal' >&2; exit 1")
    status, out, err = run(home, cc_path=str(broken))
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"error: {broken}: cannot compile a small program (... fatal error: Killed signal)")


def test_errors_of_compiling_operators_are_told(home, monkeypatch):
    assert runtime.explain(RuntimeError("shapes differ")) is None
    error = RuntimeError("[f 12:00 log.cc:608] Check failed ret(256) == 0(0) Run cmd failed: \n \"g++\" x")
    assert "Run cmd failed" in str(runtime.explain(error))
    monkeypatch.setenv("cc_path", str(program(home / "g++-broken", "exit 1")))
    assert str(runtime.explain(error)).startswith(f"{home}/g++-broken: cannot compile")
    full = RuntimeError("Run cmd failed: g++: fatal: No space left on device")
    assert str(runtime.explain(full)).startswith(f"{home}/.cache/jittor: cannot be written (No space left")


def test_an_older_cpp_library_is_one_line(home, monkeypatch):
    """As conda's may come first by LD_LIBRARY_PATH."""
    own = Path(compilers.run([compilers.compiler(), "-print-file-name=libstdc++.so.6"]).stdout.strip())
    assert compilers.libstdcxx()[1]
    (home / "old").mkdir()
    older = re.sub(rb"GLIBCXX_3\.4\.[23]", b"GLIBCXX_3.3.2", own.read_bytes())
    (home / "old/libstdc++.so.6").write_bytes(older)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(home / "old"))
    with pytest.raises(UserError, match="old/libstdc.*LD_LIBRARY_PATH.*is older"):
        compilers.check_libstdcxx()


def test_a_second_process_waits_for_the_first(home):
    folder = home / ".cache/jittor/iidm"
    folder.mkdir(parents=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start(home)
        assert process.stderr.readline() == "Another process compiles Jittor's core; waiting for it ...\n"
        assert imports(home) == 0
    assert process.communicate()[1] == NOTICE and process.returncode == 0


def test_interrupts_and_children_are_handled_by_python_again(home):
    code = ("import os, signal, subprocess\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"   # ignored in background jobs
            "from ldm.backend import jt\n"
            "child = subprocess.Popen(['sleep', '60'])\nchild.kill()\n"
            "print(child.wait(), signal.getsignal(signal.SIGCHLD), flush=True)\n"
            "os.kill(os.getpid(), signal.SIGINT)\nprint('not interrupted')")
    run(home)
    assert run(home, code) == (130, f"-9 {signal.SIG_DFL}\n", "interrupted\n")


def test_the_compiling_processes_of_the_import_end_with_it(home):
    code = "from ldm.backend import jt\nimport jittor_utils\nprint(jittor_utils.pool_size, 'left')"
    assert run(home, code, POOL="7") == (0, "pool ended\n0 left\n", NOTICE)
