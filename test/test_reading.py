"""--ignore and --fit mean the same in every tool. No Jittor."""
import importlib
import sys

import numpy as np
import pytest
from conftest import ROOT
from tiny import make_pairs

from ldm import images
from ldm.errors import UserError
from ldm.inference import job

sys.path.insert(0, str(ROOT / "tools"))
import cli  # noqa: E402
import reading  # noqa: E402


def parsed(*arguments):
    parser = cli.Parser()
    reading.add_options(parser)
    return reading.of(parser.parse_args(arguments))


def test_options():
    assert parsed() == images.AS_IS
    assert parsed("--ignore", "255", "--ignore", "0", "--fit", "crop") == images.Reading((0, 255), "crop")
    with pytest.raises(UserError, match="--ignore: is -1"):
        parsed("--ignore=-1")


@pytest.mark.parametrize("tool", ["infer", "evaluate", "encode_latents", "train", "train_autoencoder",
                                  "train_segmenter", "ablation"])
def test_every_tool_that_reads_masks_has_them(tool, monkeypatch, capsys):
    module = importlib.import_module(tool)
    monkeypatch.setattr(sys, "argv", [tool, "--help"])
    with pytest.raises(SystemExit):
        module.main()
    shown = capsys.readouterr().out
    assert "--ignore VALUE" in shown and "--fit {refuse,crop}" in shown


def test_a_dry_run_reports_masks_of_other_proportions_and_values(tmp_path):
    made = make_pairs(tmp_path / "in", count=3)
    images.write_image(made / "masks/m0.png", np.full((64, 48), 3, np.uint8))
    images.write_image(made / "masks/m1.png", np.full((48, 64), 255, np.uint8))

    def failures(how):
        plan = job.plan(made / "masks", made / "references", None, tmp_path / "out", "jpg", reading=how)
        job.check(plan, (64, 48))
        return [str(failure) for failure in plan.failures]
    first, second = failures(images.AS_IS)
    assert "m0.png: is 48 x 64 pixels, other proportions" in first and "m1.png: holds label 255" in second
    assert failures(images.Reading((255,), "crop")) == []
