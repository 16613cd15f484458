"""The shell scripts: which Python they find, what they make, what they say where they cannot."""
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.process
BASH = shutil.which("bash")
FIND = 'source tools/environment.sh; find_environment "$@"; printf "%s\\n" "$python"'


@pytest.fixture
def clone(tmp_path):
    """What the scripts need of a repository, with one tiny requirement, to be had from a folder of wheels."""
    (tmp_path / "repository/ldm").mkdir(parents=True)
    for name in ("tools/environment.sh", "tools/doctor.py", "tools/cli.py", "tools/terminal.py",
                 "tools/which_python.py",
                 *(str(path.relative_to(ROOT)) for path in (*(ROOT / "ldm").glob("*.py"),
                                                            *(ROOT / "ldm/platform").rglob("*.py")))):
        (tmp_path / "repository" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "repository" / name)
    (tmp_path / "repository/requirements.txt").write_text("iidm-probe==1.0\n")
    (tmp_path / "repository/requirements-nodeps.txt").write_text("iidm-alone==1.0\n")
    (tmp_path / "wheels").mkdir()
    for name in ("iidm_probe", "iidm_extra", "iidm_alone"):
        with zipfile.ZipFile(tmp_path / f"wheels/{name}-1.0-py3-none-any.whl", "w") as wheel:
            facts = f"{name}-1.0.dist-info"
            wheel.writestr(f"{name}.py", "")
            needs = "Requires-Dist: iidm-nowhere\n" if name == "iidm_alone" else ""
            wheel.writestr(f"{facts}/METADATA",
                           f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
            wheel.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{facts}/RECORD", "")
    return tmp_path / "repository"


def find(clone, *packages, **variables):
    """Run `find_environment` there. (status, standard output, standard error)"""
    unwanted = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PIP_", "cc_path")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    environment.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(clone.parent / "wheels"), **variables)
    done = subprocess.run([BASH, "-c", FIND, "-", *packages], cwd=clone, env=environment, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode, done.stdout, done.stderr


def programs(folder, **scripts):
    """A folder for PATH that holds these shell scripts alone."""
    folder.mkdir()
    for name, body in scripts.items():
        (folder / name).write_text(f"#!{BASH}\n{body}\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A new environment with pip."""
    folder = tmp_path_factory.mktemp("ready") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def quick(clone, ready):
    """A PATH with a python3 that copies `ready` instead of making an environment, which takes seconds."""
    copy = f'[ "$1 $2" = "-m venv" ] && exec cp -a "{ready}/." "$3"\nexec "{sys.executable}" "$@"'
    return programs(clone.parent / "quick", python3=copy) + os.pathsep + os.environ["PATH"]


def python(setup="pass"):
    """The body of a python3 that runs `setup` before what it is told with -c."""
    return f'exec "{sys.executable}" -c "{setup}\nimport sys; exec(sys.argv[1])" "$2"'


def test_an_environment_is_made_completed_and_reused(clone):
    (clone / ".venv/bin").mkdir(parents=True)    # what a creation leaves that was cut off
    (clone / ".venv/made-by-iidm").touch()
    status, out, err = find(clone)
    made = clone / ".venv/bin/python"
    assert (status, out) == (0, f"{made}\n"), err
    assert [line.split()[0] for line in err.splitlines()] == ["Making", "Installing"]
    assert find(clone) == (0, f"{made}\n", "")   # all there: nothing is said
    status, out, err = find(clone, "iidm-extra")
    assert (status, out) == (0, f"{made}\n") and "and iidm-extra into" in err and "Making" not in err
    assert find(clone, "iidm-extra") == (0, f"{made}\n", "")
    # An active environment that has everything goes first; one that lacks something is left alone.
    other = clone.parent / "other"
    shutil.copytree(clone / ".venv", other, symlinks=True)
    assert find(clone, VIRTUAL_ENV=str(other)) == (0, f"{other}/bin/python\n", "")
    assert find(clone, CONDA_PREFIX=str(other)) == (0, f"{other}/bin/python\n", "")
    next(other.glob("lib/*/site-packages/iidm_probe-1.0.dist-info/METADATA")).unlink()
    assert find(clone, VIRTUAL_ENV=str(other)) == (0, f"{made}\n", "")
    # An installation that was cut off, or changed requirements, are taken up.
    (clone / ".venv/requirements.installed").unlink()
    status, out, err = find(clone)
    assert (status, out) == (0, f"{made}\n") and err.startswith("Installing requirements.txt into")
    (clone / "requirements.txt").write_text("iidm-probe==2.0\n")
    status, out, err = find(clone)
    assert (status, out) == (2, "") and err.count("\n") == 2
    assert "error: requirements.txt: cannot be installed (ERROR: No matching distribution found for " in err
    assert not (clone / ".venv/requirements.installed").exists()


@pytest.mark.parametrize("kind", ["without pip", "with pip", "link", "file"])
def test_an_environment_of_the_users_own_stays_as_it_is(clone, ready, quick, kind):
    """`uv venv` makes a .venv without pip; one with pip could be installed into, which nobody asked for."""
    own = clone.parent / "own" if kind == "link" else clone / ".venv"
    if kind == "file":
        own.write_text("mine")
    elif kind == "with pip":
        shutil.copytree(ready, own, symlinks=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    if own.is_dir():
        (own / "mine.py").write_text("mine")
    if kind == "link":
        (clone / ".venv").symlink_to(own)
    before = {path: path.read_bytes() for path in [own, *own.rglob("*")] if path.is_file()}
    status, out, err = find(clone, PATH=quick)
    assert (status, out) == (0, f"{clone}/.venv-iidm/bin/python\n"), err
    assert err.startswith(f"{clone}/.venv was not made here and lacks packages: it stays as it is.\n")
    assert {path: path.read_bytes() for path in [own, *own.rglob("*")] if path.is_file()} == before
    assert find(clone, PATH=quick) == (0, f"{clone}/.venv-iidm/bin/python\n", "")


def test_an_environment_of_the_users_own_is_used_if_it_has_everything(clone, quick):
    find(clone, PATH=quick)
    for mark in ("made-by-iidm", "requirements.installed"):
        (clone / ".venv" / mark).unlink()
    assert find(clone) == (0, f"{clone}/.venv/bin/python\n", "")


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="needs the repository")
def test_a_clone_with_windows_line_ends_works(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "-c", "core.autocrlf=true", "clone", "--quiet", ROOT, clone], check=True)
    for script in (*clone.rglob("*.sh"), *(clone / "tools").glob("*.py")):
        assert b"\r" not in script.read_bytes(), script


@pytest.mark.parametrize("scripts, message", [
    ({}, "error: python3: none that works is on the PATH, Python 3.9 to 3.14 is needed\n"),
    ({"python3": python("import sys; sys.version_info = (3, 8, 1)")},
     "error: Python 3.8 at {0}: cannot be used, 3.9 to 3.14 is needed\n"),
    ({"python3": python("import sys; sys.version_info = (3, 15, 0)")},
     "error: Python 3.15 at {0}: cannot be used, 3.9 to 3.14 is needed\n"),
    ({"python3": python("import sys; sys.modules['ensurepip'] = None"),
      "python3.10": python("import sys; sys.version_info = (3, 15, 0)")},
     "error: Python {1} at {0}: has no venv, `apt-get install python3-venv`\n"),
    ({"python3": python("import ensurepip, venv, sysconfig as s; s.get_paths = lambda: {'include': ''}")},
     "error: Python {1} at {0}: has no Python.h, `apt-get install python3-dev`\n"),
    ({"python3": "exit 127", "python3.9": python("1 / 0")},
     "error: python3: none that works is on the PATH, Python 3.9 to 3.14 is needed\n")])
def test_no_usable_python_is_one_line(clone, tmp_path, scripts, message):
    path = programs(tmp_path / "path", **scripts, **{"g++": ""})
    version = ".".join(map(str, sys.version_info[:2]))
    assert find(clone, PATH=path) == (2, "", message.format(sys.executable, version))
    assert not (clone / ".venv").exists()


def test_no_compiler_is_one_line_before_anything_is_made(clone, tmp_path):
    path = programs(tmp_path / "path", python3=python())
    assert find(clone, PATH=path) == (2, "", "error: g++: is not on the PATH, Jittor compiles with it: "
                                             "`apt-get install g++`\n")
    assert not (clone / ".venv").exists()


def infer(command, cwd=None):
    return subprocess.run(command, cwd=cwd, env={**os.environ, "VIRTUAL_ENV": sys.prefix}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True)


@pytest.mark.parametrize("script, folder", [(ROOT / "tools/infer.sh", "/"), ("infer.sh", ROOT / "tools"),
                                            (Path("../tools/infer.sh"), ROOT / "test")])
def test_infer_passes_its_arguments_from_any_folder(script, folder):
    done = infer([BASH, script, "--dry-run", "--model", "/no where"], cwd=folder)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: /no where/config.yaml: ") and done.stderr.count("\n") == 1


def test_infer_has_help():
    done = infer([BASH, ROOT / "tools/infer.sh", "--help"])
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: infer.py")
