"""The operators for CPU inference against plain ones, and the network made of them against golden numbers."""
import numpy as np
import pytest
import tiny
from conftest import golden, one_hot
from test_networks import rounding, small_autoencoder, small_unet, without_codebook, worst

from ldm.backend import jt, nn
from ldm.inference import Pipeline
from ldm.networks import UNet
from ldm.networks import attention as plain_attention
from ldm.networks import blocks as plain
from ldm.networks.onednn import BlockedAutoencoder, BlockedUNet, for_inference, operators
from ldm.networks.onednn.operators import (
    Convolution,
    attend,
    available,
    block_size,
    from_blocks,
    normalize,
    to_blocks,
)

pytestmark = pytest.mark.skipif(not available(), reason="Jittor does not compute with oneDNN here")
RNG = np.random.default_rng(0)
ULP = 2.0 ** -24                # the largest error of one rounding, relative


def normal(*shape):
    return jt.array(RNG.standard_normal(shape).astype("float32"))


def blocks(x):
    return to_blocks(x, block_size())


@pytest.mark.parametrize("channels, out_channels, kernel, winograd", [
    (29, 32, 3, True), (32, 6, 3, False), (64, 32, 1, False)])
def test_convolution_equals_plain(channels, out_channels, kernel, winograd):
    """Also of channels that fill no block, and with a sum. A number is a sum of channels x kernel^2 products,
    with a rounding each; Winograd's fewer additions have larger ones."""
    x, w = normal(1, channels, 12, 16), normal(out_channels, channels, kernel, kernel)
    b = normal(out_channels)
    residual = normal(1, out_channels, 12, 16)
    made = Convolution(w, b, 12, 16, block_size(), winograd)
    expected = nn.conv2d(x, w, b, padding=kernel // 2).numpy()
    most = channels * kernel ** 2 * ULP * np.abs(expected).max()
    assert worst(from_blocks(made(blocks(x)), out_channels).numpy(), expected) < most
    summed = from_blocks(made(blocks(x), blocks(residual)), out_channels).numpy()
    assert worst(summed, expected + residual.numpy()) < most


@pytest.mark.parametrize("channels, out_channels, size", [(40, 32, (13, 17)), (64, 48, (48, 36))])
def test_our_winograd_equals_plain(monkeypatch, channels, out_channels, size):
    """In blocks of 8 channels, on any processor: incomplete tiles, several chunks of them, with a sum."""
    used, code = [], operators.code
    monkeypatch.setattr(operators, "code", lambda *given: used.append(given[2]) or code(*given))
    x, w, b = normal(1, channels, *size), normal(out_channels, channels, 3, 3), normal(out_channels)
    residual = normal(1, out_channels, *size)
    made = Convolution(w, b, *size, 8)
    expected = nn.conv2d(x, w, b, padding=1).numpy()
    most = channels * 9 * ULP * np.abs(expected).max()
    for added in (None, residual):
        y = made(to_blocks(x, 8), *([] if added is None else [to_blocks(added, 8)]))
        exact = expected if added is None else expected + added.numpy()
        assert worst(from_blocks(y, out_channels).numpy(), exact) < most
    assert used == ["winograd_fp32.h"] * 3


@pytest.mark.parametrize("mean", [0, 1000])
def test_normalize_equals_plain(mean):
    """Whole maps; a large mean, which sums of squares would not survive."""
    x = RNG.standard_normal((1, 64, 12, 16)) + mean
    gain, offset, emb = normal(1, 64, 12, 16), normal(1, 64, 12, 16), normal(1, 128)
    got = normalize(blocks(jt.array(x.astype("float32"))), blocks(gain), blocks(offset), emb, 8, 1e-5)
    g = x.astype("float32").astype(np.float64).reshape(8, -1)
    exact = ((g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5)).reshape(x.shape)
    scale, shift = emb.numpy().reshape(2, 1, 64, 1, 1)
    exact = (exact * gain.numpy() + offset.numpy()) * (1 + scale) + shift
    exact = exact / (1 + np.exp(-exact))
    most = 20 * ULP * np.abs(exact).max() if mean == 0 else 3e-3
    assert worst(from_blocks(got, 64).numpy(), exact) < most


def test_folded_maps_equal_whole_ones():
    """3 x 3: the first, any inner and the last row and column; 1 x 1: a number a channel."""
    x, emb = blocks(normal(1, 32, 12, 16)), normal(1, 64)
    for rows, columns in (([0] + [1] * 10 + [2], [0] + [1] * 14 + [2]), ([0] * 12, [0] * 16)):
        small = [blocks(normal(1, 32, max(rows) + 1, max(columns) + 1)) for _ in range(2)]
        whole = [jt.array(m.numpy()[:, :, rows][:, :, :, columns]) for m in small]
        assert worst(normalize(x, *small, emb, 8, 1e-5, silu=False).numpy(),
                     normalize(x, *whole, emb, 8, 1e-5, silu=False).numpy()) == 0


@pytest.mark.parametrize("height", [6, 80])
def test_attention_equals_plain(height):
    """Also of 640 positions, which are two chunks of rows."""
    qkv = normal(1, 3 * 64, height, 8)
    heads = qkv.reshape(2, 3, 32, height * 8)
    expected = plain_attention.attend(heads[:, 0], heads[:, 1], heads[:, 2]).reshape(1, 64, height, 8)
    roundings = 8 * height + 32 + 32                    # of the two sums, of the exponential and around it
    most = roundings * ULP * np.abs(expected.numpy()).max()
    assert worst(from_blocks(attend(blocks(qkv), 2), 64).numpy(), expected.numpy()) < most


def test_network_equals_reference():
    """Both maps, from one encoding; the empty one's modulations are folded."""
    g, network = golden("unet_small"), small_unet()
    fast = for_inference(network, *g["x"].shape[2:])
    assert isinstance(fast, BlockedUNet)
    with jt.no_grad():
        encoded = fast.encode(jt.array(g["x"]), g["t"])
        masked = fast.modulate(jt.array(one_hot(g["labels"])))
        assert worst(fast.decode(*encoded, masked).numpy(), g["out_torch"]) < rounding(g, "out")
        empty = fast.modulate_empty(*g["x"].shape[2:])
        assert max(m.shape[2] for image in empty for layer in image for norm in layer for m in norm) == 3
        assert worst(fast.decode(*encoded, empty).numpy(), g["out_uncond_torch"]) < rounding(g, "out_uncond")


def test_autoencoder_equals_reference():
    g, network = golden("vqgan_small"), small_autoencoder()
    fast = for_inference(network, *g["x"].shape[2:])
    assert isinstance(fast, BlockedAutoencoder)
    with jt.no_grad():
        assert worst(fast.encode(jt.array(g["x"])).numpy(), g["z_pre"]) < rounding(g, "z_pre")
        assert worst(fast.decode(jt.array(g["z_random"])).numpy(), g["dec_random"]) < rounding(g, "dec")
        fast = for_inference(without_codebook(), *g["x"].shape[2:])
        assert worst(fast.decode(jt.array(g["z_pre"])).numpy(), g["dec_noquant"]) < rounding(g, "dec")


def test_result_does_not_depend_on_the_batch():
    g, network = golden("unet_small"), small_unet()
    fast = for_inference(network, *g["x"].shape[2:])
    x, y = jt.array(g["x"]), jt.array(one_hot(g["labels"]))
    with jt.no_grad():
        both = fast.decode(*fast.encode(x, g["t"]), fast.modulate(y)).numpy()
        alone = fast.decode(*fast.encode(x[1:], g["t"][1:]), fast.modulate(y[1:])).numpy()
    assert worst(both[1:], alone) == 0


def test_maps_made_anew_for_each_step_give_the_same(tmp_path):
    """As a memory limit asks for."""
    tiny.make_model(tmp_path)
    masks = list(RNG.integers(29, size=(2, 12, 16)).astype(np.uint8))
    references = list(RNG.integers(256, size=(2, 48, 64, 3)).astype(np.uint8))
    kept, anew = (np.array([np.asarray(picture) for picture in
                            Pipeline.load(tmp_path, tmp_path / "rounds.yaml", memory_limit=limit)(
                                masks, references, name=["a", "b"])]) for limit in (None, 0))
    assert np.array_equal(kept, anew) and kept.std() > 1


def test_widths_that_fill_no_block_stay_plain():
    network = UNet(channels=20, num_res_blocks=1, channel_mult=(1,), attention_downsampling=(),
                   head_channels=20, norm_groups=4)
    assert for_inference(network, 8, 8) is network


def test_normalize_follows_the_plain_definition():
    """Against ldm.networks.blocks with a GroupNorm's weight and bias."""
    norm, x = plain.GroupNorm(32, 8), normal(1, 32, 6, 8)
    norm.weight.assign(normal(32))
    norm.bias.assign(normal(32))
    affine = [p.reshape(1, -1, 1, 1, block_size()) for p in (norm.weight, norm.bias)]
    got = normalize(blocks(x), *affine, jt.zeros((1, 64)), 8, 1e-5, silu=False)
    expected = norm(x).numpy()
    assert worst(from_blocks(got, 32).numpy(), expected) < 2 * 16 * ULP * np.abs(expected).max()


# ---- sizes: compiled code trusts them ----------------------------------------------------------------------

def refused(operator, *arguments, **options):
    """A ValueError, before anything is computed."""
    with pytest.raises(ValueError, match="is needed"):
        operator(*arguments, **options)


@pytest.mark.parametrize("channels, height, width", [(32, 6, 8), (32, 48, 64), (32, 12, 8), (64, 12, 16),
                                                     (16, 12, 16)])
def test_a_convolution_refuses_maps_of_another_size(channels, height, width):
    made = Convolution(normal(32, 32, 3, 3), normal(32), 12, 16, block_size())
    refused(made, blocks(normal(1, channels, height, width)))
    refused(made, blocks(normal(1, 32, 12, 16)), blocks(normal(1, channels, height, width)))


def test_a_convolution_refuses_other_arrays():
    made = Convolution(normal(32, 32, 3, 3), normal(32), 12, 16, block_size())
    x = blocks(normal(1, 32, 12, 16))
    refused(made, normal(1, 32, 12, 16))                            # not in blocks
    refused(made, jt.concat([x, x]))                                # two images
    refused(made, x.float16())
    refused(Convolution, normal(32, 32, 5, 5), normal(32), 12, 16, block_size())
    refused(Convolution, normal(32, 32, 3, 3), normal(31), 12, 16, block_size())
    refused(Convolution, normal(32, 32, 3, 3), normal(32), 13, 16, block_size(), stride=2)


@pytest.mark.parametrize("name, shape", [
    ("gain", (1, 32, 6, 8)), ("gain", (1, 32, 48, 64)), ("gain", (1, 32, 2, 2)), ("gain", (1, 64, 12, 16)),
    ("offset", (1, 32, 1, 1)), ("emb", (1, 63)), ("emb", (2, 64)), ("x", (1, 64, 12, 16))])
def test_normalize_refuses_other_sizes(name, shape):
    given = {"x": normal(1, 32, 12, 16), "gain": normal(1, 32, 12, 16), "offset": normal(1, 32, 12, 16),
             "emb": normal(1, 64), name: normal(*shape)}
    given = {key: value if key == "emb" else blocks(value) for key, value in given.items()}
    refused(normalize, *given.values(), 8, 1e-5)


def test_normalize_refuses_other_numbers():
    x, emb = blocks(normal(1, 32, 12, 16)), normal(1, 64)
    for groups, first in ((5, 0), (0, 0), (-8, 0), (8, 1), (8, -1)):
        refused(normalize, x, x, x, emb, groups, 1e-5, first)


def test_attend_and_blocks_refuse_other_sizes():
    for channels, heads in ((64, 1), (96, 5), (96, 0), (32, 1)):
        refused(attend, blocks(normal(1, channels, 6, 8)), heads)
    refused(to_blocks, normal(2, 32, 6, 8), block_size())
    refused(to_blocks, normal(32, 6, 8), block_size())
    for channels in (0, 33):
        refused(from_blocks, blocks(normal(1, 32, 6, 8)), channels)
    refused(from_blocks, normal(1, 32, 6, 8), 3)
