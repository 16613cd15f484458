"""The training loop on a toy network: resuming bit for bit after any end, what is kept, what damage does."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy

from ldm import config as configs
from ldm import files, weights
from ldm.errors import UserError
from ldm.training import parallel
from ldm.training.run import checkpoints, jsonl, state

MEASURED = ("samples_per_second", "memory_gb", "hours_left")     # what differs from run to run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """40 steps, undisturbed."""
    run = tmp_path_factory.mktemp("whole")
    assert toy.go_on(run) == []
    return run


def lines(run, name):
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in jsonl.read(run / name)]


def assert_equal(a, b):
    """The same files, the same numbers in each, bit for bit, and the same logs."""
    assert {p.name for p in a.iterdir()} == {p.name for p in b.iterdir()}
    for path in a.glob("*.safetensors"):
        (first, one), (second, two) = weights.read_state(path), weights.read_state(b / path.name)
        assert one == two and first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], err_msg=f"{path.name} {name}")
    for name in ("train.jsonl", "validation.jsonl"):
        assert lines(a, name) == lines(b, name)


def stop_at(run, step, **options):
    """Resume the run in `run` and end it after `step`, as SIGTERM would."""
    t = toy.trainer(run, **options)
    t.resume()
    t.train(lambda done, terms: done == step and os.kill(os.getpid(), signal.SIGTERM))
    return t


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


def copied(whole, folder):
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    return folder


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1                                    # a bit of one of the numbers
    path.write_bytes(data)


@pytest.mark.parametrize("damage, word", [(truncate, "truncated"), (flip, "damaged"),
                                          (lambda path: path.write_bytes(b""), "is empty")])
def test_damaged_state_falls_back_and_says_so(whole, tmp_path, damage, word):
    run = copied(whole, tmp_path)
    damage(run / "state-0000040.safetensors")
    [problem] = toy.go_on(run)
    assert "state-0000040.safetensors" in problem and word in problem
    assert_equal(whole, run)


def test_no_whole_state_stops_the_run(whole, tmp_path):
    run = copied(whole, tmp_path)
    for path in run.glob("state-*"):
        truncate(path)
    with pytest.raises(UserError, match="none of its 2 states can be used.*state-0000040"):
        toy.go_on(run)


def test_other_config_is_refused_and_its_keys_named(whole):
    for options in ({"batch_size": 5}, {"ema_rate": 0.5, "seed": 7}):
        with pytest.raises(UserError, match=", ".join(f"training.{key}" for key in options)):
            toy.go_on(whole, **options)
    with pytest.raises(UserError, match="training.more_ema_rates"):
        toy.go_on(whole, more_rates=[0.5])


def test_what_decides_no_step_may_change(whole, tmp_path):
    run = copied(whole, tmp_path)
    assert toy.go_on(run, steps=42, save_every=1, keep=1, best_by="M") == []
    assert max(checkpoints.saved(run, "state")) == 42


def test_a_key_younger_than_the_state_is_as_by_default(whole, tmp_path):
    arrays, saved = weights.read_state(whole / "state-0000040.safetensors")
    config = {"training": {k: v for k, v in saved["config"]["training"].items() if k != "label_drop"}}
    state.save(tmp_path, 40, arrays, config, ("training",))
    assert state.latest(tmp_path, toy.CONFIG, ("training",)).step == 40
    changed = configs.override(toy.CONFIG, ["training.label_drop=0.5"])
    with pytest.raises(UserError, match="training.label_drop"):
        state.latest(tmp_path, changed, ("training",))


def header_changed(path, change):
    """Rewrite the JSON header of a safetensors file, of the same length, by `change(header)`."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(data[:8] + text + b" " * (length - len(text)) + data[8 + length:])


def other_type(header):
    header["network/0.weight"]["dtype"] = "I32"


def turned(header):
    header["network/0.weight"]["shape"].reverse()


def other_step(header):
    config = json.loads(header["__metadata__"]["config"])
    header["__metadata__"]["config"] = json.dumps({**config, "step": 39})


@pytest.mark.parametrize("change, word", [(other_type, "damaged"), (turned, "damaged"),
                                          (other_step, "holds the state of step 39")])
def test_a_header_is_part_of_what_is_checked(whole, tmp_path, change, word):
    run = copied(whole, tmp_path)
    header_changed(run / "state-0000040.safetensors", change)
    [problem] = toy.go_on(run)
    assert "state-0000040.safetensors" in problem and word in problem
    assert_equal(whole, run)


def test_a_state_under_another_name_is_passed_over(whole, tmp_path):
    run = copied(whole, tmp_path)
    shutil.copy(run / "state-0000036.safetensors", run / "state-0000099.safetensors")
    [problem] = toy.go_on(run)
    assert "state-0000099" in problem and "holds the state of step 36" in problem


