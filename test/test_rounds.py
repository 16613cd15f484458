"""Files of rounds: what the shipped fast one says, and what no file may say. Needs no Jittor."""
import json

import numpy as np
import pytest
from conftest import ROOT

from ldm.diffusion import Schedule
from ldm.documents import read_yaml
from ldm.errors import UserError
from ldm.inference import rounds

LINEAR = Schedule.linear(1000)


def test_fast_is_a_fifteenth_of_the_entry_from_the_same_noise():
    fast, entry = (rounds.load(ROOT / f"configs/infer/{name}.yaml") for name in ("fast", "entry"))
    assert 15 * fast.steps(LINEAR) <= entry.steps(LINEAR)
    for ours, theirs in zip(fast.for_schedule(LINEAR), entry.for_schedule(LINEAR)):
        levels = [r.chain.timesteps[r.noise_index] for r in (ours, theirs)]
        assert abs(levels[0] - levels[1]) <= 1          # strength 0.6 is the 600th step, whose t is 599
        assert ours.start == len(ours.chain) and ours[3:] == theirs[3:]
        assert all(r.guidance > 1 for r in (ours, theirs))      # two passes a step in both


@pytest.mark.parametrize("text, words", [
    ("{sampler: dpmpp_3m, rounds: [{strength: 0.5, steps: 3}]}",
     "'sampler' is 'dpmpp_3m'; choose one of ddpm, ddim, "),
    ("{sampler: unipc_2, eta: 0.5, rounds: [{strength: 0.5, steps: 3}]}", "0 with all others"),
    ("{eta: 1.5, rounds: [{strength: 0.5, steps: 3}]}", "0 to 1 with ddim"),
    ("{rounds: [{strength: 0.5, steps: 3, spacing: even}]}",
     "'rounds.spacing' is 'even'; choose one of time, logs"),
    ("{rounds: [{respacing: ddim50, start: 3, strength: 0.9}]}", "two starts"),
    ("{rounds: [{strength: 0.5, steps: 3, start: 7}]}", "two starts"),
    ("{rounds: [{strength: 0.5, start: 7}]}", "two starts"),
    ("{rounds: [{start: 7}]}", "respacing"),
    ("{rounds: [{strength: 0.5}]}", "steps"),
    ("{rounds: [{strength: 0.5, steps: 3}, {strength: 0.5, steps: 3, from: noise, color_transfer: exact}]}",
     "noise"),
    *[(f"{{jpeg_between_rounds: {n}, rounds: [{{strength: 0.5, steps: 3}}]}}", "jpeg_between_rounds")
      for n in (500, -5, 75.5, "true", 10 ** 30)],
    *[(f"{{rounds: [{{strength: {x}, steps: 3}}]}}", "strength") for x in (".nan", ".inf", 2, -1, "[]")],
    *[(f"{{rounds: [{{strength: 0.5, steps: 3, guidance: {x}}}]}}", "guidance")
      for x in (".nan", ".inf", -1)],
    *[(f"{{rounds: [{{strength: 0.5, steps: 3, guidance_interval: {x}}}]}}", "guidance_interval' is")
      for x in ("[.nan, 1]", "[0, .inf]", "[0.5]", "[]", "[0, 0.5, 1]", "[0.6, 0.2]", "[-0.1, 1]", "[0, 600]",
                "0.5", "high", "[low, high]", "[[0], 1]", "[true, 1]", "{0: 1}", "[0, 1.0e+999]")],
    *[(f"{{eta: {x}, rounds: [{{strength: 0.5, steps: 3}}]}}", "eta") for x in (".nan", "1.0e+999", -1)],
    ("{rounds: [5]}", "a mapping for each round"), ("{rounds: [{1: 2}]}", "unknown key"),
    ("{rounds: [" + "{strength: 0.5, steps: 3}, " * 101 + "]}", "101 rounds"),
    ("{pixels: round, rounds: [{strength: 0.5, steps: 3}]}", "'pixels' is 'round'"),
    ("{pixels: entry, jpeg_between_rounds: 75, rounds: [{strength: 0.5, steps: 3}]}", "jpeg_between_rounds"),
    ("{rounds: [{respacing: ddim50, start: 3, spacing: karras}]}", "respacing and the spacing karras"),
])
def test_refusals(tmp_path, text, words):
    (tmp_path / "rounds.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        rounds.load(tmp_path / "rounds.yaml")
    assert words in str(caught.value) and str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_more_steps_than_there_are_are_refused(tmp_path):
    (tmp_path / "rounds.yaml").write_text("{rounds: [{strength: 0.01, steps: 11, spacing: logsnr}]}")
    with pytest.raises(UserError, match="strength 0.01 with 11 steps.* 1 to 10 steps"):
        rounds.load(tmp_path / "rounds.yaml").for_schedule(LINEAR)


# ---- data instead of files, and values by name -------------------------------------------------------------

def test_names_paths_data_and_settings_are_the_same():
    path = ROOT / "configs/infer/fast.yaml"
    settings = rounds.load("fast")
    assert rounds.load(path) == rounds.load(read_yaml(path)) == rounds.load(settings) == settings
    assert rounds.names() == sorted(p.stem for p in (ROOT / "configs/infer").glob("*.yaml"))


@pytest.mark.parametrize("name", rounds.names())
def test_a_tree_of_settings_gives_the_same_settings(name):
    settings = rounds.load(name)
    tree = json.loads(json.dumps(settings.tree()))
    assert rounds.check(tree) == settings and "spacing" not in json.dumps(rounds.load("paper").tree())


def test_assignments_reach_into_rounds():
    fast = rounds.load("fast")
    made = rounds.load("fast", ["rounds.*.guidance=3", "rounds.0.steps=5", "sampler=ddim"])
    assert [r["guidance"] for r in made.rounds] == [3.0] * 3 and made.sampler == "ddim"
    assert [r["steps"] for r in made.rounds] == [5] + [r["steps"] for r in fast.rounds[1:]]
    assert made.rounds[0]["strength"] == fast.rounds[0]["strength"]
    replaced = rounds.load("fast", ["rounds=[{strength: 0.2, steps: 4}]", "rounds.0.guidance=2"])
    assert [(r["strength"], r["guidance"]) for r in replaced.rounds] == [(0.2, 2.0)]


@pytest.mark.parametrize("text", [
    "rounds.3.steps=5", "rounds.*.step=5", "rounds.0=5", "rounds.*=5", "rounds.*.", "rounds.*.steps=x",
    "rounds.-1.steps=5", "rounds.*.guidance=nan", "rounds.*.steps", "rounds.0.steps=[" + "[" * 99,
    "rounds.*.respacing=ddim50", "rounds..steps=1", "rounds.0.steps=5000", "round.0.steps=5"])
def test_wrong_assignments_are_refused(text):
    with pytest.raises(UserError) as caught:
        rounds.load("fast", [text]).for_schedule(LINEAR)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["rounds.3.steps=5", "rounds.0=5", "rounds.*.a.b=1", "rounds.=1"])
