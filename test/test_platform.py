"""What is prepared before Jittor's import: cache, oneDNN, CUDA, MPI, headers."""
import json
import os
import sys
from types import SimpleNamespace

import jittor_standin
import pytest
from tiny import program

from ldm.errors import UserError
from ldm.platform import cache, compilers, devices, onednn, runtime

home = jittor_standin.home          # a fixture

# ---- where the cache is ------------------------------------------------------------------------------------

def test_cache_home_is_home_unless_told_otherwise(home, monkeypatch):
    assert cache.cache_home() == home
    monkeypatch.setenv("JITTOR_HOME", "")                   # as a script's unset variable: not this folder
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
