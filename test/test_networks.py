"""The networks against numbers computed by independent implementations in PyTorch (test/golden)."""
import numpy as np
import pytest
from conftest import golden, golden_json, golden_weights, one_hot

from ldm.backend import jt
from ldm.config import DEFAULTS
from ldm.networks import Autoencoder, UNet
from ldm.networks.attention import attend
from ldm.networks.blocks import normalize, timestep_embedding

CONFIG = golden_json("config")


def small_unet():
    network = UNet(channels=32, num_res_blocks=1, channel_mult=(1, 2, 2), attention_downsampling=(2, 4),
                   head_channels=16)
    network.load_state_dict(golden_weights(CONFIG["unet_shapes"], CONFIG["unet"]["seed"]))
    network.eval()
    return network


def small_autoencoder():
    network = Autoencoder(channels=32, codebook_size=64)
    network.load_state_dict(golden_weights(CONFIG["vqgan_shapes"], CONFIG["vqgan"]["seed"]))
    network.eval()
    return network


def without_codebook():
    network = Autoencoder(channels=32, codebook_size=0)
    state = golden_weights(CONFIG["vqgan_shapes"], CONFIG["vqgan"]["seed"])
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    network.eval()
    return network


def shapes(network):
    return {name: list(p.shape) for name, p in network.state_dict().items()}


@pytest.fixture(scope="module")
def unet():
    return small_unet()


def worst(a, b):
    return float(np.abs(np.asarray(a, np.float64) - b).max())


def rounding(g, name):
    """How far apart two right fp32 implementations may be: the golden file `g` has one array of PyTorch's and
    one of the entry's own Jittor code. Other processors sum in other orders: five times their distance.
    A wrong network is hundreds of times further away."""
    return 5 * worst(*(g[f"{name}{maker}"] for maker in (("_torch", "_jittor") if f"{name}_torch" in g
                                                         else ("", "_jittor"))))


def test_unet_equals_reference(unet):
    g = golden("unet_small")
    x, t, y = jt.array(g["x"]), g["t"], one_hot(g["labels"])
    with jt.no_grad():
        assert worst(unet(x, t, jt.array(y)).numpy(), g["out_torch"]) < rounding(g, "out")
        assert worst(unet(x, t, jt.zeros(y.shape)).numpy(), g["out_uncond_torch"]) < rounding(g, "out_uncond")


def test_one_encode_and_two_decodes_equal_two_passes(unet):
    g = golden("unet_small")
    x, t, y = jt.array(g["x"]), g["t"], jt.array(one_hot(g["labels"]))
    with jt.no_grad():
        encoded = unet.encode(x, t)
        for map_ in (y, jt.zeros(y.shape)):
            together, apart = unet(x, t, map_), unet.decode(*encoded, unet.modulate(map_))
            assert worst(apart.numpy(), together.numpy()) < rounding(g, "out")
        shared = unet.decode(*encoded, unet.modulate(jt.zeros((1, *y.shape[1:]))))  # one empty map for all
        assert worst(shared.numpy(), g["out_uncond_torch"]) < rounding(g, "out_uncond")


def test_timestep_embedding():
    g = golden("unet_small")
    for dim in (32, 256):
        assert worst(timestep_embedding(g["temb_t"], dim), g[f"temb_exact_{dim}"]) < 1e-6


def test_full_size_names_and_shapes():
    assert shapes(UNet(**DEFAULTS["unet"])) == golden_json("full_unet_shapes")
    assert shapes(Autoencoder(**DEFAULTS["autoencoder"])) == golden_json("full_vqgan_shapes")


def test_constructor_defaults_are_the_entry():
    import inspect
    for network, section in ((UNet, "unet"), (Autoencoder, "autoencoder")):
        parameters = inspect.signature(network).parameters
        defaults = {k: list(p.default) if isinstance(p.default, tuple) else p.default
                    for k, p in parameters.items()}
        assert defaults == DEFAULTS[section]


