"""What an autoencoder is trained with: LPIPS, codebook, discriminator; a run with all of it goes on."""
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import golden_weights
from tiny import CONFIG, make_pairs, one_error, run_tool

from ldm import config as configs
from ldm import weights
from ldm.backend import jt
from ldm.errors import UserError
from ldm.networks import Autoencoder
from ldm.networks.discriminator import PatchDiscriminator
from ldm.networks.lpips import LPIPS
from ldm.training.tasks.adversary import Adversary, adaptive_weight, hinge
from ldm.training.tasks.autoencoder import AutoencoderTask, recolor
from ldm.training.tasks.codebook import Codebook, usage
from ldm.training.tasks.perceptual import open_lpips, renamed

PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)              # of torchvision's VGG16
SLICE = dict(zip(PLACES, (1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5)))     # of lpips' module, by place
OPTIONS = {**CONFIG["autoencoder_training"], "learning_rate": 5e-4, "batch_size": 4,
           "discriminator_channels": 8}


# ---- LPIPS -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def vgg():
    """Random weights as torchvision names them, and the linear layers' as lpips' own file does."""
    channels = [3, 64, 64, 128, 128, 256, 256, 256] + [512] * 6
    shapes = {}
    for place, inside, out in zip(PLACES, channels, channels[1:]):
        shapes[f"features.{place}.weight"], shapes[f"features.{place}.bias"] = (out, inside, 3, 3), (out,)
    convolutions = golden_weights(shapes, 1)
    linear = {f"lin{k}.model.1.weight": np.random.default_rng(k).random((1, c, 1, 1), np.float32)
              for k, c in enumerate((64, 128, 256, 512, 512))}
    return convolutions, linear


