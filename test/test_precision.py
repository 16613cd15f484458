"""Half precision as a GPU computes it, on the CPU; and the scale of the loss."""
import numpy as np
import pytest
from conftest import golden, one_hot
from test_networks import small_autoencoder, small_unet
from test_step import trainer
from tiny import one_error, run_tool

from ldm.backend import jt, nn
from ldm.errors import UserError
from ldm.networks import attention, precision
from ldm.networks.onednn import operators
from ldm.platform import runtime
from ldm.training import loss_scale
from ldm.training.loss_scale import LossScale

# A rounding is half of 2^-10 or 2^-7 of a number. In networks of some forty convolutions there are a hundred
# one after the other, whose squares add up to ten; the worst of thousands of numbers has a few times more.
TOLERANCE = {"fp16": 2.0 ** -7, "bf16": 2.0 ** -4}
slow = pytest.mark.slow                         # a minute to compile each kind of pass


def wide(product):
    """`product` of half-precision Vars with sums in fp32, as a GPU has; the CPU rounds each addition."""
    def run(*arguments):
        dtype = arguments[0].dtype
        return product(*(a.float32() if isinstance(a, jt.Var) else a for a in arguments)).cast(dtype)
    return run


@pytest.fixture(autouse=True)
def sums_in_fp32(monkeypatch):
    monkeypatch.setattr(nn, "conv2d", wide(nn.conv2d))
    monkeypatch.setattr(attention, "bmm", wide(attention.bmm))


def apart(result, exact):
    return np.abs(result - exact).max() / np.abs(exact).max()


def dtypes(network):
    return {str(p.dtype) for p in network.parameters()}


@pytest.mark.parametrize("kind", ["fp16"])
def test_unet_in_half_precision(kind):
    g, network = golden("unet_small"), small_unet()
    precision.apply(network, kind, inference=True)
    assert dtypes(network) == {"float32", precision.DTYPES[kind]}
    with jt.no_grad():
        out = network(jt.array(g["x"]), g["t"], jt.array(one_hot(g["labels"])))
        skips, emb = network.encode(jt.array(g["x"]), g["t"])
    assert {str(s.dtype) for s in skips} == {precision.DTYPES[kind]}      # what is kept takes half the memory
    assert str(out.dtype) == str(emb.dtype) == "float32"
    assert 1e-5 < apart(out.numpy(), g["out_torch"]) < TOLERANCE[kind]   # rounded it is, too


@slow
@pytest.mark.parametrize("kind", ["fp16"])
def test_autoencoder_in_half_precision(kind):
    g, network = golden("vqgan_small"), small_autoencoder()
    precision.apply(network, kind, inference=True)
    with jt.no_grad():
        z, x = network.encode(jt.array(g["x"])), network.decode_quantized(jt.array(g["z_pre"]))
    assert str(z.dtype) == str(x.dtype) == "float32"
    assert 1e-5 < apart(z.numpy(), g["z_pre"]) < TOLERANCE[kind]
    assert 1e-5 < apart(x.numpy(), g["dec_noquant"]) < TOLERANCE[kind]


needs_bf16 = pytest.mark.skipif(not operators.has_bf16(), reason="no bf16 on this processor")


@pytest.mark.parametrize("kind, checkpointing", [pytest.param("bf16", "blocks", marks=needs_bf16),
                                                 pytest.param("fp16", "none", marks=slow)])
def test_training_keeps_fp32_weights(tmp_path, kind, checkpointing):
    """Gradients of half-precision passes, summed over micro-batches, against those of fp32."""
    options = {"batch_size": 4, "micro_batch": 2, "checkpointing": checkpointing}
    exact, half = trainer(tmp_path, **options), trainer(tmp_path, precision=kind, **options)
    seen = []
    for t in (exact, half):
        t.train_step()
        seen.append([m.numpy() for m in t.optimizer.param_groups[0]["m"]])
    assert dtypes(half.task.network) == {"float32"}
    largest = max(np.linalg.norm(m) for m in seen[0])
    assert all(np.linalg.norm(a - b) < 0.1 * max(np.linalg.norm(a), 0.1 * largest) for a, b in zip(*seen))
    assert half.scale.value == (loss_scale.FIRST if kind == "fp16" else 1)


