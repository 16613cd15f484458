"""Precompiled headers: made once, used, made again where anything changed, and never needed."""
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from ldm.platform import precompiled

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
NAMES = re.findall(r'"(.*)"', precompiled.HEADER)
OPERATOR = """#define JIT 1
#include <cmath>
#include "var.h"
#define Tx float
extern "C" Tx answer() { return std::sqrt(VALUE); }
"""


@pytest.fixture
def jt(tmp_path):
    """What `install` uses of Jittor, with tiny headers."""
    for name in NAMES:
        path = tmp_path / "jittor/src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#pragma once\n")
    (tmp_path / "jittor/src/var.h").write_text("#pragma once\n#define VALUE 4.0f\n")
    (tmp_path / "a cache").mkdir()
    flags = f' -Wall -std=c++14 -fPIC -lm -shared -I"{tmp_path}/jittor/src"  -Ofast '
    compiler = SimpleNamespace(cc_type="g++", cc_path=shutil.which("g++"),
                               jittor_path=str(tmp_path / "jittor"), cache_path=str(tmp_path / "a cache"))
    return SimpleNamespace(compiler=compiler, flags=SimpleNamespace(cc_flags=flags))


def start(jt):
    """`install` as at a start of a process -> the files for g++."""
    jt.flags.cc_flags = jt.flags.cc_flags.partition(" -include ")[0]
    precompiled.install(jt)
    return sorted(made(jt).iterdir()) if made(jt).is_dir() else []


def made(jt):
    return Path(jt.compiler.cache_path) / "iidm/operators.h.gch"


