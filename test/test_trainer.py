"""The training loop on a toy network: resuming bit for bit after any end, what is kept, what damage does."""
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy
import toy_run
from toy_run import assert_equal, stop_at

from ldm import files, weights
from ldm.errors import UserError
from ldm.training import parallel
from ldm.training.run import checkpoints, jsonl, state

whole = toy_run.whole               # a fixture


def test_twenty_and_twenty_steps_are_forty(whole, tmp_path):
    assert stop_at(tmp_path, 20).step == 20
    toy.go_on(tmp_path)
    (tmp_path / ".lock").touch()
    assert_equal(whole, tmp_path)


def test_the_rate_falls_in_the_last_steps(tmp_path):
    t = toy.trainer(tmp_path, decay="cosine", decay_steps=10)
    rates = []
    for t.step in range(40):
        rates.append(t.learning_rate())
    assert rates[:31] == [0.01] * 31 and rates[35] == pytest.approx(0.005) and 0 < rates[39] < rates[38]


def test_sigterm_between_saves_keeps_the_log_whole(whole, tmp_path):
    stop_at(tmp_path, 22)                            # neither a save is due at 22 nor a line of the log
    assert checkpoints.saved(tmp_path, "state").keys() == {16, 20, 22}      # the two newest, the two best
    assert checkpoints.saved(tmp_path, "ema").keys() == {16, 20}
    toy.go_on(tmp_path)
    assert_equal(whole, tmp_path)


@pytest.mark.parametrize("where, last", [("parallel.any_rank", 2), ("jsonl.append", 3)])
def test_a_signal_at_any_moment_of_a_step_is_kept(tmp_path, monkeypatch, where, last):
    """While ranks agree, when it is too late for that time, and after it, when none may end by itself: the
    run ends after the next agreement, and each step has one."""
    agreed, sent = [], []
    module, name = where.split(".")
    module = {"parallel": parallel, "jsonl": jsonl}[module]
    function = getattr(module, name)

    def signals(*arguments):
        value = function(*arguments)
        if not sent:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))
        return value

    monkeypatch.setattr(module, name, signals)
    outer = parallel.any_rank
    monkeypatch.setattr(parallel, "any_rank", lambda flag: agreed.append(outer(flag)) or agreed[-1])
    t = toy.trainer(tmp_path, log_every=2)
    t.train()
    assert t.step == last and agreed == [False] * (last - 1) + [True]
    assert checkpoints.saved(tmp_path, "state").keys() == {last}


def in_a_save(run):
    """True while a state is being written in `run`."""
    return any(run.glob(".state-*.tmp.*"))


