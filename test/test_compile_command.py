"""How an operator is compiled: directly, but for those that ask for an edit of their assembly code."""
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import ROOT

from ldm.platform import compile_command

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
PLAIN = 'extern "C" int answer() { return 42; }\n'
EDITED = "// @begin replace \"x\" \"y\"\n" + PLAIN + "// @end\n"


@pytest.fixture
def jt(tmp_path):
    """What `install` uses of Jittor."""
    (tmp_path / "a cache").mkdir()
    compiler = SimpleNamespace(cc_type="g++", cache_path=str(tmp_path / "a cache"))
    return SimpleNamespace(compiler=compiler, flags=SimpleNamespace(python_path=""))


@pytest.mark.parametrize("source, by", [(PLAIN, "g++"), (EDITED, "the tuner")])
def test_python_runs_only_for_an_edit(jt, tmp_path, source, by):
    """The command is the one that Jittor makes; the tuner here only says that it ran."""
    compile_command.install(jt)
    tuner = tmp_path / "utils/asm_tuner.py"
    tuner.parent.mkdir()
    tuner.write_text("import sys\nprint('the tuner', sys.argv[1:])\n")
    file, made = tmp_path / "an_op.cc", tmp_path / "an_op.so"
    file.write_text(source)
    command = (f'{jt.flags.python_path} {tuner} --cc_path="{shutil.which("g++")}" "{file}"  -shared -fPIC '
               f'-o "{made}"')
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert made.exists() == (by == "g++")
    if by == "g++":
        assert not done.stdout
    else:
        assert done.stdout.startswith("the tuner")
        assert str(file) in done.stdout and f"--cc_path={shutil.which('g++')}" in done.stdout


def test_a_compiler_that_fails_is_heard(jt, tmp_path):
    compile_command.install(jt)
    file = tmp_path / "an_op.cc"
    file.write_text("this is no C++\n")
    command = f"{jt.flags.python_path} x/asm_tuner.py --cc_path=g++ {file} -o {tmp_path}/an_op.so"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode and "error" in done.stderr


def test_other_programs_run_as_they_are(jt, tmp_path):
    """Jittor runs another script by the same name when it compiles for a GPU."""
    compile_command.install(jt)
    (tmp_path / "dlink_compiler.py").write_text("import sys\nprint(sys.argv[1:])\n")
    done = subprocess.run(f"{jt.flags.python_path} {tmp_path}/dlink_compiler.py nvcc -dc 'a b'", shell=True,
                          capture_output=True, text=True)
    assert done.stdout == "['nvcc', '-dc', 'a b']\n"


@pytest.mark.parametrize("kind", ["clang", None])
def test_another_compiler_is_left_to_jittor(jt, kind):
    jt.compiler.cc_type = kind
    compile_command.install(jt)
    assert jt.flags.python_path == compile_command.interpreter()
    assert not list(Path(jt.compiler.cache_path).iterdir())


def test_a_cache_that_cannot_be_written(jt, monkeypatch):
    def full(path):
        raise OSError("full")
    monkeypatch.setattr(compile_command, "replacing", full)
    compile_command.install(jt)
    assert jt.flags.python_path == compile_command.interpreter()


def test_the_machine_code_is_the_same(tmp_path):
    """An operator that this process compiled, once more in Jittor's own way."""
    code = ("from ldm.backend import jt\nfrom pathlib import Path\n"
            "(jt.array([1., 2., 3.]) * 3 - 1).exp().sync()\n"
            "print(Path(jt.compiler.cache_path, 'jit'))\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    folder = Path(done.stdout.split("\n")[-2])
    keys = {path.with_suffix(".so"): path.with_suffix(".so.key").read_text().split("\n")[0]
            for path in folder.glob("*_op.cc")      # other tests compile meanwhile: the key is written last
            if path.with_suffix(".so.key").exists() and "exp(" in (text := path.read_text())
            and "@begin" not in text}
    made, kept = next((made, key) for made, key in keys.items() if "compile.sh" in key)
    tuner = kept[kept.index("compile.sh") + len('compile.sh" '):]
    shutil.copy(made.with_suffix(".cc"), tmp_path)
    subprocess.run(tuner.replace(str(folder / made.stem), str(tmp_path / made.stem)), shell=True, check=True,
                   capture_output=True)
    codes = [subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True,
                            check=True).stdout.split("\n", 3)[3] for path in (made, tmp_path / made.name)]
    assert codes[0] == codes[1] and len(codes[0]) > 1000