def test_autoencoder_equals_reference():
    g, network = golden("vqgan_small"), small_autoencoder()
    with jt.no_grad():
        z = network.encode(jt.array(g["x"]))
        assert worst(z.numpy(), g["z_pre"]) < rounding(g, "z_pre")
        for latents, codes, decoded in (("z_pre", "codes", "dec"),
                                       ("z_random", "codes_random", "dec_random")):
            z_q, found = network.quantize(jt.array(g[latents]))
            assert np.array_equal(found.numpy(), g[codes])
            assert worst(network.decode(jt.array(g[latents])).numpy(), g[decoded]) < rounding(g, "dec")
            if latents == "z_pre":
                assert worst(z_q.numpy(), g["z_q"]) < 1e-6
        decoded = network.decode_quantized(jt.array(g["z_pre"])).numpy()
        assert worst(decoded, g["dec_noquant"]) < rounding(g, "dec")


def test_rescaled_latents_decode_to_the_same():
    g, network = golden("vqgan_small"), small_autoencoder()
    with jt.no_grad():
        x = jt.array(g["x"])
        z, codes = g["z_pre"], network.quantize(jt.array(g["z_pre"]))[1].numpy()
        mean, std = z.mean((0, 2, 3)), float(z.std()) * 2
        network.rescale(mean, std)
        rescaled = network.encode(x)
        assert worst(rescaled.numpy(), (z - mean.reshape(3, 1, 1)) / std) < rounding(g, "z_pre") / min(std, 1)
        assert np.array_equal(network.quantize(rescaled)[1].numpy(), codes)
        assert worst(network.decode(rescaled).numpy(), g["dec"]) < rounding(g, "dec")


def test_without_a_codebook_latents_are_decoded_as_they_are():
    g = golden("vqgan_small")
    network = without_codebook()
    with jt.no_grad():
        assert worst(network.decode(jt.array(g["z_pre"])).numpy(), g["dec_noquant"]) < rounding(g, "dec")
        std = 2 * float(g["z_pre"].std())
        network.rescale(g["z_pre"].mean((0, 2, 3)), std)
        rescaled = network.encode(jt.array(g["x"]))
        assert worst(network.decode(rescaled).numpy(), g["dec_noquant"]) < rounding(g, "dec")


def test_codebook_loss_equals_reference():
    g, network = golden("vqgan_small"), small_autoencoder()
    z = jt.array(g["z_pre"])
    entries, loss, codes = network.quantize.straight_through(z)
    assert float(loss.item()) == pytest.approx(float(g["quant_loss"]), rel=1e-5)
    assert worst(entries.numpy(), g["z_q"]) < 1e-5 and np.array_equal(codes.numpy(), g["codes"])
    assert worst(jt.grad(entries.sum(), z).numpy(), np.ones(z.shape)) < 1e-6        # straight through


def test_new_unet_predicts_zero():
    """The output convolutions really are zero at the start of training."""
    network = UNet(channels=32, num_res_blocks=1, channel_mult=(1, 2, 2), attention_downsampling=(4,),
                   head_channels=16)
    for name in ("out.2.weight", "out.2.bias", "middle_block.1.proj_out.weight",
                 "input_blocks.1.0.out_layers.3.weight", "output_blocks.0.0.out_layers.2.weight"):
        assert not network.state_dict()[name].numpy().any(), name
    assert network.state_dict()["input_blocks.1.0.in_layers.2.weight"].numpy().any()


@pytest.mark.parametrize("mean, shape", [
    (1000, (1, 32, 24, 32)),                # one pass, as in the framework's own layer, is 2.6 off here
    (0.5, (1, 64, 96, 128))])               # at full size a group's sum as one is 9e-6 off
def test_normalize_keeps_its_digits(mean, shape):
    """A number has some 16 roundings of 2^-24 of the largest, which is in x: three differences, the sums of
    128 numbers (the square root of 128), the reciprocal root, which processors have to 2^-22 only, and the
    product."""
    x = (np.random.default_rng(0).standard_normal(shape) + mean).astype(np.float32)
    g = x.astype(np.float64).reshape(1, 8, -1)
    exact = ((g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5)).reshape(x.shape)
    assert worst(normalize(jt.array(x), 8, 1e-5).numpy(), exact) < 16 * 2 ** -24 * np.abs(x).max()


def test_attention_in_chunks_equals_whole(monkeypatch):
    rng = np.random.default_rng(1)
    q, k, v = (jt.array(rng.standard_normal((2, 8, 96)).astype("float32")) for _ in range(3))
    whole = attend(q, k, v).numpy()
    monkeypatch.setattr("ldm.networks.attention.MAX_POSITIONS", 80)
    assert worst(attend(q, k, v).numpy(), whole) < 96 * 2 ** -24 * np.abs(whole).max()   # sums of 96