def test_a_state_of_another_network_is_passed_over(whole, tmp_path):
    run = copied(whole, tmp_path)
    arrays, saved = weights.read_state(run / "state-0000040.safetensors")
    del arrays["m/0.bias"]
    state.save(run, 40, arrays, saved["config"], ("training",))
    [problem] = toy.go_on(run)
    assert "'m/0.bias'" in problem
    assert_equal(whole, run)


def test_states_of_the_first_form_are_read(whole, tmp_path):
    arrays, saved = weights.read_state(whole / "state-0000036.safetensors")
    del saved["digest"], arrays["first_loss"]
    weights.save(tmp_path / "state-0000036.safetensors", arrays,
                 {**saved, "checksum": state.checksum(arrays)})
    assert toy.go_on(tmp_path) == []
    arrays["network/0.weight"][0, 0] += 1
    for path in tmp_path.glob("state*"):
        path.unlink()
    weights.save(tmp_path / "state-0000036.safetensors", arrays, saved)
    with pytest.raises(UserError, match="damaged"):
        toy.go_on(tmp_path)


# ---- numbers that are of no use ----------------------------------------------------------------------------

WAY_ON = re.compile(r"--from-step (\d+) training\.learning_rate=(\S+) to the command")


def test_from_a_loss_that_is_not_finite_to_a_finished_run(tmp_path):
    """The message is followed to the letter, as often as it comes; the same command again continues."""
    toy.go_on(tmp_path, steps=9)
    options, gone_back = {"learning_rate": 1e30}, 0
    while gone_back < 40:
        try:
            toy.go_on(tmp_path, **options)
            break
        except UserError as e:
            found = WAY_ON.search(str(e))
            assert found, str(e)
            options = {"from_step": int(found[1]), "learning_rate": float(found[2])}
            gone_back += 1
    assert 1 < gone_back < 40 and (tmp_path / "state-0000040.safetensors").exists()
    for path in tmp_path.glob("*.safetensors"):
        assert all(np.isfinite(a).all() for a in weights.read_state(path)[0].values())
    changes = jsonl.read(tmp_path / "changes.jsonl")
    assert changes[0]["from_step"] is None and changes[0]["changed"]["training.learning_rate"] == [0.01, 1e30]
    assert changes[-1]["from_step"] == options["from_step"]
    before = (tmp_path / "state-0000040.safetensors").read_bytes()
    assert toy.go_on(tmp_path, **options) == []
    assert (tmp_path / "state-0000040.safetensors").read_bytes() == before


def test_without_a_state_from_before_the_message_says_so(tmp_path):
    with pytest.raises(UserError, match="training.learning_rate=1e.29 .*another --output"):
        toy.go_on(tmp_path, learning_rate=1e30)
    assert not list(tmp_path.glob("*.safetensors"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    t = toy.trainer(tmp_path)

    def spoil(step, terms):
        if step == 7:
            t.averages[0].state["0.bias"].assign(np.full(3, np.inf, np.float32))
    with pytest.raises(UserError, match="'ema/0.bias' is not finite after step 8.*--from-step 4"):
        t.train(spoil)
    assert checkpoints.saved(tmp_path, "state").keys() == checkpoints.saved(tmp_path, "ema").keys() == {4}


def test_going_back_moves_what_came_after_away(whole, tmp_path):
    run = copied(whole, tmp_path)
    t = toy.trainer(run)
    [step] = [s for s in checkpoints.saved(run, "state") if s != 40][-1:]
    found = t.resume(step)
    assert (found.step, found.changes, t.step) == (step, {}, step)
    assert max(checkpoints.saved(run, "state")) == max(checkpoints.saved(run, "ema")) == step
    assert checkpoints.saved(run / "abandoned", "state").keys() == {40}
    assert max(line["step"] for line in jsonl.read(run / "train.jsonl")) <= step
    t.train()
    shutil.rmtree(run / "abandoned")
    (run / "changes.jsonl").unlink()
    for name in ("state", "ema"):
        assert (run / f"{name}-0000040.safetensors").exists()
    first, second = (weights.read_state(r / "state-0000040.safetensors")[0] for r in (whole, run))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    with pytest.raises(UserError, match="--from-step: is 3.* one of the saved steps"):
        toy.trainer(run).resume(3)


def test_parts_of_a_batch_are_free_without_a_discriminator_only():
    section = {"micro_batch": 2, "discriminator_weight": 0.0}
    other = {**section, "micro_batch": 4}
    assert state.differences(section, other, "a") == {}
    section["discriminator_weight"] = other["discriminator_weight"] = 0.5
    assert state.differences(section, other, "a") == {"a.micro_batch": [2, 4]}
    assert len({state.hashed({"a": x}, ["a"]) for x in (section, other)}) == 2


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
