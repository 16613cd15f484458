"""tools/setup_cuda.py on a made-up toolkit, made-up wheels and a copy of the installed Jittor's files."""
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from conftest import ROOT

from ldm.errors import UserError
from ldm.platform import cuda, devices, jittor_copy, runtime
from ldm.platform.cuda import in_place, patches, setup, toolchain, toolkit

sys.path.insert(0, str(ROOT / "tools"))
import cli  # noqa: E402
import setup_cuda  # noqa: E402

NVCC = """#!/bin/sh
case $1 in
    --version) echo 'Cuda compilation tools, release {release}, V{version}' ;;
    --dryrun) echo '#$ TOP={home}/bin/..' ;;
    *) printf '%s\\n' "$@" ;;
esac
"""


def fill(folder, *names, text=""):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def cudnn_header(version):
    names = zip(("MAJOR", "MINOR", "PATCHLEVEL"), version.split("."))
    return "".join(f"#define CUDNN_{name} {number}\n" for name, number in names)


def add_cudnn(home, version, libraries="lib"):
    fill(home / "include", "cudnn.h")
    fill(home / "include", "cudnn_version.h", text=cudnn_header(version))
    fill(home / libraries, *(f"lib{name}.so.{version[0]}" for name in toolkit.CUDNN_LIBRARIES))
    return home


class Machine:
    """A toolkit, the wheels of a Python, a Jittor and a cache folder, all below one folder."""

    def __init__(self, folder):
        self.folder, self.home = folder, folder / "cuda"
        self.wheels, self.site = [folder / "site/nvidia/cudnn"], folder / "site"
        self.cache = folder / "home/.cache/jittor"
        self.copy_jittor()

    def copy_jittor(self):
        """The files that patches know, as Jittor's authors made them."""
        for name in ("jittor/__init__.py", *in_place.PATHS):
            (self.site / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(jittor_copy.installed() / name, self.site / name)
        in_place.undo(self.site)

    def patch_in_place(self, names=None):
        """Change files of Jittor as earlier versions of the tool did."""
        for patch in patches.EARLIER:
            if names is None or patch.path in names:
                path = self.site / patch.path
                path.write_bytes(patch.forth(path.read_bytes()))
        return self

    def install(self, cuda="13.0.88", wheel="9.19.0", system=None):
        fill(self.home / "bin", "nvcc", text=NVCC.format(release=cuda[:4], version=cuda, home=self.home))
        (self.home / "bin/nvcc").chmod(0o755)
        for name, (header, _) in toolkit.LIBRARIES.items():
            fill(self.home, f"include/{header}", f"lib/lib{name}.so.{cuda[:2]}", "lib/libcudadevrt.a")
        (self.home / "lib64").symlink_to("lib")
        if wheel:
            add_cudnn(self.wheels[0], wheel)
        if system:
            add_cudnn(self.home, system)
        return self

    @property
    def chain(self):
        return toolchain.folder(self.cache)

    def state(self):
        """Every file and link of Jittor and of the cache, with its content and the time it was written."""
        found = {}
        for root in (self.site, self.cache):
            for path in sorted(root.rglob("*")):
                if path.is_symlink() or path.is_file():
                    content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
                    found[path] = hashlib.sha256(content).hexdigest(), path.lstat().st_mtime_ns
        return found


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path)
    monkeypatch.setattr(toolkit, "nvcc_candidates", lambda: [made.home / "bin/nvcc"])
    monkeypatch.setattr(toolkit, "wheel_folders", lambda major: [w for w in made.wheels if w.is_dir()])
    monkeypatch.setattr(jittor_copy, "installed", lambda: made.site)
    monkeypatch.setenv("JITTOR_HOME", str(made.folder / "home"))
    return made


