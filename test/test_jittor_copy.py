"""The patched copy of Jittor: what is in it, when it is made, and that the installed one stays as it is."""
import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from ldm.errors import UserError
from ldm.platform import jittor_copy
from ldm.platform.cuda import in_place
from ldm.platform.patch import VERSION, Facts, Patch
from ldm.platform.patches import PATCHES, chosen, needed

PLAIN = Facts((3, 11, 7), (1, 26, 4))
NEW = Facts((3, 13, 0), (2, 5, 0))
OLD_TEXT = "answer = 41\n"
TOY = Patch("jittor/part.py", hashlib.sha256(OLD_TEXT.encode()).hexdigest(), (("41", "42"),), "it is 42",
            lambda facts: facts.numpy >= (2,))


# ---- the real patches --------------------------------------------------------------------------------------

def test_a_machine_gets_what_it_needs():
    def files(**facts):
        return {patch.path for patch in chosen(Facts(**{"python": (3, 11, 7), "numpy": (1, 26, 4), **facts}))}
    everywhere = {patch.path for patch in PATCHES if patch.everywhere}
    assert files() == set() == files(python=(3, 12, 1))
    for facts in ({"numpy": (2, 0, 0)}, {"python": (3, 13, 0)}, {"numpy": (2, 0, 0), "mpi": True}):
        assert files(**facts) == everywhere                  # one copy serves all of these
    assert files(mpi=True) == {"jittor/extern/mpi/src/mpi_wrapper.cc"}       # its core is the installed one's
    assert files(cuda=(13, 0), cudnn=(9, 1)) > files(cuda=(12, 2), cudnn=(8, 9, 7)) > everywhere
    assert len([path for path in files(cuda=(12, 2), cudnn=(8, 9, 7)) if "cudnn_conv" in path]) == 6
    assert {patch.path for patch in needed(Facts((3, 11), (1, 26), mpi=True))} == {
        "jittor/extern/mpi/src/mpi_wrapper.cc"}


@pytest.mark.parametrize("path", sorted({patch.path for patch in PATCHES}))
def test_patches_fit_the_installed_jittor_and_each_other(path):
    root = jittor_copy.installed()
    content = in_place.original(root, path) if path in in_place.PATHS else (root / path).read_bytes()
    patches = [patch for patch in PATCHES if patch.path == path]
    assert all(patch.is_original(content) for patch in patches)
    for some in itertools.chain.from_iterable(itertools.combinations(patches, n + 1)
                                              for n in range(len(patches))):
        text = content
        for patch in some:
            text = patch.forth(text)                         # raises where another one took its place
            assert text != content
        if path.endswith(".py"):
            compile(text, path, "exec")


def test_a_patch_that_does_not_fit_is_no_silent_change():
    with pytest.raises(ValueError, match="part.py"):
        TOY.forth(b"answer = 40\n")


# ---- a small Jittor ----------------------------------------------------------------------------------------