def compiled(jt, tmp_path):
    """Compile an operator as Jittor does -> what g++ says it read."""
    source = tmp_path / "x_op.cc"
    source.write_text(OPERATOR)
    options = precompiled.shlex.split(jt.flags.cc_flags)
    target = tmp_path / "x_op.s"
    done = subprocess.run([jt.compiler.cc_path, source, *options, "-S", "-g", "-H", "-o", target],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_it_is_made_once_and_used(jt, tmp_path):
    (file,) = start(jt)
    before = file.stat().st_mtime_ns
    assert start(jt) == [file] and file.stat().st_mtime_ns == before
    assert f"! {file}" in compiled(jt, tmp_path)            # so g++ marks a precompiled header that it took
    assert sorted(path.name for path in made(jt).parent.iterdir()) == ["operators.h", "operators.h.gch"]


@pytest.mark.parametrize("change", ["header", "flags", "compiler", "cut", "text"])
def test_it_is_made_again_where_something_changed(jt, tmp_path, change):
    (file,) = start(jt)
    if change == "header":
        (tmp_path / "jittor/src/var.h").write_text("#pragma once\n#define VALUE 16.0f\n")
    elif change == "flags":
        jt.flags.cc_flags = jt.flags.cc_flags.replace("-Ofast", "-O1")
    elif change == "compiler":
        (tmp_path / "g++").symlink_to(jt.compiler.cc_path)
        jt.compiler.cc_path = str(tmp_path / "g++")
    elif change == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        (made(jt).parent / "operators.h").write_bytes(b"#error damaged \xff\n")
    (new,) = start(jt)
    assert (new.stem == file.stem) == (change in ("cut", "text"))
    assert f"! {new}" in compiled(jt, tmp_path)
    assert (made(jt).parent / "operators.h").read_text() == precompiled.HEADER


def test_without_it_the_headers_are_read(jt, tmp_path):
    """A compiler that cannot precompile: operators are compiled all the same."""
    compiler, jt.compiler.cc_path = jt.compiler.cc_path, shutil.which("false")
    assert start(jt) == []
    jt.compiler.cc_path = compiler
    words = compiled(jt, tmp_path)
    assert "operators.h.gch" not in words and "iidm/operators.h\n" in words


def test_with_other_compilers_and_a_full_disk_nothing_changes(jt, monkeypatch):
    flags = jt.flags.cc_flags
    jt.compiler.cc_type = "clang"
    assert start(jt) == [] and jt.flags.cc_flags.strip() == flags.strip()
    jt.compiler.cc_type = "g++"

    def full(path):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(precompiled, "replacing", full)
    assert start(jt) == [] and jt.flags.cc_flags.strip() == flags.strip()


# ---- the core ----------------------------------------------------------------------------------------------

@pytest.fixture
def core(jt, tmp_path):
    """Commands by which Jittor compiles its core, and its function that runs them: it writes keys as Jittor
    does, runs only commands that are new, and keeps what g++ says that it read."""
    for name in ("op.h", "pyjt/py_converter.h"):
        path = tmp_path / "jittor/src" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#pragma once\n")
    cache, commands, said = tmp_path / "a cache", [], []
    for name in ("a", "b"):
        (tmp_path / f"{name}.cc").write_text(f"#include <cmath>\nint {name}() {{ return 1; }}\n")
        commands.append(f'"{shutil.which("g++")}" "{tmp_path}/{name}.cc" -std=c++14 -fPIC -O2 -H '
                        f'-I"{tmp_path}/jittor/src"  -c -o "{cache}/{name}.o"')

    def run_cmds(commands, *arguments):
        for command in commands:
            key = Path(precompiled.shlex.split(command)[-1] + ".key")
            if not key.exists() or key.read_text() != command:
                done = subprocess.run(precompiled.shlex.split(command), capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                said.append(done.stderr)
                key.write_text(command)
    utils = SimpleNamespace(run_cmds=run_cmds)
    precompiled.precompile_core(utils, cache)
    return SimpleNamespace(commands=commands, said=said, cache=cache,
                           run=lambda what="jittor_core.so": utils.run_cmds(commands, what),
                           as_ever=lambda: run_cmds(commands, "jittor_core.so"))


def test_the_core_is_compiled_with_it_and_keeps_no_trace_of_it(core):
    core.run()
    assert len(core.said) == 2 and all(f"! {core.cache}/iidm-core/core.h.gch" in text for text in core.said)
    assert {path.name for path in core.cache.iterdir()} == {"a.o", "a.o.key", "b.o", "b.o.key"}
    core.as_ever()                                          # a later import
    core.run()
    assert len(core.said) == 2


def test_what_a_killed_process_compiled_is_not_compiled_again(core):
    """It ends before the keys are as they should be, and leaves its header."""
    core.run()
    option = f' -include"{core.cache}/iidm-core/core.h"'
    (core.cache / "a.o.key").write_text(core.commands[0].replace(" -c -o ", f"{option} -c -o "))
    (core.cache / "b.o").unlink()
    (core.cache / "b.o.key").unlink()
    (core.cache / "iidm-core").mkdir()
    (core.cache / "iidm-core/core.h.gch").write_text("cut")
    core.run()
    assert len(core.said) == 3 and "core.h.gch" in core.said[2] and not (core.cache / "iidm-core").exists()
    core.as_ever()
    assert len(core.said) == 3


def test_other_libraries_and_other_compilers_are_left_alone(core, monkeypatch):
    core.run("mkl_ops.so")
    assert len(core.said) == 2 and not any("core.h" in text for text in core.said)
    for path in core.cache.iterdir():
        path.unlink()
    monkeypatch.setattr(precompiled, "CORE_HEADER", "#error no such header\n")
    core.run()
    assert len(core.said) == 4 and not any("core.h" in text for text in core.said)
    assert not (core.cache / "iidm-core").exists()


def test_jittors_own_operators_are_compiled_with_it():
    from ldm.backend import jt
    x = jt.array([1.0, 2.0, 3.0])
    assert float((x * 3 + 1).sum().item()) == 21
    if jt.compiler.cc_type != "g++":
        pytest.skip("needs g++ as Jittor's compiler")
    header = made(jt).parent / "operators.h"
    assert f'-include "{header}"' in jt.flags.cc_flags
    options = [flag for flag in precompiled.shlex.split(jt.flags.cc_flags)
               if not flag.startswith(precompiled.LINKING)]
    command = [jt.compiler.cc_path, "-x", "c++", "-", *options, "-S", "-g", "-H", "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True,
                          input='#define JIT 1\n#include "var.h"\n')
    assert done.returncode == 0 and f"! {made(jt)}" in done.stderr
