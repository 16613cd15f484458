"""A run's curves: which numbers are drawn, the picture, and a clear word where matplotlib is missing."""
import importlib.util
import json

import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.training.run import plots


@pytest.fixture
def run(tmp_path):
    train = [{"step": s, "learning_rate": 1e-4, "loss": 1 / s, "mse": 0.9 / s, "grad_norm": 2.0}
             for s in (10, 20, 30)]
    held_out = [{"step": 20, "file": "ema-0000020.safetensors", "loss": 0.1, "loss_q1": 0.2, "M": 50},
                {"step": 20, "file": "ema-0.5-0000020.safetensors", "loss": 0.3, "loss_q2": 0.4}]
    for name, lines in (("train", train), ("validation", held_out)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_series_begin_where_their_numbers_do():
    lines = [{"step": 1, "loss": 5}, {"step": 2, "loss": 4, "vb": 3}]
    assert plots.series(lines, lambda name: name != "step") == {"loss": ([1, 2], [5, 4]), "vb": ([2], [3])}


def test_without_matplotlib(run, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="matplotlib: is not installed.*pip install"):
        plots.draw(run, run / "curves.png")


def test_curves(run):
    pytest.importorskip("matplotlib", reason="matplotlib is an extra")
    plots.draw(run, run / "curves.png")
    assert Image.open(run / "curves.png").size > (600, 400)
    plots.draw(run, run / "curves.svg")
    text = (run / "curves.svg").read_text()
    for name in ("loss", "mse", "held out: loss_q1", "learning rate"):
        assert f"<!-- {name} -->" in text
    assert not any(f"<!-- {name} -->" in text for name in ("grad_norm", "held out: M", "held out: loss_q2"))


def test_a_folder_without_a_log(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is an extra")
    with pytest.raises(UserError, match="has no train.jsonl"):
        plots.draw(tmp_path, tmp_path / "curves.png")
