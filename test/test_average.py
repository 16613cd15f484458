"""Eq. 7: the mean of checkpoints, against golden numbers, and what it refuses."""
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, golden
from tiny import one_error, run_tool

from ldm.errors import UserError
from ldm.training.run.ensemble import average, average_files
from ldm.training.run.jsonl import append
from ldm.weights import convert, read_state, save


def part(prefix):
    return {name[len(prefix):]: array for name, array in golden("average").items() if name.startswith(prefix)}


def test_mean_of_two_and_of_three_checkpoints():
    states = [part(f"ckpt{i}/") for i in range(3)]
    two, three = average(states[:2]), average(states)
    for name, expected in part("avg2_f32/").items():
        np.testing.assert_array_equal(two[name], expected, strict=True)
    for name, expected in part("avg3_f64/").items():
        np.testing.assert_array_equal(three[name], expected.astype(np.float32), strict=True)
    assert list(two) == list(states[0])


def test_weights_are_relative_and_sums_are_in_float64():
    states = [{"w": np.float32([2 ** 24, 1])}, {"w": np.float32([1, 5])}, {"w": np.float32([1, 0])}]
    assert average(states, [1, 1, 1])["w"].tolist() == [(2 ** 24 + 2) / 3, 2]    # not so in float32
    assert average(states, [3, 1, 0])["w"].tolist() == [np.float32((3 * 2 ** 24 + 1) / 4), 2]


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("nan")]])
def test_weights_that_are_none(weights):
    with pytest.raises(UserError, match="weights"):
        average([{"w": np.ones(1, np.float32)}] * 2, weights)


@pytest.mark.parametrize("other, words", [
    ({"v": np.ones(2, np.float32)}, r"state 2: .*missing 1 \(w\); extra 1 \(v\)"),
    ({"w": np.ones(3, np.float32)}, "w is 3 instead of 2"),
])
def test_other_names_or_shapes(other, words):
    with pytest.raises(UserError, match=words):
        average([{"w": np.ones(2, np.float32)}, other])


def test_integers_are_kept_if_they_agree():
    state = {"steps": np.array(7)}
    assert average([state, state])["steps"] == 7
    with pytest.raises(UserError, match="steps: holds integers that differ"):
        average([state, {"steps": np.array(8)}])


