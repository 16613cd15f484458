"""States of a run: what damage, another config and unusable numbers do."""
import json
import re
import shutil

import numpy as np
import pytest
import toy
import toy_run
from toy_run import assert_equal, copied

from ldm import config as configs
from ldm import weights
from ldm.errors import UserError
from ldm.training.run import checkpoints, jsonl, state

whole = toy_run.whole               # a fixture


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


def test_parts_of_a_batch_are_free_without_a_discriminator_only():
    section = {"micro_batch": 2, "discriminator_weight": 0.0}
    other = {**section, "micro_batch": 4}
    assert state.differences(section, other, "a") == {}
    section["discriminator_weight"] = other["discriminator_weight"] = 0.5
    assert state.differences(section, other, "a") == {"a.micro_batch": [2, 4]}
    assert len({state.hashed({"a": x}, ["a"]) for x in (section, other)}) == 2


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
