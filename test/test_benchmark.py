"""The benchmarks: what they count, that the ways they compare agree, that the tool prints what they say."""
import importlib
import json
import os

import numpy as np
import pytest
import tiny
from conftest import golden_json
from tiny import one_error, run_tool

from ldm import config as configs
from ldm.backend import jt
from ldm.benchmark import kernels, pipeline, rounding
from ldm.benchmark.operators import Operator, multiplications, operators
from ldm.networks import UNet
from ldm.platform import runtime


def test_multiplications_of_the_full_network():
    """344.9 GMAC a pass, counted while the graph is built: nothing is computed here."""
    unet = UNet()
    found = operators(unet, lambda: unet(jt.zeros((1, 3, 96, 128)), [0], jt.zeros((1, 29, 96, 128))))
    assert multiplications(found) == pytest.approx(344.9e9, rel=2e-3)
    weights = sum(count * o.channels * o.out_channels * o.kernel ** 2 for o, count in found.items()
                  if o.kind in ("conv", "linear"))
    matrices = sum(np.prod(shape) for shape in golden_json("full_unet_shapes").values() if len(shape) > 1)
    assert weights == matrices


def test_sums_by_kind():
    rows = [{"operator": str(Operator("conv", 8, out, 4, 4, kernel=3)), "in a pass": 2, "plain ms": 1.0,
             "ours ms": ours} for out, ours in ((8, 0.5), (16, None))]
    assert kernels.by_kind(rows) == [{"kind": "3 x 3 convolution", "in a pass": 4, "plain ms": 4.0,
                                      "ours ms": 3.0}]


def test_ways_agree(tmp_path):
    configs.save(tmp_path / "tiny.yaml", tiny.CONFIG)
    process = run_tool("benchmark", "pipeline", "--config", tmp_path / "tiny.yaml", "--repeats", 1, "--json")
    assert process.returncode == 0, process.stderr
    made = json.loads(process.stdout)
    steps = made["tables"][0]["rows"]
    if runtime.cpu_has_bf16():
        assert 1e-5 < steps.pop()["passes differ by"] < 2 ** -4
    assert len(steps) == 4 and steps[0]["ratio"] == 1
    assert all(row["passes differ by"] < 1e-5 and row["the step by"] < 5e-5 for row in steps)
    assert {row["phase"] for row in made["tables"][1]["rows"]} == {"encode", "decode", "colour transfer"}


def test_roundings_add_up_to_bf16():
    """Each kind of rounding moves the step; all together move it as far as the network in bf16, to a factor.
    The plain network is left as it was."""
    made = rounding.measure(tiny.CONFIG)
    rows = {row["rounded"]: row for row in made["tables"][0]["rows"]}
    together = rows.pop("all of these")["passes, rms"]
    halves = [rows.pop(name) for name in list(rows) if name.startswith("the network in bf16")]
    assert bool(halves) == runtime.cpu_has_bf16()
    assert len(rows) == 6 and all(2e-5 < row["passes, rms"] < together * 1.2 for row in rows.values())
    assert together == pytest.approx(sum(row["passes, rms"] ** 2 for row in rows.values()) ** 0.5, rel=0.5)
    assert all(0.6 < half["passes, rms"] / together < 1.6 for half in halves)


def test_random_weights_leave_no_zeros():
    network = pipeline.random_weights(UNet(**tiny.CONFIG["unet"]))
    assert all(p.numpy().any() for p in network.parameters() if p.ndim > 1)


def test_repeats_are_checked():
    one_error(run_tool("benchmark", "pipeline", "--repeats", 0), "--repeats")


def test_python_without_torch(tmp_path):
    with pytest.raises(kernels.UserError, match="cannot be run"):
        kernels.Torch(tmp_path / "python")
    with pytest.raises(kernels.UserError, match="does not answer"):
        kernels.Torch("true")


@pytest.mark.skipif("TORCH_PYTHON" not in os.environ, reason="set TORCH_PYTHON to a Python that has PyTorch")
def test_every_way_is_near_the_exact_result(tmp_path):
    configs.save(tmp_path / "tiny.yaml", tiny.CONFIG)
    process = run_tool("benchmark", "accuracy", "--config", tmp_path / "tiny.yaml", "--json",
                       "--torch-python", os.environ["TORCH_PYTHON"])
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout)["tables"][0]["rows"]
    exact = [row for row in rows if row["way"] != "ours, bf16"]
    assert len(exact) == 4 and all(0 < row["passes"] < 5e-6 and row["the step"] < 2e-5 for row in exact)


@pytest.mark.parametrize("name", ["pipeline", "kernels", "accuracy", "rounding", "train"])
def test_every_command_has_a_room(name):
    assert callable(importlib.import_module(f"ldm.benchmark.{name}").measure)
