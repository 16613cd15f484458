"""The networks on the device: golden numbers, placement, memory, and whether a run repeats itself."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, golden, one_hot
from device import HERE, ON_CPU, computing, distance, needs_gpu, operators_run
from test_networks import small_autoencoder, small_unet

from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.diffusion.guidance import guide
from ldm.diffusion.losses import training_loss
from ldm.diffusion.samplers import ddim
from ldm.networks import precision

pytestmark = needs_gpu
LINEAR = Schedule.linear(1000)
PRECISIONS = list(HERE)
# Some forty convolutions deep, errors of the single operators add up; the golden numbers are fp32 themselves.
GOLDEN = {"fp32": 1e-4, "tf32": 2.0 ** -5, "fp16": 2.0 ** -5, "bf16": 2.0 ** -3}


# ---- golden parity -----------------------------------------------------------------------------------------

def converted(network, kind):
    """`network` for inference in this precision."""
    precision.apply(network, kind, inference=True)
    return network


@pytest.mark.parametrize("kind", PRECISIONS)
def test_unet_equals_reference(kind):
    g = golden("unet_small")
    with computing("cuda", kind), jt.no_grad():
        network, y = converted(small_unet(), kind), jt.array(one_hot(g["labels"]))
        assert distance(network(jt.array(g["x"]), g["t"], y).numpy(), g["out_torch"]) < GOLDEN[kind]


@pytest.mark.parametrize("kind", PRECISIONS)
def test_autoencoder_equals_reference(kind):
    g = golden("vqgan_small")
    with computing("cuda", kind), jt.no_grad():
        network = converted(small_autoencoder(), kind)
        assert distance(network.encode(jt.array(g["x"])).numpy(), g["z_pre"]) < GOLDEN[kind]
        decoded = network.decode_quantized(jt.array(g["z_pre"])).numpy()
        assert distance(decoded, g["dec_noquant"]) < GOLDEN[kind]


def test_codes_equal_the_references():
    """In fp32: TF32 may prefer another of two entries that are nearly as near."""
    g = golden("vqgan_small")
    with computing("cuda"), jt.no_grad():
        found = small_autoencoder().quantize(jt.array(g["z_pre"]))[1].numpy()
        assert np.array_equal(found, g["codes"])


def guided_loop(kind="fp32"):
    """The golden DDIM loop under guidance. -> its last latent."""
    g, network, schedule = golden("ddim_loop"), converted(small_unet(), kind), LINEAR.respace("ddim50")
    y, start = jt.array(one_hot(g["labels"])), int(g["t_start"])
    x_T = schedule.add_noise(g["z0"], start, g["noise"]).astype("float32")
    with jt.no_grad():
        masked, empty = network.modulate(y), network.modulate_empty(*y.shape[2:])

        def model(z, t):
            encoded = network.encode(z, [t] * len(x_T))
            return guide(network.decode(*encoded, masked)[:, :3], network.decode(*encoded, empty)[:, :3],
                         float(g["s"])), None

        for step in ddim(model, schedule, jt.array(x_T), start):
            step.z.sync()
        return step.z.numpy()


@pytest.mark.parametrize("kind", PRECISIONS)
def test_guided_ddim_loop_equals_reference(kind):
    with computing("cuda", kind):
        assert distance(guided_loop(kind), golden("ddim_loop")["final"]) < GOLDEN[kind]


def training_step(kind="fp32"):
    """Loss and gradients of the golden training step, the latter by name."""
    g, network = golden("train_step"), small_unet()
    precision.apply(network, kind)
    network.train()
    z_t = LINEAR.add_noise(g["x_start"], g["t"], g["noise"]).astype("float32")
    out = network(jt.array(z_t), g["t"], jt.array(one_hot(g["labels"])))
    loss = training_loss(out, g["x_start"], z_t, g["noise"], g["t"], LINEAR, "mse+vb")["loss"]
    parameters = network.state_dict()
    gradients = jt.grad(loss.mean(), list(parameters.values()))
    return loss.numpy(), {name: grad.numpy() for name, grad in zip(parameters, gradients)}


@pytest.mark.parametrize("kind", [kind for kind in PRECISIONS if kind != "fp16"])     # which needs a scale
def test_training_step_equals_reference(kind):
    g = golden("train_step")
    with computing("cuda", kind):
        loss, gradients = training_step(kind)
    assert distance(loss, g["loss"]) < GOLDEN[kind]
    for key in (k for k in g if k.startswith("grad/")):
        apart = np.linalg.norm(gradients[key[5:]] - g[key]) / np.linalg.norm(g[key])
        assert apart < GOLDEN[kind], key


# ---- placement ---------------------------------------------------------------------------------------------

@pytest.mark.skipif(ON_CPU, reason="no GPU")
@pytest.mark.parametrize("work", [guided_loop, training_step])
def test_nothing_runs_on_the_cpu(work):
    with computing("cuda"):
        names = operators_run(work)
    assert len(names) > 20 and not [name for name in names if "JIT_cpu" in name]


# ---- does it repeat itself ---------------------------------------------------------------------------------

def test_sampling_repeats_itself_bit_by_bit():
    with computing("cuda"):
        assert np.array_equal(guided_loop(), guided_loop())


def test_training_repeats_itself_to_rounding():
    """Gradients are summed by atomic additions, whose order is free; to the tolerance of fp32 they agree."""
    with computing("cuda"):
        (loss, first), (again, second) = training_step(), training_step()
    assert np.array_equal(loss, again)
    for name, gradient in first.items():
        if np.abs(gradient).max() > 1e-6:
            assert distance(second[name], gradient) < HERE["fp32"].tolerance, name


# ---- memory ------------------------------------------------------------------------------------------------

STEP = """
import json, sys
sys.path[:0] = {paths}
from ldm.backend import jt
import workloads
from ldm.training import memory
before = memory.peak()
losses = workloads.training_steps(workloads.wide_unet(sys.argv[1]), side=48)
print(json.dumps([losses, memory.peak() - before]))
"""


def fresh_training(kind):
    """Three training steps in a process of their own. -> (losses, bytes they took at most)."""
    paths = [str(ROOT), str(ROOT / "test"), str(Path(__file__).parent)]
    child = subprocess.run([sys.executable, "-c", STEP.format(paths=paths), kind], text=True,
                           capture_output=True)
    assert child.returncode == 0, child.stderr[-2000:]
    return json.loads(child.stdout.splitlines()[-1])


def test_checkpointing_saves_memory():
    (kept, all_of_it), (recomputed, less) = fresh_training("none"), fresh_training("blocks")
    np.testing.assert_allclose(recomputed, kept, rtol=1e-3)
    assert less < 0.6 * all_of_it
