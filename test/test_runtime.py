"""Jittor's import and what it compiles, with a stand-in for Jittor."""
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jittor_standin
import pytest
from jittor_standin import CORE, imports, run, start
from tiny import program

from ldm.errors import UserError
from ldm.platform import compilers, damage, jittor_copy, runtime
from ldm.platform.patches import PATCHES

home = jittor_standin.home          # a fixture
pytestmark = pytest.mark.process

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


@pytest.mark.parametrize("words, remedy", [
    ("fatal error: Killed signal", "memory"), ("cc1plus: Too many open files", "ulimit -n 1024"),
    ("x.s: No space left on device", "TMPDIR"), ("internal compiler error", "reinstall g\\+\\+")])
def test_a_compiler_that_lacks_something(home, monkeypatch, words, remedy):
    monkeypatch.setenv("cc_path", str(program(home / "g++-poor", f"echo '{words}'; exit 1")))
    with pytest.raises(UserError, match=f"cannot compile a small program .*; .*{remedy}"):
        compilers.check_compilers()


def test_errors_of_compiling_operators_are_told(home, monkeypatch):
    assert runtime.explain(RuntimeError("shapes differ")) is None
    error = RuntimeError("[f 12:00 log.cc:608] Check failed ret(256) == 0(0) Run cmd failed: \n \"g++\" x")
    assert "Run cmd failed" in str(runtime.explain(error))
    killed = RuntimeError(f"{error}\nnote: x\ng++: fatal error: Killed signal terminated program cc1plus\n")
    assert "(... g++: fatal error: Killed" in str(runtime.explain(killed))
    assert "use_parallel_op_compiler=1" in str(runtime.explain(killed))
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
    assert run(home, code) == (130, f"-9 {signal.SIG_DFL!s}\n", "interrupted\n")


def test_the_compiling_processes_of_the_import_end_with_it(home):
    code = "from ldm.backend import jt\nimport jittor_utils\nprint(jittor_utils.pool_size, 'left')"
    assert run(home, code, POOL="7") == (0, "pool ended\n0 left\n", NOTICE)