def test_without_a_gpu_it_is_refused(monkeypatch):
    """But for bf16, which some processors have."""
    monkeypatch.setattr(runtime, "on_gpu", lambda: False)
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: False)
    for kind in ("tf32", "bf16", "fp16"):
        with pytest.raises(UserError, match=f"precision: is {kind} without a GPU.*choose fp32"):
            runtime.check_precision(kind, "precision")
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: True)
    runtime.check_precision("bf16", "precision")
    with pytest.raises(UserError, match="unknown precision 'fp8'; choose fp32, tf32, bf16, fp16"):
        runtime.check_precision("fp8", "precision")
    assert tuple(precision.DTYPES) == tuple(precision.BYTES) == runtime.PRECISIONS


def test_the_tools_refuse_it(tmp_path, monkeypatch):
    monkeypatch.setenv("nvcc_path", "")
    one_error(run_tool("infer", "--precision", "tf32", "--output", tmp_path),
              "--precision: is tf32 without a GPU; choose fp32")
    one_error(run_tool("infer", "--precision", "half"), "invalid choice: 'half'")
    arguments = "--data", tmp_path, "--autoencoder", tmp_path, "--output", tmp_path
    for value, message in (("fp16", "training.precision: is fp16 without a GPU"), ("fp8", "'fp8'")):
        one_error(run_tool("train", *arguments, f"training.precision={value}"), message)
    assert not list(tmp_path.iterdir())


# ---- the scale of the loss ---------------------------------------------------------------------------------

def overflowing(t, times):
    """Let the first `times` losses of trainer `t` have infinite gradients, as fp16's are that overflow."""
    loss, calls = t.task.loss, []

    def run(batch):
        value, terms = loss(batch)
        calls.append(1)
        return (value, terms) if len(calls) > times else (value + (value - value.detach()) * 3e38, terms)
    t.task.loss = run


def scaled_trainer(tmp_path, **options):
    """A trainer in fp32, with the loss scaled as for fp16."""
    t = trainer(tmp_path, **options)
    t.scale = LossScale(dynamic=True)
    return t


def test_a_scaled_step_is_the_unscaled_one(tmp_path):
    """A power of 2 changes no bit, nor does an overflow on the way."""
    plain, scaled, tried = trainer(tmp_path), scaled_trainer(tmp_path), scaled_trainer(tmp_path)
    overflowing(tried, 3)
    logged = [t.train_step() for t in (plain, scaled, tried)]
    assert logged[0] == logged[1] == logged[2]
    assert (scaled.scale.value, tried.scale.value) == (loss_scale.FIRST, loss_scale.FIRST / 8)
    for t in (scaled, tried):
        for name, p in plain.parameters.items():
            np.testing.assert_array_equal(p.numpy(), t.parameters[name].numpy(), err_msg=name)


def test_gradients_that_always_overflow_end_the_run(tmp_path):
    t = scaled_trainer(tmp_path)
    before = [p.numpy() for p in t.parameters.values()]
    overflowing(t, 10 ** 6)
    with pytest.raises(UserError, match="training: the gradients overflow.* step 0"):
        t.train_step()
    for a, p in zip(before, t.parameters.values()):
        np.testing.assert_array_equal(a, p.numpy())


def test_the_scale_grows_when_it_is_calm_and_is_kept():
    scale = LossScale(dynamic=True)
    scale.overflow(0)
    for _ in range(loss_scale.PATIENCE):
        scale.calm_step()
    assert scale.value == loss_scale.FIRST
    scale.calm_step()
    other = LossScale(dynamic=True)
    other.restore(scale.arrays())
    assert (other.value, other.calm) == (loss_scale.FIRST, 1)
    for _ in range(20 * loss_scale.PATIENCE):
        scale.calm_step()
    assert scale.value == loss_scale.LARGEST
    assert LossScale(dynamic=False).arrays() == {}