def test_a_round_that_there_is_not_is_said(text):
    with pytest.raises(UserError, match="is no option of the 3 rounds; write rounds.0.guidance=3"):
        rounds.load("fast", [text])


def test_options_by_name_are_assignments():
    options = {"guidance": np.float64(2.5), "sampler": "ddpm", "rounds.0.steps": np.int64(5), "eta": 1e-9,
               "guidance_interval": (0.1, 1)}
    texts = rounds.assignments(options)
    assert texts[:3] == ["rounds.*.guidance=2.5", 'sampler="ddpm"', "rounds.0.steps=5"]
    made = rounds.load("fast", texts[:3] + texts[4:])
    assert [r["guidance_interval"] for r in made.rounds] == [[0.1, 1.0]] * 3
    assert made.rounds[1]["guidance"] == 2.5 and made.rounds[0]["steps"] == 5 and made.sampler == "ddpm"
    for wrong in ({"guidance": object()}, {"guidance": {1: 2}}, {"sampler": None}, {"quality": 3}):
        with pytest.raises(UserError):
            rounds.load("fast", rounds.assignments(wrong))


@pytest.mark.parametrize("source", [
    "quick", 5, None, [], ["fast"], {}, {"rounds": 3}, {"rounds": [3]}, {1: 2}, {"rounds": [{}]},
    {"rounds": [{"steps": 3, "strength": 0.5}], "seed": 3}, {"rounds": [{"steps": True, "strength": 0.5}]},
    {"rounds": [{"steps": 3, "strength": float("nan")}]}, {"rounds": [{1: 2}]},
    {"rounds": [{"steps": [3], "strength": 0.5}]}, {"rounds": {"0": {}}}, "a\0b", "configs", b"fast\xff"])
def test_what_is_no_rounds_is_refused(source):
    with pytest.raises(UserError) as caught:
        rounds.load(source)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