@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with a small jittor and jittor_utils, which TOY is made for, first on the path."""
    for name, text in {"jittor/__init__.py": f"__version__ = '{VERSION}'\nfrom .part import answer\n",
                       "jittor/part.py": OLD_TEXT, "jittor/src/deep/a.h": "header\n",
                       "jittor_utils/__init__.py": "", "jittor/__pycache__/part.pyc": "old bytecode"}.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(jittor_copy, "chosen", lambda facts: chosen(facts, [TOY]))
    monkeypatch.setattr(jittor_copy, "needed", lambda facts: needed(facts, [TOY]))
    return tmp_path / "site"


def state(folder):
    return {path.relative_to(folder): (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes())
            for path in folder.rglob("*")}


def answer(choice):
    """What `import jittor` finds, in a process of its own."""
    with jittor_copy.importable(choice):
        return subprocess.run([sys.executable, "-c", "import jittor; print(jittor.answer, jittor.__file__)"],
                              capture_output=True, text=True, check=True).stdout.split()


def test_the_installed_one_is_used_where_it_works(site):
    before = state(site)
    choice = jittor_copy.choose(PLAIN)
    assert choice == jittor_copy.Choice(site)
    assert answer(choice) == ["41", str(site / "jittor/__init__.py")]
    assert state(site) == before                             # no bytecode either


def test_a_copy_is_made_once_where_patches_are_needed(site):
    before = state(site)
    choice = jittor_copy.choose(NEW)
    assert choice.patches == (TOY,) and not choice.warning
    assert answer(choice) == ["42", str(choice.folder / "jittor/__init__.py")]
    assert (choice.folder / "jittor/src/deep/a.h").read_text() == "header\n"
    made = state(choice.folder)
    assert jittor_copy.choose(NEW) == choice and state(choice.folder) == made
    assert state(site) == before
    assert not any(a.samefile(b) for a in choice.folder.rglob("*.py") for b in site.rglob("*.py"))
    assert os.environ.get("PYTHONPATH") != str(choice.folder) not in sys.path


def test_where_the_copy_would_be_is_known_without_making_it(site):
    choice = jittor_copy.choose(NEW, make=False)
    assert not choice.folder.exists() and jittor_copy.choose(NEW).folder == choice.folder


def test_other_files_other_patches_another_copy(site, monkeypatch):
    places = {jittor_copy.choose(NEW).folder}
    os.utime(site / "jittor/part.py", (1e9, 1e9))            # installed again: the same content
    places.add(jittor_copy.choose(NEW).folder)
    assert len(places) == 1
    (site / "jittor/src/deep/a.h").write_text("changed\n")
    places.add(jittor_copy.choose(NEW).folder)
    monkeypatch.setattr(jittor_copy, "chosen", lambda facts: [TOY, Patch(
        "jittor/src/deep/a.h", hashlib.sha256(b"changed\n").hexdigest(), (("c", "C"),), "", None)])
    places.add(jittor_copy.choose(NEW).folder)
    assert len(places) == 3


def test_another_version_is_used_as_it_is_with_a_warning(site):
    (site / "jittor/__init__.py").write_text("__version__ = '1.4.0.0'\nfrom .part import answer\n")
    assert jittor_copy.choose(PLAIN).warning == ""
    choice = jittor_copy.choose(NEW)
    assert choice.folder == site and "1.4.0.0 is used as it is" in choice.warning
    assert "it is 42" in choice.warning and "\n" not in choice.warning


def test_a_file_that_somebody_changed_is_refused_only_if_it_is_to_be_patched(site):
    (site / "jittor/part.py").write_text("answer = 'mine'\n")
    assert jittor_copy.choose(PLAIN).folder == site
    with pytest.raises(UserError, match=f"part.py: is not the file of Jittor {VERSION}.*pip install"):
        jittor_copy.choose(NEW)
    assert not list(Path(os.environ["JITTOR_HOME"]).rglob("part.py"))


def test_what_an_earlier_version_changed_in_place_is_copied_as_it_was(site, monkeypatch):
    changed = Patch("jittor/src/deep/a.h", hashlib.sha256(b"header\n").hexdigest(), (("head", "HEAD"),),
                    "", None)
    monkeypatch.setattr(in_place, "PATHS", {changed.path: changed})
    (site / changed.path).write_text("HEADer\n")
    choice = jittor_copy.choose(NEW)
    assert (choice.folder / changed.path).read_text() == "header\n"
    assert (site / changed.path).read_text() == "HEADer\n"


def test_read_only_site_packages(site):
    for path in [*site.rglob("*"), site]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        choice = jittor_copy.choose(NEW)
        assert answer(choice)[0] == "42"
        assert (choice.folder / "jittor/part.py").stat().st_mode & 0o200      # may be replaced later
    finally:
        for path in [site, *site.rglob("*")]:
            path.chmod(0o755)


@pytest.mark.parametrize("damage", ["cut", "edited", "deleted", "record"])
def test_a_damaged_copy_is_made_anew(site, capsys, damage):
    folder = jittor_copy.choose(NEW).folder
    part = folder / ("copy.json" if damage == "record" else "jittor/part.py")
    if damage == "deleted":
        part.unlink()
    else:
        part.write_text("answer = 43\n" if damage == "edited" else "")
    choice = jittor_copy.choose(NEW)
    assert choice.folder == folder and answer(choice)[0] == "42"
    assert f"{folder}: the copy of Jittor is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("good", [0, 2])
def test_a_full_disk_is_one_line_and_leaves_no_half_copy(site, monkeypatch, good):
    copy, calls = shutil.copyfile, []

    def full(source, target):
        calls.append(source)
        if len(calls) > good:
            Path(target).write_text("hal")
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(jittor_copy.shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"\.cache/jittor: cannot be written \(No space left.*JITTOR_HOME"):
        jittor_copy.choose(NEW)
    assert not list(Path(os.environ["JITTOR_HOME"]).rglob("part.py"))
    monkeypatch.undo()


START = """
import os, sys, time
sys.path[:0] = [{root!r}, {site!r}]
from ldm.platform import jittor_copy
from ldm.platform.patches import chosen
import test_jittor_copy as test
jittor_copy.chosen = lambda facts: chosen(facts, [test.TOY])
copy = jittor_copy.shutil.copyfile
def slow(*names):
    print("copying", flush=True)
    while not os.path.exists({go!r}):
        time.sleep(0.01)
    return copy(*names)
jittor_copy.shutil.copyfile = slow
print(jittor_copy.choose(test.NEW).folder)
"""


def start(site):
    """Begin a first start, which copies when there is a file `go` beside `site`."""
    code = START.format(root=str(ROOT), site=str(site), go=str(site.with_name("go")))
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT / "test", text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_killed_first_start_leaves_nothing_in_use(site):
    process = start(site)
    process.stdout.readline()
    process.kill()
    process.communicate()
    folder = jittor_copy.choose(NEW, make=False).folder
    assert list(folder.parent.glob(".*.new")) and not folder.exists()
    assert answer(jittor_copy.choose(NEW))[0] == "42"
    assert not list(folder.parent.glob(".*.new"))


def test_two_first_starts_at_once_make_one_copy(site):
    first = start(site)
    assert first.stdout.readline() == "copying\n"
    second = start(site)
    assert second.stderr.readline() == "Another process copies Jittor; waiting for it ...\n"
    site.with_name("go").touch()
    (out, _), (mine, _) = second.communicate(), first.communicate()
    assert first.returncode == second.returncode == 0 and "copying" not in out
    assert mine.splitlines()[-1] == out.strip() == str(jittor_copy.choose(NEW, make=False).folder)


# ---- where Jittor's own start-up looks ---------------------------------------------------------------------

LOOK = """
import sys
sys.path.insert(0, {root!r})
from ldm.platform import jittor_copy, runtime
runtime.prepare()
with jittor_copy.environment(jittor_copy.home_variables()):
    import jittor_utils
