"""Every example of docs/api.md and of the READMEs on Python runs, in their order, with a tiny model."""
import re

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from tiny import make_model

from ldm import images


def examples(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    make_model(folder / "models/demo")
    rng = np.random.default_rng(0)
    mask = Image.fromarray(rng.integers(0, 29, (3, 4)).astype(np.uint8))
    mask.resize((512, 384), Image.Resampling.NEAREST).save(folder / "mask.png")
    images.write_image(folder / "photo.jpg", rng.integers(0, 256, (96, 128, 3)).astype(np.uint8))
    return folder


@pytest.mark.parametrize("page", ["docs/api.md", "README.md", "README.zh-CN.md"])
def test_the_examples_run(place, page, monkeypatch, capsys):
    monkeypatch.chdir(place)
    known, found = {}, examples(ROOT / page)
    assert found
    for example in found:
        exec(compile(example, f"{page}: {example[:40]!r}", "exec"), known)
    assert Image.open("lake.png").size == (64, 48)
    if page == "docs/api.md":
        printed = capsys.readouterr().out
        assert "round 3 of 3, step 18 of 18" in printed and "no such file.png: cannot be read" in printed
        assert Image.open("four.png").width > 4 * 64 and known["wide"].size == (256, 128)
        assert np.array_equal(np.asarray(known["again"]), np.asarray(known["short"]("mask.png", "photo.jpg")))
