"""tools/benchmark.py solvers: what its table says, and what it refuses."""
import json
import sys

import pytest
from tiny import make_model, make_pairs, one_error, run_tool

from ldm.benchmark import report, solvers
from ldm.errors import UserError


def test_table(tmp_path):
    (tmp_path / "model").mkdir()
    model, pairs = make_model(tmp_path / "model"), make_pairs(tmp_path / "in", 2)
    made = run_tool("benchmark", "solvers", "--json", "--model", model, "--masks", pairs / "masks",
                    "--references", pairs / "references", "--strength", 0.04, "--guidance", 2.0,
                    "--solvers", "ddim:time", "dpmpp_2m:karras", "--steps", 3, 12, "--models", tmp_path)
    assert made.returncode == 0, made.stderr
    tree = json.loads(made.stdout)
    rows = tree["tables"][0]["rows"]
    assert [(r["solver"], r["spacing"], r["steps"], r["passes"]) for r in rows] == [
        ("ddim", "time", 40, 80), ("ddim", "time", 3, 6), ("ddim", "time", 12, 24),
        ("dpmpp_2m", "karras", 3, 6), ("dpmpp_2m", "karras", 12, 24)]
    apart = [r["distance"] for r in rows]
    assert apart[0] == 0 and 0 < apart[2] < apart[1] < 1 and 0 < apart[4] < apart[3] < 1
    assert all(r["PSNR"] > 15 for r in rows[1:]) and all(-100 <= r["S"] <= 100 for r in rows)
    assert "M" not in rows[0]                                   # no segmenter, no column
    lines = report.markdown(tree).splitlines()
    assert lines[0].startswith("cpu ") and lines[2].startswith("**2 images, one round from strength 0.04")
    assert lines[4].startswith("| solver | spacing | steps | passes |") and len(lines) == 6 + len(rows)


def test_refusals(tmp_path):
    one_error(run_tool("benchmark", "solvers", "--solvers", "ddpm:time"), "ddpm:time", "dpmpp_2m",
              "logsnr")
    one_error(run_tool("benchmark", "solvers", "--steps", 700), "strength 0.6 with 700 steps")
    one_error(run_tool("benchmark", "nothing"), "nothing")


def test_plots_say_what_they_need(tmp_path, monkeypatch):
    from ldm.benchmark import solvers
    from ldm.errors import UserError
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="matplotlib: is not installed"):
        solvers.plotting()


@pytest.mark.parametrize("strength, steps, guidance", [
    (float("nan"), 5, 2.0), (float("inf"), 5, 2.0), (1.5, 5, 2.0), (0.5, 5, float("nan")),
    (0.5, 5, float("inf")), (0.5, -5, 2.0), (0.5, 10 ** 30, 2.0)])
def test_numbers_out_of_range_are_refused(strength, steps, guidance):
    with pytest.raises(UserError, match="--strength"):
        solvers.one_round(solvers.solver("ddim:time"), steps, strength, guidance)
