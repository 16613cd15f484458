"""Precision `auto`: what it chooses, what it says, and that it measures once."""
import json

import pytest
import tiny

from ldm import config as configs
from ldm import sizes
from ldm.errors import UserError
from ldm.inference import fastest, makers
from ldm.inference.pipeline import Pipeline
from ldm.networks.onednn import operators
from ldm.platform import cache, processor, runtime


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A processor with bf16 and an empty cache. -> (ratios to be measured, those that were, lines said)"""
    ratios, measured, said = [0.6], [], []
    monkeypatch.setattr(runtime, "on_gpu", lambda: False)
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(cache, "own_folder", lambda: tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(fastest, "measure", lambda config: measured.append(config) or ratios[-1])
    return ratios, measured, said


def choose(said, kind=fastest.AUTO, **options):
    return fastest.chosen(kind, configs.merge(tiny.CONFIG, options, "test"), said.append)


def test_what_is_asked_for_is_not_measured(machine):
    _, measured, said = machine
    assert [choose(said, kind) for kind in runtime.PRECISIONS] == list(runtime.PRECISIONS)
    assert not measured and not said


@pytest.mark.parametrize("ratio, kind", [(0.5, "bf16"), (0.9, "bf16"), (0.91, "fp32"), (1.4, "fp32"),
                                         (None, "fp32")])
def test_it_is_measured_once_and_said_each_time(machine, ratio, kind):
    ratios, measured, said = machine
    ratios.append(ratio)
    assert [choose(said), choose(said)] == [kind, kind] and len(measured) == 1
    assert "once" in said[0] and len(said) == 3 and said[1] == said[2]
    assert said[1].startswith(f"precision auto: {kind}; ") and "\n" not in said[1]
    assert ("widths" if ratio is None else f"{ratio:.2f} of fp32's time on {processor.name()}") in said[1]


def test_another_processor_model_size_or_number_of_threads_is_measured_anew(machine, monkeypatch):
    _, measured, said = machine
    keys = [fastest.key_of(tiny.CONFIG)]
    choose(said)
    choose(said, image_size=[128, 96])
    choose(said, unet={"channels": 64})
    choose(said, training={"steps": 7})                 # as the first
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    choose(said)
    monkeypatch.setattr(processor, "name", lambda: "another")
    choose(said)
    keys.append(fastest.key_of(tiny.CONFIG))
    assert len(measured) == 5 and keys[0] != keys[1]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"a": "b"}', '{"a": [1]}', "\0\xff"])
def test_a_damaged_file_is_measured_anew(machine, tmp_path, text):
    _, measured, said = machine
    (tmp_path / "cache" / fastest.FILE).write_text(text)
    assert choose(said) == "bf16" and len(measured) == 1
    assert list(json.loads((tmp_path / "cache" / fastest.FILE).read_text()).values()) == [0.6]


def test_without_bf16_it_is_fp32(machine, monkeypatch):
    _, measured, said = machine
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: False)
    assert choose(said) == "fp32" and not measured
    assert said == [f"precision auto: fp32; {runtime.NO_BF16}"]


def test_it_is_for_processors(monkeypatch):
    monkeypatch.setattr(runtime, "on_gpu", lambda: True)
    with pytest.raises(UserError, match="--precision: is auto.*choose one of fp32, tf32, .* on a GPU"):
        fastest.check(fastest.AUTO, "--precision")
    fastest.check("fp16", "--precision")


def test_the_tool_and_the_api_take_it(machine, tmp_path, monkeypatch):
    """The record has what was chosen: `auto` on another machine may be something else."""
    ratios, measured, _ = machine
    ratios.append(1.0)
    model = tiny.make_model(tmp_path)
    maker = makers.of_folder(model, model / "rounds.yaml", precision="auto")
    assert maker.precision == "fp32" and maker.made_by(0)["precision"] == "fp32"
    assert Pipeline.load(model, model / "rounds.yaml", precision="auto").about["precision"] == "fp32"
    assert len(measured) == 1
    if not operators.has_bf16():
        return                              # the rest computes with it
    tiny.make_pairs(tmp_path / "in", 1)
    ratios.append(0.5)
    done = tiny.run_tool("infer", "--model", model, "--rounds", model / "rounds.yaml", "--dry-run",
                         "--masks", tmp_path / "in/masks", "--references", tmp_path / "in/references",
                         "--output", tmp_path / "out", "--precision", "auto", "--size", 128, 96)
    assert done.returncode == 0 and len(measured) == 2 and measured[1]["image_size"] == [128, 96]
    assert "precision auto: bf16; " in done.stderr


def test_the_largest_convolutions_are_most_of_the_work():
    unet = configs.DEFAULTS["unet"]
    found = fastest.largest(unet, 96, 128)
    work = [count * layer.macs(96, 128) for layer, count in found]
    assert work == sorted(work, reverse=True) and len({layer for layer, _ in found}) == len(found) < 20
    whole = sum(layer.macs(96, 128) for layer in sizes.unet(unet)
                if layer.kernel and layer.down and not layer.attention and layer.part != "modulate")
    assert fastest.SHARE * whole <= sum(work) < 0.85 * whole
    assert all(layer.kernel == 3 for layer, _ in found[:5])


@pytest.mark.skipif(not runtime.cpu_has_bf16() or runtime.on_gpu(), reason="this processor has no bf16")
def test_a_measurement():
    assert 0.01 < fastest.measure(tiny.CONFIG) < 100
    narrow = {"unet": {"channels": 20, "norm_groups": 4, "head_channels": 20}}
    assert fastest.measure(configs.merge(tiny.CONFIG, narrow, "test")) is None