def test_configs_may_differ_in_training_only(tmp_path):
    configs = [{"unet": {"channels": 8}, "training": {"steps": n}} for n in (1, 2)]
    configs.append({"unet": {"channels": 9}})
    for i, config in enumerate(configs):
        save(tmp_path / f"{i}", {"w": np.float32([i])}, config)
    (tmp_path / "foreign.pkl").write_bytes(pickle.dumps({"w": np.float32([4])}))
    paths = [tmp_path / name for name in ("foreign.pkl", "0", "1")]
    state = average_files(paths, tmp_path / "mean", [1, 1, 2])
    assert state["w"].shape == (1,) and read_state(tmp_path / "mean")[0]["w"].tolist() == [1.5]
    assert read_state(tmp_path / "mean")[1] == configs[0]
    with pytest.raises(UserError, match="2: has another config than"):
        average_files([tmp_path / "0", tmp_path / "2"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_tool(tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}", part(f"ckpt{i}/"))
    done = run_tool("average", tmp_path / "0", tmp_path / "1", "--output", tmp_path / "mean")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/mean: 4 tensors, 139 parameters, the mean of 2 checkpoints\n"
    state, _ = read_state(tmp_path / "mean")
    for name, expected in part("avg2_f32/").items():
        np.testing.assert_array_equal(state[name], expected, strict=True)
    for bad in (["--weights", "1,x"], ["--weights", "1"], ["--weights", "0,0"]):
        one_error(run_tool("average", tmp_path / "0", tmp_path / "1", "--output", tmp_path / "no", *bad))
    assert not (tmp_path / "no").exists()


def test_tool_takes_the_best_of_a_run(tmp_path):
    run, output = tmp_path / "run", tmp_path / "best.safetensors"
    for step, M in ((100, 60), (200, 80), (300, 70)):
        name = f"ema-{step:07d}.safetensors"
        save(run / name, {"w": np.float32([step])})
        append(run / "validation.jsonl", {"step": step, "file": name, "ema_rate": 0.9, "M": M})
    (run / "config.yaml").write_text("image_size: [128, 64]\n")
    done = run_tool("average", "--best", 2, "--by", "M", run, "--output", output)
    assert done.returncode == 0, done.stderr
    assert read_state(output)[0]["w"].tolist() == [250]
    best, second, mean, last = done.stdout.splitlines()
    assert best == f"{run}/ema-0000200.safetensors: M 80" and second == f"{run}/ema-0000300.safetensors: M 70"
    assert mean.startswith(f"{output}: not measured (") and "latent" in mean
    assert last == f"{output}: 1 tensors, 1 parameters, the mean of 2 checkpoints"
    for bad, words in ((["--best", 4, "--by", "M", run], ("has 3 checkpoints with 'M', not 4",)),
                       (["--best", 2, run], ("has 0 checkpoints with 'loss'", "holds M")),
                       (["--best", 0, run], ("--best: is 0",)),
                       (["--best", 2, run, run], ("the folder of one run",))):
        one_error(run_tool("average", *bad, "--output", tmp_path / "no"), *words)
    assert not (tmp_path / "no").exists()


def test_wrappers_prefixes_are_never_kept(tmp_path):
    save(tmp_path / "plain", {"a.w": np.float32([1]), "b": np.float32([2])})
    for prefix in ("module.", "_orig_mod.", "module._orig_mod."):
        save(tmp_path / "wrapped", {f"{prefix}a.w": np.float32([3]), f"{prefix}b": np.float32([4])})
        for pair in (("plain", "wrapped"), ("wrapped", "plain"), ("wrapped", "wrapped")):
            average_files([tmp_path / name for name in pair], tmp_path / "mean")
            assert set(read_state(tmp_path / "mean")[0]) == {"a.w", "b"}


def test_a_networks_names_and_shapes_are_asked_of_every_file(tmp_path):
    shapes, config = {"w": (2,)}, {"schedule": "linear"}
    save(tmp_path / "good", {"w": np.ones(2, np.float32)})
    save(tmp_path / "other", {"v": np.ones(2, np.float32)})
    save(tmp_path / "wide", {"w": np.ones(3, np.float32)})
    average_files([tmp_path / "good"] * 2, tmp_path / "mean", config=config, shapes=shapes)
    assert read_state(tmp_path / "mean")[1] == config
    with pytest.raises(UserError, match="other: .*missing 1 .w.; extra 1 .v.") as caught:
        average_files([tmp_path / n for n in ("good", "other", "wide")], tmp_path / "no", config=config,
                      shapes=shapes)
    assert len(caught.value.details) == 1 and "wide" in caught.value.details[0]
    save(tmp_path / "cosine", {"w": np.ones(2, np.float32)}, {"schedule": "cosine"})
    with pytest.raises(UserError, match="cosine: .*schedule"):
        average_files([tmp_path / "good", tmp_path / "cosine"], tmp_path / "no", config=config, shapes=shapes)
    assert not (tmp_path / "no").exists()


def test_what_is_read_is_never_written_over(tmp_path):
    for name in "ab":
        save(tmp_path / name, {"w": np.float32([1])})
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.link(tmp_path / "b", tmp_path / "hard")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for target in ("a", "b", "link", "hard", "x/../a"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="also an input"):
            average_files([tmp_path / "a", tmp_path / "b"], tmp_path / target)
        with pytest.raises(UserError, match="also an input"):
            convert(tmp_path / ("b" if target in ("b", "hard") else "a"), tmp_path / target)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert (tmp_path / "link").is_symlink()


PEAK = """
import re, sys
sys.path.insert(0, sys.argv[1])
from ldm.training.run.ensemble import average_files
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
before = peak()
average_files(sys.argv[2:-1], sys.argv[-1])
print(peak() - before)
"""


def test_averaging_takes_less_memory_than_a_file(tmp_path):
    """Twenty tensors of 2 MB: a few of them in float64 at a time, not forty of all."""
    state = {f"w{i}": np.full(500_000, i, np.float32) for i in range(20)}
    save(tmp_path / "a", state)
    (tmp_path / "b").write_bytes(pickle.dumps(state, 4))
    command = [sys.executable, "-c", PEAK, ROOT, tmp_path / "a", tmp_path / "b", tmp_path / "mean"]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak < 1.2 * (tmp_path / "a").stat().st_size
    assert read_state(tmp_path / "mean")[0]["w7"].tolist() == [7.0] * 500_000