def run(monkeypatch, capsys, *arguments):
    """The tool with these arguments in this process. -> (status, its lines, its error)."""
    monkeypatch.setattr(sys, "argv", ["setup_cuda.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run(setup_cuda.main)
    said = capsys.readouterr()
    return ended.value.code, said.out.splitlines(), said.err


def refused(done, *words):
    status, _, error = done
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1
    for word in words:
        assert str(word) in error


def hashes(site):
    return {name: hashlib.sha256((site / name).read_bytes()).hexdigest() for name in in_place.PATHS}


ORIGINAL = {name: patch.sha256 for name, patch in in_place.PATHS.items()}


# ---- doing, doing it again, undoing ------------------------------------------------------------------------

def contents(state):
    return {path: digest for path, (digest, _) in state.items()}


def test_set_up_and_undo(machine, monkeypatch, capsys):
    before = machine.install().state()
    status, lines, error = run(monkeypatch, capsys)
    assert (status, error) == (0, "") and "toolchain: made" in lines
    assert hashes(machine.site) == ORIGINAL                 # Jittor itself is left alone
    status, lines, _ = run(monkeypatch, capsys, "--undo")
    assert (status, lines) == (0, ["removed the toolchain"])
    assert contents(machine.state()) == contents(before)


def test_a_second_time_changes_nothing(machine, monkeypatch, capsys):
    machine.install()
    run(monkeypatch, capsys)
    before = machine.state()
    status, lines, _ = run(monkeypatch, capsys)
    assert status == 0 and "toolchain: there and whole, nothing to do" in lines
    assert machine.state() == before
    run(monkeypatch, capsys, "--undo")
    before = machine.state()
    status, lines, _ = run(monkeypatch, capsys, "--undo")
    assert (status, lines) == (0, ["there was no toolchain"]) and machine.state() == before


@pytest.mark.parametrize("half", [False, True])
def test_what_earlier_versions_changed_in_jittor_is_undone(machine, monkeypatch, capsys, half):
    names = list(in_place.PATHS)[::2] if half else list(in_place.PATHS)
    path = machine.site / names[0]
    path.chmod(0o640)
    machine.install().patch_in_place(names)
    assert in_place.changed(machine.site) == names
    status, lines, _ = run(monkeypatch, capsys, "--undo")
    assert status == 0 and lines == [*(f"restored {name}" for name in names), "there was no toolchain"]
    assert hashes(machine.site) == ORIGINAL and path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_somebody_else_changed_stays(machine, monkeypatch, capsys):
    machine.install().patch_in_place()
    with open(machine.site / "jittor/nn.py", "a") as f:
        f.write("# mine\n")
    mine = (machine.site / "jittor/nn.py").read_text()
    assert run(monkeypatch, capsys, "--undo")[0] == 0
    assert (machine.site / "jittor/nn.py").read_text() == mine
    assert {k: v for k, v in hashes(machine.site).items() if ORIGINAL[k] != v}.keys() == {"jittor/nn.py"}


@pytest.mark.parametrize("good", [0, 4])
def test_site_packages_that_cannot_be_written(machine, monkeypatch, capsys, good):
    """A file system that is read-only, or full after some files: nothing is changed, nothing left over."""
    before = machine.install().patch_in_place().state()
    calls, write = [], Path.write_bytes

    def fail(self, content):
        calls.append(self)
        if len(calls) > good:
            raise OSError(errno.EROFS, "Read-only file system")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    refused(run(monkeypatch, capsys, "--undo"), machine.site / "jittor", "cannot be written (Read-only")
    assert machine.state() == before


# ---- what is refused ---------------------------------------------------------------------------------------

def test_another_version_of_jittor(machine, monkeypatch, capsys):
    machine.install()
    init = machine.site / "jittor/__init__.py"
    init.write_text(init.read_text().replace("1.3.11.0", "1.3.10.0"))
    before = machine.state()
    refused(run(monkeypatch, capsys), "jittor", "1.3.10.0", "made for 1.3.11.0")
    assert run(monkeypatch, capsys, "--undo")[0] == 0
    assert machine.state() == before


def test_no_toolkit(machine, monkeypatch, capsys):
    refused(run(monkeypatch, capsys), "CUDA toolkit: no nvcc on the PATH", "install CUDA 13")


def test_no_cudnn(machine, monkeypatch, capsys):
    machine.install(wheel=None)
    monkeypatch.setattr(toolkit, "stock_cudnn", lambda toolkit: None)   # one may be in this machine's /usr
    refused(run(monkeypatch, capsys), "cuDNN 9", "`pip install nvidia-cudnn-cu13`")


def test_cudnn_8_is_not_enough_for_cuda_13(machine, monkeypatch, capsys):
    machine.install(wheel=None, system="8.9.7")
    refused(run(monkeypatch, capsys), "cuDNN 9", "`pip install nvidia-cudnn-cu13`")


@pytest.mark.parametrize("name, wheel", [("lib/libcufft.so.13", "nvidia-cufft"),
                                         ("include/cublas.h", "nvidia-cublas")])
def test_a_missing_library_or_header_is_named(machine, monkeypatch, capsys, name, wheel):
    machine.install()
    (machine.home / name).unlink()
    refused(run(monkeypatch, capsys), machine.home, f"install {wheel}")


def test_wheels_of_nvcc_that_do_not_fit_each_other(machine, monkeypatch, capsys):
    machine.install()
    text = (machine.home / "bin/nvcc").read_text()
    broken = "*) echo 'ptxas line 9; fatal: Unsupported .version 9.5' >&2; exit 1"
    (machine.home / "bin/nvcc").write_text(text.replace("*) printf '%s\\n' \"$@\"", broken))
    refused(run(monkeypatch, capsys), machine.home / "bin/nvcc", "cannot compile an empty kernel",
            "Unsupported .version 9.5", "crt and nvvm of one version")


def test_an_old_toolkit(machine, monkeypatch, capsys):
    machine.install(cuda="10.2.89")
    refused(run(monkeypatch, capsys), "is CUDA 10.2.89; CUDA 11, 12 or 13 is needed")


# ---- CUDA 11 and 12 ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", ["11.8.89", "12.2.140"])
def test_cuda_11_and_12_with_cudnn_8_need_no_toolchain(machine, monkeypatch, capsys, version):
    before = machine.install(cuda=version, system="8.9.7").state()
    status, lines, _ = run(monkeypatch, capsys)
    assert status == 0 and lines[-1] == "cuDNN 8: nothing to set up; the patches go into a copy of Jittor"
    assert machine.state() == before and cuda.environment(machine.cache) == cuda.SWITCHES


def test_cuda_12_with_cudnn_9_keeps_its_own_cub(machine, monkeypatch):
    monkeypatch.setattr(toolkit, "stock_cudnn", lambda toolkit: None)
    tree = setup.survey(machine.install(cuda="12.6.85").cache).tree
    assert "include/cub/cub.cuh" not in tree and "include/npp.h" in tree
    assert "cudnnRNNBackwardData" in tree["include/cudnn.h"]


def write(machine):
    found = setup.survey(machine.cache)
    return toolchain.write(found.tree, found.folder)


# ---- the toolchain folder ----------------------------------------------------------------------------------

@pytest.fixture
def chain(machine):
    machine.install()
    fill(machine.home, "include/npp.h", text="theirs")
    write(machine)
    return machine.chain


def test_libraries_have_the_names_that_jittor_opens(machine, chain):
    for name in ("cudart", "cublas", "cublasLt", "curand", "cufft", "cusparse"):
        assert (chain / f"lib64/lib{name}.so").resolve() == machine.home / f"lib/lib{name}.so.13"
    assert (chain / "lib64/libcudadevrt.a").resolve() == machine.home / "lib/libcudadevrt.a"
    for name in ("cudnn_ops_infer", "cudnn_ops_train", "cudnn_cnn_infer", "cudnn_cnn_train", "cudnn"):
        whole = name.removesuffix("_infer").removesuffix("_train")
        assert (chain / f"lib64/lib{name}.so").resolve() == machine.wheels[0] / f"lib/lib{whole}.so.9"


def test_headers_are_the_toolkits_but_for_the_shims(machine, chain):
    assert (chain / "include/cublas.h").resolve() == machine.home / "include/cublas.h"
    assert (chain / "include/npp.h").read_text() == "theirs"
    assert f'#include "{machine.wheels[0]}/include/cudnn.h"' in (chain / "include/cudnn.h").read_text()
    assert "CountingInputIterator" in (chain / "include/cub/cub.cuh").read_text()


def test_nvcc_is_asked_for_cpp17(chain):
    words = ["-std=c++14", "-DNAME=a b", "-Xcompiler", "-std:c++14", "-o", "file.o", "-std=c++20"]
    said = subprocess.run([chain / "bin/nvcc", *words], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["-std=c++17", "-DNAME=a b", "-Xcompiler", "-std=c++17", "-o", "file.o",
                                 "-std=c++20"]


def test_the_toolchain_is_no_toolkit_of_its_own(machine, chain, monkeypatch):
    """The runtime puts its nvcc first; a second set-up must not link the folder into itself."""
    monkeypatch.setattr(toolkit, "nvcc_candidates", lambda: [chain / "bin/nvcc"])
    assert toolkit.find_toolkit() == toolkit.Toolkit(machine.home / "bin/nvcc", (13, 0, 88), machine.home)


def test_a_new_cudnn_makes_a_new_toolchain(machine, chain):
    shutil.rmtree(machine.wheels[0])
    add_cudnn(machine.wheels[0], "9.20.1")
    assert write(machine)
    assert toolchain.record(chain)["cudnn"] == "9.20.1"
    assert [p.name for p in chain.parent.iterdir()] == [chain.name]


def test_a_cache_that_cannot_be_written(machine):
    machine.install()
    fill(machine.folder, "home")
    with pytest.raises(UserError, match="home/.cache/jittor/iidm/cuda: cannot be written"):
        write(machine)


# ---- finding -----------------------------------------------------------------------------------------------

def test_where_nvcc_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("nvcc_path", "/mine/nvcc")
    monkeypatch.setenv("CUDA_HOME", "/home/cuda")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolkit.nvcc_candidates()[:3] == [Path("/mine/nvcc"), Path("/home/cuda/bin/nvcc"),
                                             Path("/usr/local/cuda/bin/nvcc")]


@pytest.mark.parametrize("major, names", [(13, ["cu13", "cudnn"]), (12, ["cublas", "cudnn"])])
def test_wheels_of_the_toolkits_version_alone(tmp_path, monkeypatch, major, names):
    for name in ("cu13", "cublas", "cudnn"):
        fill(tmp_path / name, "include/x.h")
    spec = mock.Mock(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(toolkit.importlib.util, "find_spec", lambda name: spec)
    assert toolkit.wheel_folders(major) == [tmp_path / name for name in names]


# ---- the runtime's use of it -------------------------------------------------------------------------------

def prepared(monkeypatch, **variables):
    """The environment that the runtime prepares from `variables` where there is a device."""
    monkeypatch.setattr(runtime, "visible_devices", lambda: ["0"])
    names = ("nvcc_path", *cuda.SWITCHES)
    with mock.patch.dict(os.environ):
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(variables)
        runtime.prepare()
        facts = runtime.facts()
        return {name: os.environ.get(name) for name in names}, (facts.cuda, facts.cudnn)


def test_the_runtime_uses_it(machine, chain, monkeypatch):
    expected = {"nvcc_path": str(chain / "bin/nvcc"), **cuda.SWITCHES}
    assert prepared(monkeypatch) == (expected, ((13, 0, 88), (9, 19, 0)))
    assert prepared(monkeypatch, nvcc_path="/mine")[0]["nvcc_path"] == "/mine"


def test_without_it_the_runtime_sets_no_compiler(machine, monkeypatch):
    variables, versions = prepared(monkeypatch)
    assert variables == {"nvcc_path": None, **cuda.SWITCHES} and versions == (None, None)


def test_cudnn_8_is_known_to_the_patches(machine, monkeypatch):
    machine.install(cuda="12.2.140", system="8.9.7")
    assert prepared(monkeypatch)[1] == ((12, 2, 140), (8, 9, 7))


def test_a_toolkit_that_was_removed_is_named(machine, chain):
    shutil.rmtree(machine.home)
    with pytest.raises(UserError, match="libcudart.so: is a broken link"):
        cuda.environment(machine.cache)


# ---- the driver --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("driver, words", [((12, 4), "supports CUDA up to 12.4"),
                                           (None, "libcuda.so.1 is missing"),
                                           ((13, 0), None), ((14, 1), None)])
def test_a_driver_that_is_too_old_or_missing(machine, chain, monkeypatch, driver, words):
    monkeypatch.setattr(runtime, "present_devices", lambda: ["0"])
    monkeypatch.setattr(devices, "driver_version", lambda: driver)
    if words is None:
        assert prepared(monkeypatch)[1][0] == (13, 0, 88)
        return
    with pytest.raises(UserError, match=f"NVIDIA driver: {words}.*CUDA_VISIBLE_DEVICES="):
        prepared(monkeypatch)
