"""The doctor: what it finds, what it says about it, and its self-test."""
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

from ldm import diagnosis
from ldm.errors import UserError
from ldm.platform import cache, compilers, devices, onednn, runtime
from ldm.platform.cuda import toolkit as toolkits
from ldm.platform.patch import Facts
from ldm.platform.patches import chosen

NODEPS = ", then `pip install --no-deps -r requirements-nodeps.txt`" * (sys.version_info >= (3, 13))
DOCTOR = ROOT / "tools" / "doctor.py"


def run(*arguments, **variables):
    return subprocess.run([sys.executable, DOCTOR, *arguments], env={**os.environ, **variables}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True)


# ---- packages ----------------------------------------------------------------------------------------------

def test_our_requirements_are_understood():
    wanted = {name: (operator, version)
              for name, operator, version in diagnosis.requirements_of(*diagnosis.REQUIREMENTS)}
    assert wanted["jittor"] == ("==", "1.3.11.0")
    assert wanted["numpy"] == (("<", "2") if sys.version_info < (3, 13) else (">=", "2"))
    assert {"pillow", "opencv-python-headless", "pyyaml", "tqdm"} <= set(wanted)
    linux = sys.platform == "linux" and os.uname().machine == "x86_64"
    assert ("onednn-devel-cpu-gomp" in wanted) == linux


def test_markers_choose_lines(tmp_path, monkeypatch):
    path = tmp_path / "requirements.txt"
    path.write_text('# comment\n\na==1.0\nb<2  # why\nd; platform_system == "Plan9"\n'
                    'c; platform_system == "Linux" and platform_machine == "x86_64"\n')
    monkeypatch.setattr(diagnosis.platform, "system", lambda: "Linux")
    monkeypatch.setattr(diagnosis.platform, "machine", lambda: "x86_64")
    assert diagnosis.requirements_of(path) == [("a", "==", "1.0"), ("b", "<", "2"), ("c", None, None)]


def test_packages_are_compared(tmp_path, monkeypatch):
    versions = {"a": "1.0", "b": "1.26.4", "opencv-python": "4.11"}
    monkeypatch.setattr(diagnosis, "_installed", versions.get)
    path = tmp_path / "requirements.txt"
    path.write_text("a==1.0\nb<2\n")
    assert diagnosis.packages([path]).found == "a 1.0, b 1.26.4"
    versions.update(a="1.0.1", b="2.0.0")
    finding = diagnosis.packages([path], ["no-such-package"])
    assert not finding.ok and finding.needed
    assert finding.found == ("missing: a==1.0 (installed: 1.0.1), b<2 (installed: 2.0.0), "
                             "no-such-package (installed: none)")
    assert finding.remedy.startswith("`pip install -r requirements.txt no-such-package`")


def test_another_package_with_the_same_module_will_do(tmp_path, monkeypatch):
    def version(name):
        if name != "opencv-contrib-python":
            raise diagnosis.importlib.metadata.PackageNotFoundError(name)
        return "4.9"
    monkeypatch.setattr(diagnosis.importlib.metadata, "version", version)
    (tmp_path / "requirements.txt").write_text("opencv-python-headless\nsafetensors\n")
    found = diagnosis.packages([tmp_path / "requirements.txt"]).found
    assert found == "missing: safetensors (installed: none)"


