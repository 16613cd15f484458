"""Training in blocks of channels against the plain networks: operators, gradients, dropout, checkpointing."""
import ctypes
from functools import partial

import numpy as np
import pytest
import tiny
from conftest import golden, one_hot
from test_checkpointing import LINEAR, small_unet
from test_networks import small_autoencoder

from ldm import weights
from ldm.backend import jt, nn
from ldm.diffusion.losses import training_loss
from ldm.errors import UserError
from ldm.networks import UNet, checkpointing, dropout, precision
from ldm.networks import attention as plain_attention
from ldm.networks import blocks as plain
from ldm.networks.onednn import gradients as ours
from ldm.networks.onednn import operators, packed, training
from ldm.networks.spade import SPADEResBlock
from ldm.platform import runtime

pytestmark = pytest.mark.skipif(not operators.available(), reason="Jittor does not compute with oneDNN here")
RNG = np.random.default_rng(0)
TOLERANCE = {"fp32": 1e-5, "bf16": 2 ** -6}
KINDS = [pytest.param(kind, marks=[] if kind == "fp32" or operators.has_bf16() else pytest.mark.skip)
         for kind in TOLERANCE]


def normal(*shape):
    return jt.array(RNG.standard_normal(shape).astype("float32"))


def compare(kind, exact, result):
    """Arrays one by one; what cancels, and is next to nothing beside the others, against a hundredth of them.
    In bf16 the roundings of a whole network add up: its gradients are one array, and twice as far."""
    floor, tolerance = 1e-2 * max(np.linalg.norm(x) for x in exact), TOLERANCE[kind]
    if kind == "bf16" and len(exact) > 10:
        exact, result = ([np.concatenate([x.ravel() for x in arrays])] for arrays in (exact, result))
        tolerance *= 2
    for x, y in zip(exact, result):
        assert np.linalg.norm(x - y) < tolerance * max(np.linalg.norm(x), floor)


def gradients(run, inputs):
    """A result of `run` and the gradients of its product with fixed numbers."""
    y = run(*inputs)
    weights = np.random.default_rng(1).standard_normal(y.shape).astype("float32")
    found = jt.grad((y * jt.array(weights)).sum(), inputs, False)
    return [v.numpy() for v in (y, *found)]


def check(kind, plain_run, our_run, inputs, channels):
    """our_run takes the first input in blocks and gives blocks."""
    dtype = training.DTYPES[kind]

    def run(x, *rest):
        return ours.Leave(channels)(our_run(ours.Enter(dtype)(x), *rest))
    compare(kind, gradients(plain_run, inputs), gradients(run, inputs))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels, out_channels, size, k, stride", [
    (29, 32, (12, 16), 3, 1), (32, 6, (6, 8), 3, 1), (64, 32, (6, 8), 1, 1), (16, 32, (8, 12), 3, 2),
    (32, 48, (15, 19), 3, 1), (24, 32, (12, 16), 3, 1)])
