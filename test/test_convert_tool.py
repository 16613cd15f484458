"""tools/convert.py: what it writes and prints, and what it refuses."""
import os
import pickle

import pytest
import safetensors.numpy
from tiny import one_error, run_tool, start_tool
from weight_samples import SAMPLES


def test_a_file_is_converted(tmp_path):
    done = start_tool("convert", SAMPLES[2], "--output", tmp_path / "w.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/w.safetensors: 6 tensors, 19 parameters, not compared with a network\n"
    assert len(safetensors.numpy.load_file(tmp_path / "w.safetensors")) == 6


@pytest.mark.parametrize("source, target, options, word", [
    ("evil.pkl", "x", [], "evil.pkl"), ("", "x", [], "is a folder"), (SAMPLES[2], "/proc/x", [], "/proc/x"),
    (SAMPLES[2], "x", ["--part", "unet"], "--part"), (SAMPLES[2], "x", ["--container", "a"], "'a'"),
    (SAMPLES[2], "x", ["--config", "none.yaml", "--part", "unet"], "none.yaml")])
def test_an_error_is_one_line_and_writes_nothing(tmp_path, monkeypatch, source, target, options, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"w": os.system}))
    done = run_tool("convert", tmp_path / source, "--output", tmp_path / target, *options)
    one_error(done, word)
    assert done.stdout == "" and not (tmp_path / "x").exists()