def test_jittors_own_onednn_replaces_the_package(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("onednn-devel-cpu-gomp==1.0\n")
    monkeypatch.setattr(onednn, "in_cache", lambda: "download")
    assert diagnosis.packages([tmp_path / "requirements.txt"]).ok
    monkeypatch.setattr(onednn, "in_cache", lambda: "linked")
    assert not diagnosis.packages([tmp_path / "requirements.txt"]).ok


# ---- Jittor ------------------------------------------------------------------------------------------------

def test_the_jittor_that_is_used_and_its_patches(monkeypatch):
    monkeypatch.setattr(runtime, "facts", lambda: Facts((3, 11, 7), (1, 26, 4)))
    finding = diagnosis.jittor()
    assert finding.ok and "the installed one" in finding.found and "no patch is needed" in finding.found
    monkeypatch.setattr(runtime, "facts", lambda: Facts((3, 13, 0), (2, 5, 0)))
    finding = diagnosis.jittor()
    assert finding.ok and "a patched copy" in finding.found and str(cache.own_folder()) in finding.found
    for patch in chosen(Facts((3, 13, 0), (2, 5, 0))):
        assert f"{patch.path}: {patch.why}" in finding.found


# ---- CUDA, MPI, disk ---------------------------------------------------------------------------------------

@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """A function that pretends a CUDA toolkit and a cuDNN of these versions, and a device."""
    def pretend(cuda, cudnn, needs_no_toolchain):
        version = tuple(map(int, cuda.split(".")))
        library = toolkits.CuDNN(tuple(map(int, cudnn.split("."))), tmp_path / "include", tmp_path / "lib")
        found = toolkits.Toolkit(tmp_path / "bin/nvcc", version, tmp_path)
        monkeypatch.setattr(toolkits, "find_toolkit", lambda: found)
        monkeypatch.setattr(toolkits, "needs_no_toolchain", lambda toolkit: needs_no_toolchain)
        for name in ("stock_cudnn", "find_cudnn"):
            monkeypatch.setattr(toolkits, name, lambda toolkit: library)
    monkeypatch.setattr(devices, "present_devices", lambda: ["0"])
    for name in ("CUDA_VISIBLE_DEVICES", "nvcc_path"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    return pretend


def test_cuda_that_jittor_was_written_for(toolkit, tmp_path):
    toolkit("12.2.140", "8.9.7", needs_no_toolchain=True)
    assert [(f.ok, f.found) for f in diagnosis.cuda()] == [
        (True, f"12.2.140 in {tmp_path}"), (True, f"8.9.7 in {tmp_path}/include"), (True, "not needed")]


def test_cuda_that_needs_the_set_up(toolkit, tmp_path, monkeypatch):
    toolkit("13.0.88", "9.19.0", needs_no_toolchain=False)
    chain, libraries, finding = diagnosis.cuda()
    assert chain.ok and libraries.ok and (finding.ok, finding.needed, finding.found) == (False, True, "none")
    assert finding.remedy == "run `python tools/setup_cuda.py`"
    monkeypatch.setattr(diagnosis, "environment", lambda cache: {"nvcc_path": "x"})
    monkeypatch.setattr(diagnosis.toolchain, "record", lambda folder: {"cuda": "13.0.88", "cudnn": "9.19.0"})
    finding = diagnosis.cuda()[2]
    assert finding.ok and finding.found == "CUDA 13.0.88 with cuDNN 9.19.0"


def test_a_set_up_that_broke_is_told(toolkit, monkeypatch):
    toolkit("13.0.88", "9.19.0", needs_no_toolchain=False)

    def broken(cache):
        raise UserError("libcudart.so", "leads nowhere", "run it again")
    monkeypatch.setattr(diagnosis, "environment", broken)
    finding = diagnosis.cuda()[2]
    assert not finding.ok and finding.needed and finding.found == "libcudart.so: leads nowhere; run it again"


def test_without_a_device_a_toolkit_is_unused(toolkit, monkeypatch):
    toolkit("13.0.88", "9.19.0", needs_no_toolchain=False)
    monkeypatch.setattr(devices, "present_devices", lambda: [])
    for finding in (diagnosis.device(), *diagnosis.cuda()):
        assert not finding.ok and not finding.needed and not finding.remedy
    assert diagnosis.cuda()[0].found.endswith(", unused")


def test_a_hidden_device_is_told(toolkit, monkeypatch):
    toolkit("13.0.88", "9.19.0", needs_no_toolchain=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert diagnosis.device().found == "present, but CUDA_VISIBLE_DEVICES= hides it"


def test_no_toolkit_beside_a_device(toolkit, monkeypatch):
    monkeypatch.setattr(toolkits, "find_toolkit", lambda: None)
    assert [(f.ok, f.needed, f.found, f.remedy) for f in diagnosis.cuda()] == [
        (False, False, "none", "install CUDA 13, see docs/gpu.md"),
        (False, False, "none", "install cuDNN 9, see docs/gpu.md"), (False, False, "not needed", "")]


@pytest.mark.parametrize("found, ok, text", [
    (None, False, "none"), (("/bin/mpicc", "4.1.4"), True, "Open MPI 4.1.4 at /bin/mpicc"),
    (("/bin/mpicc", None), False, "/bin/mpicc is not Open MPI's; Jittor works with Open MPI only")])
def test_mpi(monkeypatch, found, ok, text):
    monkeypatch.setattr(compilers, "mpi", lambda: found)
    finding = diagnosis.mpi()
    assert (finding.ok, finding.needed, finding.found) == (ok, False, text)


def test_a_full_disk_and_a_new_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "not" / "yet")
    assert diagnosis.cache().ok and "/not/yet, 0 MiB, core still to be compiled" in diagnosis.cache().found
    (tmp_path / "not/yet").mkdir(parents=True, exist_ok=True)  # numpy 2: Jittor was hashed
    (tmp_path / "not/yet/file").write_bytes(bytes(3 << 20))
    assert "/not/yet, 3 MiB, " in diagnosis.cache().found
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda path: SimpleNamespace(free=500 << 20))
    assert (diagnosis.disk().ok, diagnosis.disk().found) == (False, "0.5 GiB free for the cache")


# ---- self-test ---------------------------------------------------------------------------------------------

def test_the_reference_convolution_is_one():
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((1, 2, 3, 4)), rng.standard_normal((3, 2, 3, 3))
    expected = np.zeros((1, 3, 3, 4))
    for k, c, i, j, y, z in np.ndindex(3, 2, 3, 3, 3, 4):
        if 0 <= y + i - 1 < 3 and 0 <= z + j - 1 < 4:
            expected[0, k, y, z] += w[k, c, i, j] * x[0, c, y + i - 1, z + j - 1]
    np.testing.assert_allclose(diagnosis.reference_convolution(x, w), expected, atol=1e-12)


@pytest.mark.jittor
def test_the_self_test_passes_here():
    result = diagnosis.self_test()
    assert result["error"] < (1e-5 if result["device"] == "CPU" else diagnosis.TOLERANCE)
    assert result["gflops"] > 0


@pytest.mark.parametrize("body, message", [
    ("echo 'result {\"error\": 0.25, \"gflops\": 1, \"device\": \"CPU\"}'", "an error of 2.5e-01"),
    ("echo 'result {\"error\": NaN, \"gflops\": 1, \"device\": \"CPU\"}'", "an error of nan"),
    ("echo 'g++ is' >&2; echo unhappy >&2; exit 1", r"ended with status 1 \(... g\+\+ is unhappy\); delete")])
def test_the_self_test_fails_in_one_line(tmp_path, monkeypatch, body, message):
    child = tmp_path / "python"
    child.write_text(f"#!/bin/sh\n{body}\n")
    child.chmod(0o755)
    monkeypatch.setattr(runtime, "compile_core", lambda: None)
    monkeypatch.setattr(sys, "executable", str(child))
    with pytest.raises(UserError, match=message):
        diagnosis.self_test()


@pytest.mark.parametrize("flags, has, words", [
    ({"avx2", "avx512f", "avx512_bf16"}, True, "AVX2, AVX-512, AVX512_BF16: precision bf16 is possible"),
    ({"avx2", "amx_bf16"}, True, "AVX2, AMX: precision bf16 is possible"),
    ({"avx2", "avx512f"}, False, "AVX2, AVX-512"), (set(), False, "none of AVX2, AVX-512, AMX")])
def test_what_the_processor_can_do(monkeypatch, flags, has, words):
    monkeypatch.setattr(runtime, "cpu_flags", lambda: flags)
    monkeypatch.setattr(runtime.onednn, "in_cache", lambda: "linked")
    for held in ("AVX512_CORE", "avx2"):
        monkeypatch.setenv("DNNL_MAX_CPU_ISA", held)
        assert not diagnosis.processor().ok
    monkeypatch.delenv("DNNL_MAX_CPU_ISA")
    found = diagnosis.processor()
    assert found.found.startswith(words) and found.ok == has and not found.needed
    assert has or "bf16" not in found.found and "fp32" in found.remedy


# ---- the tool ----------------------------------------------------------------------------------------------

def test_a_machine_without_compiler(tmp_path):
    done = run(PATH=str(tmp_path), cc_path="g++")
    assert done.returncode == 2 and done.stderr == "error: compiler: none; `apt-get install g++`\n"
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines() if line[0] != " "}    # no patches
    assert "MISSING  none; `apt-get install g++`" in lines["compiler"] and " ok " in lines["Python"]
    assert list(lines) == ["Python", "compiler", "libstdc++", "Python headers", "packages", "Jittor",
                           "oneDNN", "processor", "NVIDIA device", "CUDA toolkit", "cuDNN", "CUDA set-up",
                           "MPI", "cache", "disk"]


def test_json_says_the_same(tmp_path):
    done = run("--json", PATH=str(tmp_path), cc_path="g++")
    said = json.loads(done.stdout)
    assert done.returncode == 2 and said["error"] == "compiler: none; `apt-get install g++`"
    assert said["self_test"] is None
    assert said["findings"][1] == {"name": "compiler", "ok": False, "needed": True, "found": "none",
                                   "remedy": "`apt-get install g++`"}


def test_packages_alone():
    assert run("--packages", "pytest").returncode == 0
    done = run("--packages", "pytest", "no-such-package")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("error: packages: missing: no-such-package (installed: none); "
                           "`pip install -r requirements.txt pytest no-such-package`"
                           f"{NODEPS}\n")