def test_convolution(kind, channels, out_channels, size, k, stride):
    """By Winograd's algorithm (oneDNN's, ours, also of incomplete tiles, and ours without the gradient of x)
    and directly; channels that fill no block; halving; a ReLU in fp32: bf16 rounds some of what it lets pass
    to the other side of 0."""
    relu = kind == "fp32"
    inputs = [normal(3, channels, *size), normal(out_channels, channels, k, k) / channels,
              normal(out_channels)]

    def exact(x, w, b):
        x = nn.pad(x, (0, 1, 0, 1)) if stride == 2 else x
        y = nn.conv2d(x, w, b, stride, k // 2 if stride == 1 else 0)
        return nn.relu(y) if relu else y
    check(kind, exact, lambda x, w, b: ours.Convolve(stride, relu)(x, w, b), inputs, out_channels)


@pytest.mark.skipif(operators.block_size() != 8, reason="oneDNN has Winograd's algorithm here")
def test_our_winograd_gives_the_same_bits_on_any_threads(monkeypatch):
    """And of an image alone."""
    used, code = [], ours.code
    monkeypatch.setattr(ours, "code", lambda *given: used.append(given[3]) or code(*given))
    inputs = [normal(3, 32, 15, 19), normal(48, 32, 3, 3), normal(48)]
    threads = ctypes.CDLL("libgomp.so.1")

    def run(x, w, b):
        return ours.Leave(48)(ours.Convolve()(ours.Enter("float32")(x), w, b))
    before, found = threads.omp_get_max_threads(), []
    try:
        for count in (1, 2, 3):
            threads.omp_set_num_threads(count)
            found.append(gradients(run, inputs))
    finally:
        threads.omp_set_num_threads(before)
    assert all(np.array_equal(a, b) for other in found[1:] for a, b in zip(found[0], other))
    assert np.array_equal(run(inputs[0][1:2], *inputs[1:]).numpy(), found[0][0][1:2])
    for name in ("forward", "backward_data", "backward_weights"):
        assert any(f"winograd::{name}<8>" in call for call in used)


@pytest.mark.parametrize("change", [{"batch": 1, "height": 8}, {"in_channels": 29}, {"out_channels": 24},
                                    {"block": 16}, {"block": 0}, {"winograd": False}])
def test_where_our_winograd_in_fp32_is_taken(change):
    layer = ours.geometry(2, 32, 32, 12, 16, "float32", 3) | {"block": 8}
    assert operators.own_winograd(layer) is True and operators.own_winograd(layer | change) is False


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pairs_of_numbers_are_rounded_to_the_nearest(dtype):
    """Sums, forwards and of gradients, and products. Jittor's own in bf16 cut digits off."""
    def near(x):
        return packed.rounded(x).float32() if dtype == "bfloat16" else x

    def given():
        x = normal(2, 1, 3, 5, 32)
        return packed.rounded(x) if dtype == "bfloat16" else x
    a, b, first, second = (given() for _ in range(4))
    assert np.array_equal(ours.Add()(a, b).float32().numpy(), near(a.float32() + b.float32()).numpy())
    one, other = ours.Twice()(a)
    loss = sum(ours.Multiply()(x, y).float32().sum() for x, y in ((one, first), (other, second)))
    summed, = jt.grad(loss, [a], False)
    assert np.array_equal(summed.float32().numpy(), near(first.float32() + second.float32()).numpy())
    alone, = jt.grad(ours.Multiply()(ours.Twice()(a)[1], first).float32().sum(), [a], False)
    assert np.array_equal(alone.float32().numpy(), first.float32().numpy())
    sums = [ours.Add()(a, b), ours.Multiply()(a, b)]
    assert {str(x.dtype) for x in (*sums, summed, alone)} == {dtype}


@pytest.mark.parametrize("make", [lambda: small_unet(0.0), small_autoencoder])
def test_all_sums_in_bf16_are_rounded_to_the_nearest(make):
    network = make()
    assert training.apply(network, "bf16")
    adding = [m for m in network.modules() if isinstance(m, (*checkpointing.BLOCKS, SPADEResBlock))]
    a, b = (packed.rounded(normal(1, 1, 2, 3, 16)) for _ in range(2))
    exact = packed.rounded(a.float32() + b.float32()).float32().numpy()
    assert len(adding) > 5
    for layer in adding:
        assert np.array_equal(layer._add(a, b).float32().numpy(), exact)
        one, other = layer._twice(a)
        found, = jt.grad((one.float32() * 3 + other.float32() * 5).sum(), [a], False)
        assert np.all(found.float32().numpy() == 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("silu", [True, False])
def test_normalize_with_a_weight_and_a_bias(kind, silu):
    inputs = [normal(3, 32, 6, 8) + 3, normal(2, 32), normal(3, 64)]

    def exact(x, given, emb):
        gain, offset = given.reshape(2, 1, 32, 1, 1)
        return plain.modulated(x, 8, 1e-5, gain, offset, emb, silu)
    check(kind, exact, lambda x, given, emb: ours.Normalize(8, 1e-5, silu)(x, given, emb), inputs, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_normalize_with_maps(kind):
    inputs = [normal(3, 32, 6, 8), normal(3, 64, 6, 8), normal(3, 64)]

    def exact(x, maps, emb):
        return plain.modulated(x, 8, 1e-5, maps[:, :32], maps[:, 32:], emb, True)

    def run(x, maps, emb):
        return ours.Normalize(8, 1e-5, True)(x, ours.Enter(training.DTYPES[kind])(maps), emb)
    check(kind, exact, run, inputs, 32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size, heads", [((6, 8), 2), ((24, 32), 1)])
def test_attention(kind, size, heads):
    """Also of more positions than are attended at a time."""
    def exact(x):
        qkv = x.reshape(2 * heads, 3, 32 // heads, -1)
        return plain_attention.attend(qkv[:, 0], qkv[:, 1], qkv[:, 2]).reshape(2, 32, *size)
    check(kind, exact, lambda x: ours.Attend(heads)(x), [normal(2, 96, *size)], 32)


@pytest.mark.parametrize("kind", KINDS)
def test_what_moves_numbers(kind):
    def exact(x):
        return plain.downsample(plain.join(plain.upsample(x), plain.upsample(x * x)))

    def run(x):
        square = ours.Enter(training.DTYPES[kind])(ours.Leave(32)(x).sqr())
        return ours.Downsample()(ours.Join()(ours.Upsample()(x), ours.Upsample()(square)))
    check(kind, exact, run, [normal(2, 32, 6, 8)], 64)


def unet_gradients(kind, recomputed="none", rate=0.0):
    """The loss and the gradients of the golden training step, in blocks if a kind is given."""
    g, network = golden("train_step"), small_unet(rate)
    assert kind is None or training.apply(network, kind)
    checkpointing.apply(network, recomputed)
    z_t = LINEAR.add_noise(g["x_start"], g["t"], g["noise"]).astype("float32")
    with dropout.keyed(network, (5, 6)):
        out = network(jt.array(z_t), g["t"], jt.array(one_hot(g["labels"])))
        loss = training_loss(out, g["x_start"], z_t, g["noise"], g["t"], LINEAR, "mse+vb")["loss"].mean()
    grads = jt.grad(loss, network.parameters(), False)
    return [loss.numpy(), *(x.numpy() for x in grads)]


@pytest.fixture(scope="module")
def exact():
    return unet_gradients(None, rate=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_unet(kind, exact):
    """With dropout, which drops what the plain network does; twice the same bits."""
    result = unet_gradients(kind, rate=0.3)
    compare(kind, exact, result)
    assert all(np.array_equal(a, b) for a, b in zip(result, unet_gradients(kind, rate=0.3)))


def test_no_convolution_falls_back_to_onednns_reference(capfd):
    """It is 50 times slower: a first layer of three inputs once took 60 % of a step with AVX2."""
    if not runtime.cpu_flags() & {"avx2", "avx512f"}:
        pytest.skip("oneDNN has its fast kernels for AVX2 and AVX-512")
    library = ctypes.CDLL(None)
    library.dnnl_set_verbose(1)
    try:
        unet_gradients("fp32")
    finally:
        library.fflush(None)
        library.dnnl_set_verbose(0)
    computed = [line for line in capfd.readouterr().out.splitlines() if ",exec,cpu,convolution," in line]
    for kind in ("forward_training", "backward_data", "backward_weights"):
        assert any(kind in line for line in computed)
    assert not [line for line in computed if ",ref:" in line]


@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_blocks_give_the_same(kind):
    kept, recomputed = (unet_gradients(kind, how, rate=0.3) for how in ("none", "blocks"))
    compare(kind, kept, recomputed)


@pytest.mark.parametrize("kind", KINDS)
def test_autoencoder(kind):
    x, results = golden("vqgan_small")["x"], []
    for own in (None, kind):
        network = small_autoencoder()
        assert own is None or training.apply(network, own)
        z = network.encode(jt.array(x))
        loss = (network.decode_quantized(z) - jt.array(x)).sqr().mean()
        grads = jt.grad(loss, network.encoder.parameters() + network.decoder.parameters(), False)
        results.append([v.numpy() for v in (z, loss, *grads)])
    compare(kind, *results)


@pytest.mark.skipif(not operators.has_bf16(), reason="this processor has no bf16")
def test_unet_for_inference_in_bf16():
    """Of two images at once and of one, with the empty map's modulations for both."""
    g, network = golden("unet_small"), small_unet(0.0)
    x, y = jt.array(g["x"]), jt.array(one_hot(g["labels"]))
    precision.apply(network, "bf16", inference=True)
    with jt.no_grad():
        skips, emb = network.encode(x, g["t"])
        out = network.decode(skips, emb, network.modulate(y)).numpy()
        alone = network(x[1:], g["t"][1:], y[1:]).numpy()
        empty = network.decode(skips, emb, network.modulate_empty(*x.shape[2:])).numpy()
        exact = small_unet(0.0)(x, g["t"], jt.zeros(y.shape)).numpy()
    for result, expected in ((out, g["out_torch"]), (empty, exact)):
        assert 1e-5 < np.abs(result - expected).max() / np.abs(expected).max() < 2 ** -4
    assert np.abs(out[1:] - alone).max() < 1e-5
    assert str(skips[0].dtype) == "bfloat16" and not any("conv" in name for name in network.state_dict())


@pytest.mark.skipif(not operators.has_bf16(), reason="this processor has no bf16")
def test_autoencoder_for_inference_in_bf16():
    g, network = golden("vqgan_small"), small_autoencoder()
    precision.apply(network, "bf16", inference=True)
    with jt.no_grad():
        pairs = ((network.encode(jt.array(g["x"])), g["z_pre"]),
                 (network.decode_quantized(jt.array(g["z_pre"])), g["dec_noquant"]))
    for result, expected in pairs:
        assert 1e-5 < np.abs(result.numpy() - expected).max() / np.abs(expected).max() < 2 ** -4


@pytest.mark.skipif(not (operators.has_bf16() and operators.compiles_bf16()),
                    reason="this processor, or g++ before version 10, has no AVX512_BF16")
@pytest.mark.parametrize("shape", [(1, 64, 32, 12, 16), (2, 80, 96, 13, 17), (1, 128, 64, 24, 32)])
@pytest.mark.parametrize("options", [{}, {"relu": True}, {"wide": True}])
def test_winograds_algorithm_in_bf16(monkeypatch, shape, options):
    """Odd sizes, several images, channels that fill no whole panel; against the plain convolution of the
    same rounded numbers, and no further off than rounded tiles are."""
    monkeypatch.setattr(packed, "has_amx", lambda: False)
    (N, C_in, C_out, H, W), rng = shape, np.random.default_rng(0)
    x, weight, bias = (packed.rounded(jt.array(rng.normal(size=size).astype(np.float32) * scale)).float32()
                       for size, scale in (((N, 1, H, W, C_in), 1), ((C_out, C_in, 3, 3), C_in ** -0.5 / 3),
                                           ((C_out, 1), 1)))
    used, code = [], packed.code
    monkeypatch.setattr(packed, "code", lambda *given: used.append(given[3]) or code(*given))
    made = packed.Packed(weight, bias.reshape(-1), **options)
    found = made(packed.rounded(x))
    again = made(packed.rounded(x)).float32().numpy()
    plain = jt.nn.conv2d(x[:, 0].transpose(0, 3, 1, 2), weight, bias.reshape(-1), padding=1)
    plain = (jt.nn.relu(plain) if "relu" in options else plain).transpose(0, 2, 3, 1).numpy()[:, None]
    assert sum("winograd::convolve" in call for call in used) == 2
    assert str(found.dtype) == ("float32" if "wide" in options else "bfloat16")
    found = found.float32().numpy()
    assert np.array_equal(found, again) and found.shape == plain.shape
    assert np.abs(found - plain).max() < 2 ** -6 * np.abs(plain).max()
    assert 1e-4 < np.sqrt(np.square(found - plain).mean() / np.square(plain).mean()) < 4e-3


@pytest.mark.parametrize("change", [{"height": 6, "width": 8}, {"in_channels": 32}, {"in_channels": 72},
                                    {"out_channels": 48}, {"stride": 2}, {"kernel": 1}, {"block": 16},
                                    {"has_amx": True}, {"has_bf16": False}, {"compiles_bf16": False}])
def test_where_onednn_is_faster_it_computes(monkeypatch, change):
    machine = {"has_bf16": True, "has_amx": False, "compiles_bf16": True}
    layer = {"height": 24, "width": 32, "in_channels": 64, "out_channels": 64, "stride": 1, "kernel": 3,
             "block": 0}

    def chosen(change):
        for name in machine:
            monkeypatch.setattr(packed, name, partial(bool, {**machine, **change}[name]))
        return packed.by_winograd({**layer, **change})
    assert chosen({}) is True and chosen(change) is False


@pytest.mark.skipif(not operators.has_bf16(), reason="this processor has no bf16")
def test_weights_rounded_as_they_are_read_are_those_rounded_when_packed(tmp_path):
    """Bit for bit. A network in fp32 need not be in memory for that; the last layer's weights stay so."""
    g, outs = golden("unet_small"), []
    whole = small_unet(0.0)
    weights.save(tmp_path / "w", {name: p.numpy() for name, p in whole.state_dict().items()})
    x, y = jt.array(g["x"]), jt.array(one_hot(g["labels"]))
    for kind in ("fp32", "bf16"):
        network = small_unet(0.0)
        weights.load(tmp_path / "w", network, taken=precision.shrink(network, kind))
        last = network.out[2].weight
        assert {str(p.dtype) for p in network.parameters() if p.ndim > 2 and p is not last} \
            == {precision.DTYPES[kind]} and str(last.dtype) == "float32"
        assert {str(p.dtype) for p in network.parameters() if p.ndim < 3} == {"float32"}
        precision.apply(network, "bf16", inference=True)
        with jt.no_grad():
            outs.append(network(x, g["t"], y).numpy())
    assert np.array_equal(*outs)


def test_errors_of_rounded_weights_add_up_to_nothing():
    """Each is one of the two bf16 numbers next to it, and an output's errors together are no more than one
    rounding's. Those of the nearest numbers are several times that."""
    weight = RNG.standard_normal((8, 64, 3, 3)).astype("float32")
    weight[0, 0] = np.reshape([0, 1, 2 ** -130, -1, 0, 0.5, -2 ** -8, 0, 0], (3, 3))
    found, near = (way(jt.array(weight)).float32().numpy() for way in (packed.diffused, packed.rounded))
    assert str(packed.diffused(jt.array(weight)).dtype) == "bfloat16"
    spacing = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(weight), 2.0 ** -126))) - 7)
    assert np.all(np.abs(found - weight) <= spacing) and np.abs(found - weight).max() > 0
    assert np.all(np.abs((found - weight).sum((1, 2, 3))) <= spacing.max((1, 2, 3)) / 2 + 1e-6)
    assert np.abs((near - weight).sum((1, 2, 3))).max() > np.abs((found - weight).sum((1, 2, 3))).max() * 4


def test_two_bf16_numbers_have_twice_the_digits():
    weight = RNG.standard_normal((6, 64, 3, 3)).astype("float32")
    high, low = packed.in_two(jt.array(weight)).float32().numpy().reshape(2, *weight.shape)
    assert np.abs(high + low - weight).max() < 2 ** -16 * np.abs(weight).max()
    assert np.array_equal(high, packed.rounded(jt.array(weight)).float32().numpy())


def test_a_blank_network_draws_no_random_numbers():
    """They would take a network's worth of memory before the weights are read."""
    def next_numbers(make):
        jt.set_global_seed(5)
        network = make()
        jt.sync_all()
        assert network is None or len(network.state_dict()) > 9
        return jt.random((4,)).numpy()
    untouched = next_numbers(lambda: None)
    assert np.array_equal(next_numbers(lambda: plain.blank(UNet(**tiny.CONFIG["unet"]))), untouched)
    assert not np.array_equal(next_numbers(lambda: UNet(**tiny.CONFIG["unet"])), untouched)


@pytest.mark.skipif(not operators.has_bf16(), reason="this processor has no bf16")
def test_rounding_is_to_the_nearest_and_to_even():
    x = np.float32([1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -1.00390625, 3e38, 1e-40, 0])
    rounded = packed.rounded(jt.array(x.reshape(2, 4))).float32().numpy().ravel()
    assert np.array_equal(rounded[:5], np.float32([1, 1, 1 + 2 ** -6, 1 + 2 ** -7, -1]))
    assert abs(rounded[5] / 3e38 - 1) < 2 ** -8 and rounded[7] == 0


def test_without_onednn_nothing_changes(monkeypatch):
    monkeypatch.setattr("ldm.networks.onednn.layers.available", lambda: False)
    network = small_unet(0.0)
    before = {id(m): dict(m.__dict__) for m in network.modules()}
    assert not training.apply(network, "fp32")
    assert all(m.__dict__.keys() == before[id(m)].keys() for m in network.modules())


def test_widths_that_fill_no_block_have_no_bf16():
    network = UNet(channels=20, num_res_blocks=1, channel_mult=(1,), attention_downsampling=(),
                   head_channels=20, norm_groups=4)
    precision.apply(network, "fp32")
    if not jt.flags.use_cuda:
        with pytest.raises(UserError, match="precision: is bf16"):
            precision.apply(network, "bf16")