@pytest.fixture(scope="module")
def files(vgg, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lpips")
    convolutions, linear = vgg
    classifier = {"classifier.6.bias": np.zeros(1000, np.float32)}
    weights.save(folder / "vgg16.safetensors", {**convolutions, **classifier})
    weights.save(folder / "linear.safetensors", linear)
    return str(folder / "vgg16.safetensors"), str(folder / "linear.safetensors")


@pytest.fixture(scope="module")
def network(files):
    return open_lpips(files)


def pictures():
    rng = np.random.default_rng(5)
    return (rng.uniform(-1, 1, (2, 3, 32, 48)).astype(np.float32) for _ in range(2))


def convolve(x, weight, bias):
    """3 x 3, padding 1: C x H x W -> O x H x W."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))
    return np.einsum("chwij,ocij->ohw", windows, weight, optimize=True) + bias[:, None, None]


def reference(x, y, convolutions, linear):
    """LPIPS of two 3 x H x W images in float64, written from the paper and the published constants."""
    stages = []
    shift, scale = np.array([-.030, -.088, -.188]), np.array([.458, .448, .450])
    for image in (x, y):
        f, found = (image - shift[:, None, None]) / scale[:, None, None], []
        for place in PLACES:
            if place in (5, 10, 17, 24):
                found.append(f)
                C, H, W = f.shape
                f = f.reshape(C, H // 2, 2, W // 2, 2).max((2, 4))
            f = np.maximum(convolve(f, convolutions[f"features.{place}.weight"].astype(np.float64),
                                    convolutions[f"features.{place}.bias"]), 0)
        stages.append([g / (np.sqrt((g ** 2).sum(0)) + 1e-10) for g in (*found, f)])
    return sum((linear[f"lin{k}.model.1.weight"].reshape(-1, 1, 1) * (a - b) ** 2).sum(0).mean()
               for k, (a, b) in enumerate(zip(*stages)))


def test_lpips_is_the_published_arithmetic(network, vgg):
    x, y = pictures()
    expected = [reference(a, b, *vgg) for a, b in zip(x, y)]
    there, back = network(jt.array(x), jt.array(y)).numpy(), network(jt.array(y), jt.array(x)).numpy()
    np.testing.assert_allclose(there, expected, rtol=1e-4)
    np.testing.assert_allclose(there, back, rtol=1e-6)
    same = network(jt.array(x), jt.array(x)).numpy()
    assert min(expected) > 0.01 and abs(same).max() < 1e-12    # rounding differs by place in a batch


@pytest.mark.slow
def test_gradient_of_lpips_is_finite_where_features_vanish(network):
    x, y = jt.array(np.full((1, 3, 32, 32), 0.3, np.float32)), jt.array(next(pictures())[:1, ..., :32])
    state = {name: p.numpy() for name, p in network.state_dict().items()}
    dead = LPIPS()
    dead.load_state_dict({n: -abs(a) if n == "conv0.bias" else 0 * a if n == "conv0.weight" else a
                          for n, a in state.items()})
    for net in (network, dead):
        assert np.isfinite(jt.grad(net(x, y).sum(), x).numpy()).all()


def test_every_spelling_of_the_files_gives_the_same_names(vgg):
    convolutions, linear = vgg
    expected = renamed({**convolutions, **linear})
    whole = {f"net.slice{SLICE[int(name.split('.')[1])]}.{name[len('features.'):]}": a
             for name, a in convolutions.items()}
    whole.update(linear, **{"scaling_layer.shift": np.zeros((1, 3, 1, 1), np.float32),
                            "lins.0.model.1.weight": linear["lin0.model.1.weight"]})
    in_a_vqgan = {**{f"loss.perceptual_loss.{name}": a for name, a in whole.items()},
                  "encoder.conv_in.weight": np.zeros(3), "loss.discriminator.main.0.weight": np.zeros(3)}
    assert len(expected) == 31 == len(LPIPS().state_dict())
    for state in (whole, in_a_vqgan):
        found = renamed(state)
        assert found.keys() == expected.keys() and all(found[n] is expected[n] or
                                                       np.array_equal(found[n], expected[n]) for n in found)


def test_incomplete_and_double_weights_are_refused(files):
    with pytest.raises(UserError, match="missing 5 .*lin0"):
        open_lpips(files[:1])
    with pytest.raises(UserError, match="linear.safetensors: holds lin0"):
        open_lpips(files + files[1:])
    with pytest.raises(UserError, match="autoencoder_training.lpips: names 3"):
        open_lpips([3])
    with pytest.raises(UserError, match="/no/such/vgg16.pth: cannot be read"):
        open_lpips(["/no/such/vgg16.pth"])


# ---- codebook ----------------------------------------------------------------------------------------------

def test_usage_of_codes():
    assert usage(np.array([[3, 3], [5, 5]]), 8) == pytest.approx((0.25, 2))
    assert usage(np.arange(8), 8) == pytest.approx((1, 8))
    assert usage(np.zeros(9, int), 8) == pytest.approx((1 / 8, 1))
    share, perplexity = usage(np.array([0, 0, 0, 1]), 8)
    assert share == 0.25 and perplexity == pytest.approx(4 / 3 ** 0.75)


def test_only_dead_codes_are_revived():
    from ldm.networks.autoencoder import Quantizer
    quantizer = Quantizer(6, 3)
    before = quantizer.embedding.weight.numpy()
    book, latents = Codebook(quantizer, 0), np.random.default_rng(0).random((20, 3)).astype(np.float32)
    book.count(np.array([[0, 2], [2, 4]]))
    book.revive(100, latents)
    after = quantizer.embedding.weight.numpy()
    assert np.array_equal(after[[0, 2, 4]], before[[0, 2, 4]])
    assert all((latents == after[k]).all(1).any() for k in (1, 3, 5))
    assert not book.used.any()


# ---- discriminator -----------------------------------------------------------------------------------------

def test_hinge_loss():
    real, made = jt.array([[2.0, 0.5]]), jt.array([[-3.0, 1.0]])
    assert hinge(real, made).item() == pytest.approx(0.5 * (0.5 / 2 + 2 / 2))


@pytest.mark.slow
def test_one_logit_a_patch_of_70_pixels():
    network = PatchDiscriminator(8)
    assert network(jt.zeros((1, 3, 256, 256))).shape == [1, 1, 30, 30]
    x = jt.zeros((1, 3, 96, 96))
    seen = jt.grad(first_layers_as_sums(network)(x)[0, 0, 5, 5], x).numpy()[0, 0] != 0
    rows = np.flatnonzero(seen.any(1))
    assert rows[-1] - rows[0] + 1 == 70 == np.ptp(np.flatnonzero(seen.any(0))) + 1


def first_layers_as_sums(network):
    """The discriminator's convolutions alone, all weights 1: the norms look at the whole image."""
    def run(x):
        for layer in network.main:
            if hasattr(layer, "kernel_size"):
                layer.weight.assign(jt.ones_like(layer.weight))
                x = layer(x)
        return x
    return run


def test_the_discriminator_learns_and_its_state_is_whole():
    rng = np.random.default_rng(2)
    real = rng.uniform(-1, 1, (4, 3, 32, 32)).astype(np.float32)
    made = jt.array(0.3 * real + 0.5)
    jt.set_global_seed(0)
    adversary = Adversary(OPTIONS)
    losses, halves = [], [(real[:3], made[:3]), (real[3:], made[3:])]              # two micro-batches
    for _ in range(4):
        adversary.update(halves)
        losses.append(adversary.loss)
    assert losses[0] > 0.5 and 0 < losses[-1] < 0.7 * losses[0], losses
    other = Adversary(OPTIONS)
    other.restore(adversary.arrays())
    for a in (adversary, other):
        a.update(halves)
    assert adversary.loss == other.loss < losses[-1]
    found, expected = other.arrays(), adversary.arrays()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_adaptive_weight_is_eq_7():
    w = jt.array(np.array([1.0, 2.0, 3.0], np.float32))
    a, b = jt.array(np.array([3.0, 0, 4.0], np.float32)), jt.array(np.array([0, 0.5, 0], np.float32))
    found = adaptive_weight((a * w).sum(), (b * w).sum(), w).item()
    assert found == pytest.approx(5 / (0.5 + 1e-4), rel=1e-5)
    assert adaptive_weight((a * w).sum(), (0 * w).sum(), w).item() == 1e4          # bounded, hence finite


# ---- a run -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def run(tmp_path_factory, files):
    """(arguments of the tool without --output, a run with LPIPS, a codebook and a discriminator)."""
    folder = tmp_path_factory.mktemp("autoencoder")
    made = make_pairs(folder / "in", count=5)
    (folder / "data").mkdir()
    (made / "masks").rename(folder / "data/labels")
    (made / "references").rename(folder / "data/imgs")
    training = {**CONFIG["autoencoder_training"], "lpips": list(files), "steps": 6, "log_every": 1,
                "sample_every": 6, "discriminator_weight": 0.75, "discriminator_start": 2,
                "discriminator_channels": 8}
    configs.save(folder / "config.yaml", {**CONFIG, "autoencoder_training": training})
    arguments = ("--config", folder / "config.yaml", "--data", folder / "data")
    done = run_tool("train_autoencoder", *arguments, "--output", folder / "run")
    assert done.returncode == 0, done.stderr
    return arguments, folder / "run"


def log(run):
    return [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_what_is_logged(run):
    lines = log(run[1])
    assert len(lines) == 6 and all(line["perceptual"] > 0 for line in lines)
    before, after = lines[:2], lines[2:]                           # codebook and discriminator from 2 on
    assert all(line["codes_used"] == 0 == line["adaptive_weight"] for line in before)
    assert all(1 / 64 <= line["codes_used"] <= 1 and 1 <= line["perplexity"] <= 64 for line in after)
    assert all(0 < line["adaptive_weight"] <= 1e4 for line in after)
    assert all(line["discriminator"] > 0 for line in after[1:])            # that of the step before


@pytest.mark.slow
def test_resumed_with_discriminator_bit_for_bit(run, tmp_path):
    arguments, whole = run
    shutil.copytree(whole, tmp_path / "run")
    for path in (tmp_path / "run").glob("*-0000006.*"):
        path.unlink()
    done = run_tool("train_autoencoder", *arguments, "--output", tmp_path / "run")
    assert done.returncode == 0 and "continuing at step 4" in done.stderr, done.stderr
    (expected, _), (found, _) = (weights.read_state(r / "state-0000006.safetensors")
                                 for r in (whole, tmp_path / "run"))
    assert expected.keys() == found.keys() and any("discriminator/m/" in name for name in expected)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_recolored_crops_keep_the_grey():
    image = np.random.default_rng(1).integers(90, 160, (16, 16, 3)).astype(np.uint8)
    made = [recolor(image, np.random.default_rng(k)) for k in range(20)]
    assert all(abs(x.mean(2) - image.mean(2)).max() < 1 for x in made)
    spread = [x.std(2).mean() / image.std(2).mean() for x in made]
    assert 0.98 < min(spread) < 1.3 and 2 < max(spread) < 2.52
    tone = np.array([200, 100, 50], np.uint8) * np.ones((2, 2, 1), np.uint8)
    assert len({tuple(np.argsort(recolor(tone, np.random.default_rng(k))[0, 0])) for k in range(40)}) == 6


def test_a_fitted_codebook_has_entries_for_rare_latents():
    rng = np.random.default_rng(2)
    latents = np.concatenate([rng.standard_normal((5000, 3)), 12 + rng.standard_normal((25, 3))])
    book = Codebook(SimpleNamespace(embedding=SimpleNamespace(weight=jt.zeros((64, 3)))), seed=0)
    book.fit(latents.astype(np.float32))
    distance = np.linalg.norm(book.entries.numpy()[None] - latents[5000:, None], axis=2).min(1)
    assert distance.mean() < 2


def test_only_the_decoder_is_trained(run, tmp_path):
    """With decoder_only encoder and codebook keep their bits, with refit and a discriminator, too."""
    arguments, whole = run
    done = run_tool("train_autoencoder", *arguments, "--output", tmp_path / "run", "--init",
                    whole / "autoencoder.safetensors", "autoencoder_training.decoder_only=true",
                    "autoencoder_training.refit=0.3", "autoencoder_training.steps=4")
    assert done.returncode == 0, done.stderr
    before, after = (weights.read_state(r / "autoencoder.safetensors")[0] for r in (whole, tmp_path / "run"))
    changed = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_a_new_encoder_cannot_stay_as_it_is(run, tmp_path):
    done = run_tool("train_autoencoder", *run[0], "--output", tmp_path / "run",
                    "autoencoder_training.decoder_only=true")
    one_error(done, "decoder_only", "--init")


@pytest.mark.parametrize("decoder_only", (False, True))
def test_an_autoencoder_without_a_codebook(run, tmp_path, decoder_only):
    """With codebook_size 0 latents are decoded as they are, in training as afterwards."""
    arguments, _ = run
    first, second = tmp_path / "first", tmp_path / "second"
    none = "autoencoder.codebook_size=0"
    assert run_tool("train_autoencoder", *arguments, "--output", first, none).returncode == 0
    done = run_tool("train_autoencoder", *arguments, "--output", second, none, "--init",
                    first / "autoencoder.safetensors", f"autoencoder_training.decoder_only={decoder_only}")
    assert done.returncode == 0, done.stderr
    before, after = (weights.read_state(r / "autoencoder.safetensors")[0] for r in (first, second))
    changed = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    decoder = {"decoder", "post_quant_conv"}
    assert changed == (decoder if decoder_only else decoder | {"encoder", "quant_conv"})
    assert not any(name.startswith("quantize") for name in after)
    line = json.loads((second / "train.jsonl").read_text().splitlines()[-1])
    assert line["codebook"] == line["codes_used"] == line["perplexity"] == 0
    done = run_tool("train_autoencoder", *arguments, "--output", second, none, "--init",
                    first / "autoencoder.safetensors", f"autoencoder_training.decoder_only={decoder_only}",
                    "autoencoder_training.steps=8")
    assert done.returncode == 0 and "continuing at step 6" in done.stderr, done


def test_no_codebook_to_fit(run, tmp_path):
    done = run_tool("train_autoencoder", *run[0], "--output", tmp_path / "run", "autoencoder.codebook_size=0",
                    "autoencoder_training.refit=0.3")
    one_error(done, "autoencoder_training.refit", "codebook_size")


def test_a_codebook_for_other_colours_too():
    """At the end `refit` changes no layer but those around the latents; recoloured ones have entries."""
    network = Autoencoder(**CONFIG["autoencoder"])
    rng = np.random.default_rng(4)
    pictures = [rng.integers(0, 255, (32, 32, 3)).astype(np.uint8) for _ in range(3)]
    options = {**CONFIG["autoencoder_training"], "quantize_after": 0, "refit": 0.3}
    task = AutoencoderTask(network, pictures, options)
    before = {name: p.numpy() for name, p in network.state_dict().items()}
    task.finish()
    after = {name: p.numpy() for name, p in network.state_dict().items()}
    changed = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"quant_conv", "post_quant_conv", "quantize"}
    z, entries = task.recolored_latents(0.3), after["quantize.embedding.weight"]
    assert len(z) == 8 * 8 * 1 and np.linalg.norm(z[:, None] - entries, axis=2).min(1).mean() < 0.5