print(jittor_utils.home())
print(jittor_utils.cache_path)
"""


def look(**variables):
    """The home and the folder that the installed jittor_utils chooses for a process with these variables."""
    with_our_names = {**os.environ, "nvcc_path": "", **variables}
    with_our_names.pop("cache_name", None)
    done = subprocess.run([sys.executable, "-c", LOOK.format(root=str(ROOT))], capture_output=True, text=True,
                          env=with_our_names, check=True)
    return done.stdout.splitlines()[-2:]


@pytest.mark.parametrize("mpi", [{}, {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}])
@pytest.mark.parametrize("saved", [None, "elsewhere"])
@pytest.mark.parametrize("wanted", ["mine", "."])
def test_a_jittor_home_is_not_saved_for_later_starts(tmp_path, mpi, saved, wanted):
    if mpi and not shutil.which("mpicc"):
        pytest.skip("no MPI")
    config = tmp_path / ".cache/jittor/config.json"
    if saved:
        config.parent.mkdir(parents=True)
        config.write_text(json.dumps({"JITTOR_HOME": str(tmp_path / saved)}))
    before = config.exists() and config.read_bytes()
    home, _ = look(HOME=str(tmp_path), JITTOR_HOME=str(tmp_path / wanted), **mpi)
    assert home == str(tmp_path / wanted)
    assert (config.exists() and config.read_bytes()) == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_saved_jittor_home_counts(tmp_path):
    config = tmp_path / ".cache/jittor/config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"JITTOR_HOME": str(tmp_path / "elsewhere")}))
    variables = {"HOME": str(tmp_path)}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JITTOR_HOME", raising=False)
        assert look(**variables)[0] == str(tmp_path / "elsewhere")


def test_another_git_branch_compiles_nothing_anew(tmp_path):
    """Jittor is installed inside a clone, as in its .venv; by itself it takes the branch into its path."""
    clone = tmp_path / "clone"
    shutil.copytree(jittor_copy.installed() / "jittor_utils", clone / "jittor_utils")
    (clone / "jittor").mkdir()
    shutil.copy(jittor_copy.installed() / "jittor/__init__.py", clone / "jittor")

    def git(*arguments):
        subprocess.run(["git", "-C", clone, "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
                       check=True, capture_output=True)

    git("init", "-b", "first")
    git("commit", "--allow-empty", "-m", "a")
    variables = {"HOME": str(tmp_path), "JITTOR_HOME": str(tmp_path / "home"), "PYTHONPATH": str(clone)}
    before = look(**variables)
    assert str(tmp_path / "home") in before[1] and "first" not in before[1]
    git("checkout", "-b", "second")
    assert look(**variables) == before


# ---- the real Jittor ---------------------------------------------------------------------------------------

COUNT = """
import json, os, sys
sys.path.insert(0, {root!r})
from ldm.platform import jittor_copy
from ldm.platform.patch import Facts
root, opened = str(jittor_copy.installed()) + "/jittor", {{}}
def note(event, arguments):
    if event == "open" and str(arguments[0]).startswith(root):
        key = str(arguments[0]), arguments[1]       # Python 3.9 tells of open() and of os.open() within it
        opened[key] = opened.get(key, 0) + 1
sys.addaudithook(note)
folder = jittor_copy.choose(Facts((3, 13, 0), (2, 5, 0))).folder
print(json.dumps([str(folder), max(opened.values(), default=0), len({{path for path, _ in opened}})]))
"""


def test_a_copy_of_the_real_jittor_costs_little_and_differs_in_the_patched_files_alone(tmp_path):
    """Half a second: each installed file is read to hash it and to copy it, and never again. (A patched one
    is also read to patch it, the version to know it.)"""
    def first_start():
        done = subprocess.run([sys.executable, "-c", COUNT.format(root=str(ROOT))], capture_output=True,
                              text=True, check=True, env={**os.environ, "JITTOR_HOME": str(tmp_path)})
        return json.loads(done.stdout)

    folder, most, count = first_start()
    root, copied = jittor_copy.installed(), [p for p in Path(folder).rglob("*") if p.is_file()]
    assert most <= 4 and count > 500
    assert sum(path.stat().st_size for path in copied) < 15e6
    different = {str(name) for path in copied if (name := path.relative_to(folder)).name != "copy.json"
                 and path.read_bytes() != (root / name).read_bytes()}
    assert different == {patch.path for patch in chosen(NEW)}
    assert first_start() == [folder, 1, 1]               # the version