def test_killed_at_ten_moments(whole, tmp_path):
    """In the midst of a file that is written, or in any call of a function."""
    rng = random.Random(1)
    server = subprocess.Popen([sys.executable, Path(__file__).with_name("toy.py"), tmp_path], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def go_on(death=""):
        print(death, file=server.stdin, flush=True)
        return int(server.stdout.readline())

    reached = 0
    for k in range(10):
        if k % 2:
            assert go_on(f"write {rng.randint(1, 9)} {rng.random()}") == signal.SIGKILL
        else:
            assert go_on(f"call {rng.randint(1, 1000)}") == signal.SIGKILL
        step, arrays, problems, _ = state.latest(tmp_path, toy.CONFIG, toy.Task.sections)
        assert problems == [] and reached <= step < 40 and (arrays is None) == (step == 0)
        reached = step
    assert reached > 0 and go_on() == 0
    server.stdin.close()
    assert server.wait(60) == 0
    assert_equal(whole, tmp_path)


def test_a_log_of_another_form_is_one_line(tmp_path):
    for text in ("[]\n", "{}\n", '{"step": "x"}\n', "[" * 5000 + "\n", "NaN\n"):
        (tmp_path / "log.jsonl").write_text(text)
        with pytest.raises(UserError, match="log.jsonl"):
            jsonl.read(tmp_path / "log.jsonl")


def test_metrics_at_the_next_save(tmp_path):
    toy.trainer(tmp_path, steps=13, save_every=3, metrics_every=4).train()
    assert {line["step"]: "M" in line for line in jsonl.read(tmp_path / "validation.jsonl")} == {
        3: False, 6: True, 9: True, 12: True, 13: True}


class Ranks:
    """A validation with given losses, by the number of the measurement."""

    def __init__(self, losses):
        self.losses = iter(losses)

    def measure(self, network, thorough):
        return {"loss": next(self.losses)}


def test_the_newest_and_the_best_are_kept(tmp_path):
    t = toy.trainer(tmp_path, steps=28)
    t.validation = Ranks([5, 1, 4, 2, 3, 9, 8])      # steps 4, 8, ... 28
    t.train()
    for kind in ("state", "ema"):
        assert checkpoints.saved(tmp_path, kind).keys() == {8, 16, 24, 28}
    assert [line["step"] for line in checkpoints.best(tmp_path, "loss", 2)] == [8, 16]
    with pytest.raises(UserError, match="0 checkpoints with 'M'.* validation.jsonl holds l"):
        checkpoints.best(tmp_path, "M", 2)


def test_ranking_by_a_score_and_by_a_distance(tmp_path):
    for step, rate, M, FD in ((4, 0.9, 50, 3), (8, 0.9, 70, 9), (8, 0.5, 60, 1), (12, 0.9, 80, 0)):
        name = f"ema-{rate}-{step:07d}.safetensors"
        jsonl.append(tmp_path / "validation.jsonl",
                       {"step": step, "file": name, "ema_rate": rate, "M": M, "FD": FD})
        if step < 12:                                # the file of 12 is gone
            (tmp_path / name).touch()
    assert [line["M"] for line in checkpoints.ranked(tmp_path, "M")] == [70, 50]
    assert [line["FD"] for line in checkpoints.ranked(tmp_path, "FD")] == [1, 3]


def test_several_rates_in_one_run(tmp_path):
    t = toy.trainer(tmp_path, more_rates=[0.5], steps=8)
    own = {0.9: None, 0.5: None}

    def follow(step, terms):
        p = t.network_weight().astype(np.float64)
        for rate in own:
            own[rate] = start * rate + p * (1 - rate) if step == 1 else own[rate] * rate + p * (1 - rate)

    t.network_weight = lambda: t.parameters["0.weight"].numpy()
    start = t.network_weight().astype(np.float64)
    t.train(follow)
    for rate, name in ((0.9, "ema-0000008"), (0.5, "ema-0.5-0000008")):
        averaged = weights.read_state(tmp_path / f"{name}.safetensors")[0]["0.weight"]
        np.testing.assert_allclose(averaged, own[rate], rtol=1e-6)
    by_rate = {(line["step"], line["ema_rate"]) for line in jsonl.read(tmp_path / "validation.jsonl")}
    assert by_rate == {(4, 0.9), (4, 0.5), (8, 0.9), (8, 0.5)}


def test_averages_applied_and_taken_back(tmp_path):
    t = toy.trainer(tmp_path)
    t.train_step()
    own, averaged = t.parameters["0.weight"].numpy(), t.ema.state["0.weight"].numpy()
    with t.ema.applied() as network:
        np.testing.assert_array_equal(network[0].weight.numpy(), averaged)
    assert abs(own - averaged).max() > 0
    np.testing.assert_array_equal(t.parameters["0.weight"].numpy(), own)
    t.train_step()                                   # gradients still reach the parameters
    assert abs(t.parameters["0.weight"].numpy() - own).max() > 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True,
                          text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_disk_full_while_saving(small_disk, tmp_path):
    stop_at(small_disk, 8, steps=12)
    before = {p.name for p in small_disk.iterdir()}
    free = shutil.disk_usage(small_disk).free
    (small_disk / "other").write_bytes(bytes(free - 4096))           # less than the next save needs
    with pytest.raises(UserError, match="safetensors: cannot be written .No space left on device"):
        toy.go_on(small_disk, steps=12)
    names = {p.name for p in small_disk.iterdir()} - {"other"}
    assert before <= names | {".lock"} and not [name for name in names if ".tmp" in name]
    found = state.latest(small_disk, toy.CONFIG, ("training",))
    assert (found.step, found.problems) == (8, [])
    (small_disk / "other").unlink()
    assert toy.go_on(small_disk, steps=12) == [] and (small_disk / "state-0000012.safetensors").exists()


def test_log_on_a_full_disk(small_disk):
    jsonl.append(small_disk / "log.jsonl", {"step": 1})
    (small_disk / "other").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(UserError, match="log.jsonl: cannot be written .No space left"):
        jsonl.append(small_disk / "log.jsonl", {"step": 2, "text": "x" * 5000})
    assert jsonl.read(small_disk / "log.jsonl") == [{"step": 1}]


def test_half_a_line_is_left_out_and_cut(tmp_path):
    log = tmp_path / "log.jsonl"
    for step in (1, 2, 3):
        jsonl.append(log, {"step": step})
    with open(log, "a") as f:
        f.write('{"step": 4, "lo')
    assert [line["step"] for line in jsonl.read(log)] == [1, 2, 3]
    jsonl.cut(log, 2)
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'
    log.write_text("no JSON\n")
    with pytest.raises(UserError, match="log.jsonl: cannot be read.*JSON"):
        jsonl.read(log)


def test_one_process_a_folder(tmp_path):
    (tmp_path / ".state-0000004.1.tmp.safetensors").touch()
    with files.locked(tmp_path):
        assert not in_a_save(tmp_path), "what a killed process left half-written is removed"
        code = f"from ldm import files\nwith files.locked({str(tmp_path)!r}): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=toy.ROOT)
    assert "is in use by another process" in other.stderr
    with files.locked(tmp_path):
        pass


def test_a_killed_process_gives_its_folder_back_at_once(tmp_path):
    """Also while a process that it forked, such as the one that reads ahead, is still there."""
    code = f"""
import os, time
from ldm import files
with files.locked({str(tmp_path)!r}):
    if child := os.fork():
        print(child, flush=True)
    time.sleep(60)
"""
    killed = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=toy.ROOT)
    child = int(killed.stdout.readline())
    killed.kill()
    killed.wait()
    with files.locked(tmp_path):
        os.kill(child, signal.SIGKILL)              # it is there: this would fail


def test_a_clock_that_stands_still(tmp_path, monkeypatch):
    """As a coarse one does within a fast step, and a virtual machine's after a pause."""
    monkeypatch.setattr("time.perf_counter", lambda: 1.0)
    assert toy.go_on(tmp_path) == []
    assert all(np.isfinite(line["samples_per_second"]) for line in jsonl.read(tmp_path / "train.jsonl"))
