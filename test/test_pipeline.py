"""`Refinement` against Algorithm 2 written straight down in numpy, with toy networks; what it refuses.

Jittor is stood in for by arrays here, so that nothing is compiled.
"""
import contextlib
import io
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import golden
from PIL import Image

from ldm import config as configs
from ldm import images
from ldm.diffusion import Schedule
from ldm.diffusion.samplers import SAMPLERS
from ldm.errors import UserError
from ldm.inference import refinement as module
from ldm.inference import rounds
from ldm.inference.batch import Batch
from ldm.inference.pipeline import Pipeline
from ldm.inference.refinement import Refinement

SIZE, SMALL = (64, 48), (16, 12)                        # width, height of images and of latents
LEVELS = np.random.default_rng(0).normal(0, 1, (29, 3))
EMPTY = np.float64([0.4, -0.3, 0.2])
TEXTURE = np.random.default_rng(1).normal(0, 0.15, (3, 4, 4))


class Var(np.ndarray):
    """An array with the few more verbs of a Jittor Var."""

    def numpy(self):
        return np.asarray(self)

    def sync(self):
        return self


def var(array):
    return np.asarray(array).view(Var)


class ToyAutoencoder:
    """Means of 4 x 4 pixels, bent; back, with a texture, so that a picture is more than its means."""
    factor = 4

    def encode(self, x):
        n, c, h, w = x.shape
        return var(1.5 * np.tanh(x.reshape(n, c, h // 4, 4, w // 4, 4).mean((3, 5))).astype(np.float32))

    def decode(self, z):
        n, c, h, w = z.shape
        z = z[:, :, :, None, :, None]
        picture = np.tanh(z / 2 + TEXTURE[None, :, None, :, None, :] * (1 + z))
        return var(picture.reshape(n, c, 4 * h, 4 * w).astype(np.float32))


class ToyUNet:
    """eps = 0.3 z + what the label says + a little of t; the empty map says something else."""
    learn_sigma = True

    def modulate(self, one_hot):
        return var(np.einsum("nkhw,kc->nchw", one_hot, LEVELS).astype(np.float32))

    def modulate_empty(self, height, width):
        return var(np.broadcast_to(EMPTY[:, None, None], (1, 3, height, width)).astype(np.float32))

    def encode(self, z, t):
        return z, np.float32(t)

    def decode(self, z, t, modulation):
        eps = 0.3 * z + 0.5 * modulation + (t / 4000).reshape(-1, 1, 1, 1)
        return var(np.concatenate([eps, 0.1 * z], axis=1).astype(np.float32))


@pytest.fixture(autouse=True)
def arrays_for_jittor(monkeypatch):
    monkeypatch.setattr(module, "jt", SimpleNamespace(array=var, no_grad=contextlib.nullcontext, Var=Var,
                                                      sync=lambda vars: None, gc=lambda: None))


def inputs(count=2):
    rng = np.random.default_rng(5)
    masks = np.repeat(np.repeat(rng.integers(0, 29, (count, 3, 4)), 4, 1), 4, 2).astype(np.uint8)
    smooth = [cv2.resize(rng.integers(0, 256, (3, 4, 3)).astype(np.uint8), SIZE) for _ in range(count)]
    return masks, np.stack(smooth), [f"name {n}" for n in range(count)]


def refinement(settings, unet=None):
    return Refinement(unet or ToyUNet(), ToyAutoencoder(), Schedule.linear(1000), settings, SIZE)


def results(refinement, masks, references, names, seed=0):
    """The results' pixels."""
    made = refinement.pictures(Batch(masks, references, names, [seed] * len(names)))
    return np.stack([refinement.pixels.result(picture) for picture in made])


# ---- Algorithm 2, straight down, one image, in float64 -----------------------------------------------------

def reinhard_opencv8(image, reference):
    lab, target = (cv2.cvtColor(x, cv2.COLOR_RGB2LAB) for x in (image, reference))
    (m, s), (tm, ts) = (tuple(np.round(v.ravel(), 2) for v in cv2.meanStdDev(x)) for x in (lab, target))
    lab = np.clip(np.round((lab - m) * (ts / s) + tm), 0, 255).astype(np.uint8)
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def alpha_bar(respacing):
    """(abar, t) of the steps that ddimN visits."""
    whole = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    t = np.arange(0, 1000, 1000 // int(respacing[4:]))
    return whole[t], t


def straight_line(mask, reference, name, seed, plan, entry, interval=(0, 1000)):
    """[(respacing, start, guidance)] -> the result's pixels; entry: truncation and JPEG 75 at each file;
    interval: guidance only where low <= t < high, t from 0."""
    encoder, unet = ToyAutoencoder(), ToyUNet()
    label = LEVELS[mask].transpose(2, 0, 1)
    picture = reference
    for k, (respacing, start, scale) in enumerate(plan):
        if k:
            picture = reinhard_opencv8(picture, reference)
            picture = images.jpeg_roundtrip(picture, 75) if entry else picture
        x = picture.astype(np.float64).transpose(2, 0, 1)[None] / 127.5 - 1
        generator = np.random.default_rng([seed, zlib.crc32(name.encode()), k])
        noise = generator.standard_normal((3, *SMALL[::-1]), np.float32)
        abar, t = alpha_bar(respacing)
        z = np.sqrt(abar[start]) * encoder.encode(x) + np.sqrt(1 - abar[start]) * noise
        for i in range(start - 1, -1, -1):
            common = 0.3 * z + t[i] / 4000
            with_map, without = common + 0.5 * label, common + 0.5 * EMPTY[:, None, None]
            eps = without + scale * (with_map - without) if interval[0] <= t[i] < interval[1] else with_map
            z0 = (z - np.sqrt(1 - abar[i]) * eps) / np.sqrt(abar[i])
            before = abar[i - 1] if i else 1.0
            z = np.sqrt(before) * z0 + np.sqrt(1 - before) * eps
        out = (encoder.decode(z)[0].transpose(1, 2, 0).astype(np.float64) + 1) * 127.5
        picture = np.clip(out if entry else np.round(out), 0, 255).astype(np.uint8)
        picture = images.jpeg_roundtrip(picture, 75) if entry else picture
    assert unet.learn_sigma and picture.dtype == np.uint8
    return picture


SHORT = [("ddim50", 15, 3.5), ("ddim50", 16, 2.7), ("ddim25", 5, 1.7)]
SHIPPED = [("ddim500", 300, 3.5), ("ddim500", 320, 3.7), ("ddim50", 20, 3.7)]


def short(tmp_path, pixels):
    transfer = ["", "opencv8", "opencv8"]
    made = [{"respacing": r, "start": s, "guidance": g, "color_transfer": transfer[k]}
            for k, (r, s, g) in enumerate(SHORT)]
    configs.save(tmp_path / "rounds.yaml", {"pixels": pixels, "rounds": made})
    return rounds.load(tmp_path / "rounds.yaml")


@pytest.mark.parametrize("pixels", ["exact", "entry"])
def test_three_rounds_are_algorithm_2(tmp_path, pixels):
    masks, references, names = inputs()
    made = results(refinement(short(tmp_path, pixels)), masks, references, names, seed=3)
    for n in range(2):
        expected = straight_line(masks[n], references[n], names[n], 3, SHORT, pixels == "entry")
        assert expected.std() > 20                                      # neither grey nor clipped
        assert np.abs(made[n].astype(float) - expected).mean() < 0.05   # a pixel at a rounding's edge


@pytest.mark.parametrize("name", ["entry", "entry_exact"])
def test_shipped_settings_are_algorithm_2(name):
    masks, references, names = inputs(1)
    made = results(refinement(rounds.load(name)), masks, references, names)
    expected = straight_line(masks[0], references[0], names[0], 0, SHIPPED, name == "entry_exact")
    assert np.abs(made[0].astype(float) - expected).mean() < (0.4 if name == "entry_exact" else 0.05)


def test_the_two_settings_differ():
    """Else the tests above could not tell one from the other."""
    masks, references, names = inputs(1)
    exact, entry = (results(refinement(rounds.load(name)), masks, references, names)
                    for name in ("entry", "entry_exact"))
    assert np.abs(exact.astype(float) - entry).mean() > 1


def test_files_are_the_results(tmp_path):
    masks, references, names = inputs()
    for pixels, exactly in (("exact", False), ("entry", True)):
        pipe = Pipeline(None, refinement(short(tmp_path, pixels)))
        pipe.text = lambda seed, name: "{}"
        made = results(pipe.refinement, masks, references, names)
        files = pipe.files(Batch(masks, references, names, [0, 0]))
        read = [np.asarray(Image.open(io.BytesIO(data))) for data in files]
        assert np.array_equal(read, made) == exactly            # exact pixels lose what a JPEG of 95 loses


def test_the_noise_is_of_seed_name_and_round(tmp_path):
    masks, references, names = inputs(1)
    pipe = refinement(short(tmp_path, "exact"))
    first = results(pipe, masks, references, names, 0)
    assert not np.array_equal(first, results(pipe, masks, references, names, 1))
    assert not np.array_equal(first, results(pipe, masks, references, ["other"], 0))
    assert np.array_equal(first, results(pipe, masks, references, names, 0))


def test_a_batch_may_have_several_seeds(tmp_path):
    masks, references, names = inputs(2)
    pipe = refinement(short(tmp_path, "exact"))
    both = pipe.pictures(Batch(masks, references, names, [4, 7]))
    for n, seed in enumerate((4, 7)):
        alone = results(pipe, masks[n:n + 1], references[n:n + 1], names[n:n + 1], seed)
        assert np.array_equal(both[n], alone[0])


def test_variations_of_one_mask_are_what_each_seed_makes(tmp_path):
    masks, references, names = inputs(1)
    pipe = refinement(short(tmp_path, "exact"))
    three = pipe.pictures(Batch(masks.repeat(3, 0), references.repeat(3, 0), names * 3, [0, 1, 2]))
    assert all(np.array_equal(three[k], results(pipe, masks, references, names, k)[0]) for k in range(3))


def test_steps_count_from_one_and_the_last_has_the_pictures(tmp_path):
    masks, references, names = inputs(1)
    pipe = refinement(short(tmp_path, "exact"))
    steps = list(pipe.steps(Batch(masks, references, names, [0])))
    assert [(s.round, s.index) for s in steps] == [(k, i) for k, (_, count, _) in enumerate(SHORT, 1)
                                                   for i in range(1, count + 1)]
    assert all(s.rounds == 3 and s.count == SHORT[s.round - 1][1] for s in steps)
    assert [s.pictures is not None for s in steps] == [False] * (len(steps) - 1) + [True]


# ---- guidance in an interval -------------------------------------------------------------------------------

@pytest.mark.parametrize("low, high", [(0.2, 0.45), (0, 0.3), (0.3, 1)])
def test_guidance_in_an_interval_is_algorithm_2_with_guidance_there(tmp_path, low, high):
    masks, references, names = inputs(1)
    settings = rounds.load(short(tmp_path, "exact"), [f"rounds.*.guidance_interval=[{low}, {high}]"])
    got = results(refinement(settings), masks, references, names)
    line = straight_line(masks[0], references[0], names[0], 0, SHORT, False, (1000 * low, 1000 * high))
    assert np.abs(got[0].astype(int) - line).max() <= 1
    assert np.abs(got[0].astype(int) - results(refinement(short(tmp_path, "exact")), masks, references,
                                               names)[0]).max() > 3


class CountingUNet(ToyUNet):
    def __init__(self):
        self.passes = []                        # (timestep, is it the empty map's?)

    def decode(self, z, t, modulation):
        self.passes += [(int(n), modulation.strides[-1] == 0) for n in t[:1]]
        return super().decode(z, t, modulation)

    def modulate_empty(self, height, width):
        return np.broadcast_to(var(EMPTY[:, None, None].astype(np.float32)), (1, 3, height, width), True)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_step_outside_of_the_interval_is_one_pass(sampler):
    masks, references, names = inputs(1)
    window = {"strength": 0.6, "steps": 6, "spacing": "karras"}

    def made(**options):
        unet = CountingUNet()
        settings = rounds.check({"sampler": sampler, "rounds": [{**window, **options}]})
        pipe, latents = refinement(settings, unet), []
        pipe.decode = lambda z: latents.append(z.numpy()) or Refinement.decode(pipe, z)
        results(pipe, masks, references, names)
        return latents[0], unet.passes, pipe.rounds[0]

    full, all_passes, r = made(guidance=3.0)
    unguided, half, _ = made()
    for covering in ([0, 1], [0.0, 0.6]):
        assert np.array_equal(made(guidance=3.0, guidance_interval=covering)[0], full)
    for empty in ([0.3, 0.3], [0, 0], [0.61, 1]):
        latent, passes, found = made(guidance=3.0, guidance_interval=empty)
        assert np.array_equal(latent, unguided) and passes == half and not any(found.guides)
    latent, passes, found = made(guidance=3.0, guidance_interval=[0.05, 0.3])
    assert not np.array_equal(latent, full) and not np.array_equal(latent, unguided)
    assert [t for t, of_empty in passes if of_empty] == [t for t, _ in half if 50 <= t < 300]
    assert [t for t, of_empty in passes if not of_empty] == [t for t, _ in half]
    assert 0 < sum(found.guides) < 6 and len(all_passes) == 2 * len(half)
    assert found.guides == [50 <= t < 300 for t in r.chain.timesteps]


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_predictions_end_at_the_clean_latent(sampler):
    """At a round's last step all samplers but the ancestral one return the prediction of z_0 itself."""
    masks, references, names = inputs(1)
    settings = rounds.check({"sampler": sampler, "rounds": [{"strength": 0.5, "steps": 6, "guidance": 2.0}]})
    pipe, decoded = refinement(settings), []
    pipe.decode = lambda z: decoded.append(z.numpy()) or Refinement.decode(pipe, z)
    cleans = [step.clean() for step in pipe.steps(Batch(masks, references, names, [0]))]
    assert np.abs(cleans[-1] - decoded[0]).max() < (0.1 if sampler == "ddpm" else 1e-5)
    distances = [np.abs(clean - decoded[0]).mean() for clean in cleans]
    assert distances[0] > 5 * distances[-1] and cleans[0].dtype == np.float32


def test_pure_noise_needs_no_reference():
    masks, references, names = inputs(1)
    pipe = refinement(rounds.check({"rounds": [
        {"respacing": "ddim50", "start": 20, "from": "noise"}, {"strength": 0.3, "steps": 3}]}))
    assert np.array_equal(results(pipe, masks, None, names), results(pipe, masks, references, names))
    with pytest.raises(UserError, match="references: are missing"):
        results(refinement(rounds.load("fast")), masks, None, names)


# ---- what it refuses ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("masks, references, subject", [
    (np.zeros((1, 48, 64), np.uint8), None, "masks"),               # of the image's size
    (np.zeros((1, 6, 8), np.uint8), None, "masks"),
    (np.zeros((2, 12, 16), np.uint8), None, "masks"),
    (np.zeros((1, 12, 16), np.int64), None, "masks"),
    (np.full((1, 12, 16), 29, np.uint8), None, "masks"),
    (None, np.zeros((1, 24, 32, 3), np.uint8), "references"),
    (None, np.zeros((1, 48, 64), np.uint8), "references"),
    (None, np.zeros((1, 48, 64, 3), np.float32), "references"),
])
def test_other_shapes_and_types_are_refused(tmp_path, masks, references, subject):
    good = inputs(1)
    with pytest.raises(UserError, match=f"^{subject}: "):
        results(refinement(short(tmp_path, "exact")), good[0] if masks is None else masks,
                good[1] if references is None else references, ["a"])


def test_an_image_that_is_not_finite_is_its_own_failure(tmp_path):
    class Spoilt(ToyUNet):
        def decode(self, z, t, modulation):
            out = super().decode(z, t, modulation)
            out[0] = np.nan
            return out
    masks, references, names = inputs()
    settings, batch = short(tmp_path, "exact"), Batch(masks, references, names, [0, 0])
    pipe = Pipeline(None, refinement(settings, Spoilt()))
    pipe.text = lambda seed, name: "{}"
    pictures, good = pipe.refinement.pictures(batch), refinement(settings).pictures(batch)
    assert pictures[0] is None and np.array_equal(pictures[1], good[1])
    assert [data is None for data in pipe.files(batch)] == [True, False]
    with pytest.raises(UserError, match="name 0: .*NaN"):
        pipe(list(masks), list(references), name=names)


def test_jittors_words_for_no_memory_are_a_memory_error(tmp_path):
    class Full(ToyUNet):
        def __init__(self, words):
            self.words = words

        def encode(self, z, t):
            raise RuntimeError(self.words)
    settings = short(tmp_path, "exact")
    no_memory = "Unable to alloc cuda device memory"
    for words, kind in ((no_memory, MemoryError), ("something else", RuntimeError)):
        full = Full(f"[f 1128] {words}, 1 GB")
        with pytest.raises(kind):
            results(refinement(settings, full), *inputs())


def test_golden_decoded_pictures_become_the_entrys_files(tmp_path):
    """The last round's decoded array of the entry, put in the place of a decoder's output."""
    g = golden("entry_handover")
    wide = SimpleNamespace(factor=4, encode=ToyAutoencoder().encode,
                           decode=lambda z: var(g["00000/round3/decoded"][None]))
    pipe = Refinement(ToyUNet(), wide, Schedule.linear(1000), short(tmp_path, "entry"), (128, 96))
    made = results(pipe, np.zeros((1, 24, 32), np.uint8), g["00000/reference"][None], ["a"])
    assert np.array_equal(made[0], g["00000/round3/file"])
