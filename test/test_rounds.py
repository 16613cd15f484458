"""Files of rounds: what the shipped fast one says, and what no file may say. Needs no Jittor."""
import pytest
from conftest import ROOT

from ldm.diffusion import Schedule
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
     "'sampler' is 'dpmpp_3m'; one of ddpm, ddim, dpmpp"),
    ("{sampler: unipc_2, eta: 0.5, rounds: [{strength: 0.5, steps: 3}]}", "0 with all others"),
    ("{eta: 1.5, rounds: [{strength: 0.5, steps: 3}]}", "0..1 is possible with ddim"),
    ("{rounds: [{strength: 0.5, steps: 3, spacing: even}]}", "'rounds.spacing' is 'even'; one of time, logs"),
    ("{rounds: [{respacing: ddim50, start: 3, strength: 0.9}]}", "both"),
    ("{rounds: [{strength: 0.5, steps: 3, start: 7}]}", "both"),
    ("{rounds: [{strength: 0.5, start: 7}]}", "both"),
    ("{rounds: [{start: 7}]}", "respacing"),
    ("{rounds: [{strength: 0.5}]}", "steps"),
    ("{rounds: [{strength: 0.5, steps: 3}, {strength: 0.5, steps: 3, from: noise, color_transfer: exact}]}",
     "noise"),
    *[(f"{{jpeg_between_rounds: {n}, rounds: [{{strength: 0.5, steps: 3}}]}}", "jpeg_between_rounds")
      for n in (500, -5, 75.5, "true", 10 ** 30)],
    *[(f"{{rounds: [{{strength: {x}, steps: 3}}]}}", "strength") for x in (".nan", ".inf", 2, -1, "[]")],
    *[(f"{{rounds: [{{strength: 0.5, steps: 3, guidance: {x}}}]}}", "guidance")
      for x in (".nan", ".inf", -1)],
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


def test_more_steps_than_there_are_are_refused(tmp_path):
    (tmp_path / "rounds.yaml").write_text("{rounds: [{strength: 0.01, steps: 11, spacing: logsnr}]}")
    with pytest.raises(UserError, match="strength 0.01 with 11 steps.* 1 to 10 steps"):
        rounds.load(tmp_path / "rounds.yaml").for_schedule(LINEAR)
