"""GauGAN, CLADE, SCGAN and SEAN against numbers of their original code, and against the published names.

The four cases of the full models are always run; `--slow` adds the other options of the originals.
"""
import copy
import functools
import gzip
import json

import numpy as np
import pytest
from conftest import GOLDEN
from golden.baselines import recipe

from ldm import config as configs
from ldm.backend import jt
from ldm.baselines import inputs, losses, models
from ldm.baselines.clade import CLADE
from ldm.baselines.discriminators import FeaturePyramid, MultiScale
from ldm.baselines.encoder import Encoder, sampled
from ldm.baselines.gaugan import GauGAN
from ldm.baselines.layers import evaluating
from ldm.baselines.objective import Comparison, Made, discriminator_terms, generator_terms, judge
from ldm.baselines.scgan import SCGAN
from ldm.baselines.sean import SEAN
from ldm.baselines.synthesis import Synthesis
from ldm.baselines.vgg import LOSS_WEIGHTS, VGG19

FOLDER = GOLDEN / "baselines"
CASES = ["gaugan_vae", "clade_icpe", "sean", "scgan",
         *(pytest.param(name, marks=pytest.mark.slow)
           for name in ("gaugan_seg", "gaugan_more", "clade_vae", "scgan_face"))]
TERMS = {"GAN": "gan", "GAN_Feat": "feature", "VGG": "perceptual", "KLD": "kld", "W_Recon_l1": "routing"}


@functools.lru_cache(maxsize=None)
def table(name):
    return json.loads(gzip.decompress((FOLDER / name).read_bytes()))


def picture(u8):
    return jt.array(u8.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1))


def assert_close(found, expected, tolerance=3e-5):
    found = found.numpy() if isinstance(found, jt.Var) else np.asarray(found)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


class Case:
    """The networks of a case with its weights, its inputs and its numbers."""

    def __init__(self, name):
        self.name, self.record = name, table("cases.json.gz")[name]
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.numbers = dict(arrays)
        o = self.options = self.record["options"]
        self.classes = o["label_nc"]
        self.networks = {"G": self.generator(o), "D": self.discriminator(o)}
        if o["use_vae"]:
            self.networks["E"] = Encoder(o["ngf"], o["z_dim"])
        self.synthesis = Synthesis(self.networks["G"], self.networks.get("E"))
        n = self.numbers
        self.one_hot = jt.array(inputs.semantics(n["in/labels"], self.classes, o["contain_dontcare_label"],
                                                 n.get("in/instances")))
        self.reference_map = jt.array(inputs.semantics(n["in/reference_labels"], self.classes))
        self.real, self.reference = picture(n["in/image_u8"]), picture(n["in/reference_u8"])
        self.distance = jt.array(inputs.distances(n["in/labels"], 0)) if "distance" in n else None
        self.load()

    def generator(self, o):
        width = o["crop_size"]
        edges = not o["no_instance"]
        channels = self.classes + o["contain_dontcare_label"] + edges
        place = (width, round(width / o["aspect_ratio"])), channels, o["ngf"], o["num_upsampling_layers"]
        z = {} if self.name == "sean" else {"z_dim": o["z_dim"] if o["use_vae"] else 0}
        if self.name.startswith("clade"):
            return CLADE(*place, **z, distance=o["add_dist"], edges=edges)
        if self.name.startswith("scgan"):
            return SCGAN(*place, **z, first=o["nff"], routing=o["nrf"], temperature=o["temperature"],
                         experts=(o["num_experts_conv"], o["num_experts_norm"]), nearest=o["pyr_pos"],
                         routing_spectral=not o["no_spectral_on_routing"],
                         position_levels=o["pyr_rng"] - 2 if o["position"] else 0)
        return (SEAN if self.name == "sean" else GauGAN)(*place, **z)

    def discriminator(self, o):
        channels = self.classes + o["contain_dontcare_label"] + (not o["no_instance"])
        if o["netD"] == "fpse":
            return FeaturePyramid(channels, o["ndf"])
        return MultiScale(channels, o["ndf"], o["n_layers_D"], o["num_D"], self.name == "sean")

    def load(self):
        """Put the case's weights into all networks."""
        for part, network in self.networks.items():
            shapes = {key: tuple(shape) for key, shape in self.record["shapes"][part].items()}
            assert models.published_shapes(network) == shapes
            weights = recipe.make_weights(shapes, self.record["weight_seeds"][part])
            assert recipe.weights_sha256(weights) == self.record["weights_sha256"][part]
            for key, p in network.state_dict().items():
                p.assign(jt.array(weights[key]))

    def noise(self, where):
        def drawn(name, shape):
            path = f"eps/{where}" if name == "eps" else f"noise/{where}/{name}"
            return recipe.noise(self.record["seed"], path, shape)
        return drawn

    def make(self, where, style):
        return self.synthesis(self.one_hot, style, self.noise(where), self.distance)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return Case(request.param)


def test_inputs(case):
    if "distance" in case.numbers:
        assert_close(case.distance, case.numbers["distance"], 1e-6)
    assert case.one_hot.shape[1] == len(case.one_hot.numpy()[0])
    if not case.options["no_instance"]:
        found = case.one_hot.numpy()[0, -1]
        instances = case.numbers["in/instances"][0].astype(int)
        padded = np.pad(instances, 1, "edge")
        around = [padded[1 + y:padded.shape[0] - 1 + y, 1 + x:padded.shape[1] - 1 + x]
                  for y, x in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        np.testing.assert_array_equal(found, np.any([other != instances for other in around], axis=0))


def test_evaluation(case):
    n = case.numbers
    case.load()
    with jt.no_grad(), evaluating(case.synthesis), evaluating(case.networks["D"]):
        style = case.synthesis.style(case.reference, case.reference_map)
        if style.mean is not None:
            assert_close(style.mean, n["E/mu"])
            assert_close(style.log_variance, n["E/logvar"])
            eps = jt.array(case.noise("eval")("eps", style.mean.shape))
            assert_close(sampled(style.mean, style.log_variance, eps), n["E/z"])
        if style.codes is not None:
            assert_close(style.codes, n["Z/codes"])
            own, _ = case.make("eval", case.synthesis.style(case.real, case.one_hot))
            assert_close(own[:1, :, ::2, ::2], n["G/eval_own_style"])
        made, routing = case.make("eval", style)
        assert_close(made, n["G/eval"])
        if routing is not None:
            assert_close(routing[:1, :, ::2, ::2], n["G/eval/w_image"])
        fake = jt.array(n["G/eval"])
        judged = case.networks["D"](jt.concat([case.one_hot, case.one_hot]), jt.concat([fake, case.real]))
        pyramid = isinstance(case.networks["D"], FeaturePyramid)
        for i, scale in enumerate(judged):
            place = "" if pyramid else f"scale{i}/"
            assert_close(scale.prediction, n[f"D/eval/{place}prediction{i if pyramid else ''}"])
            for j, feature in enumerate(scale.features):
                assert_close(recipe.stats(feature.numpy()), n[f"D/eval/{place}feature{j}"])


def test_training_mode(case):
    case.load()
    with jt.no_grad():
        with evaluating(case.synthesis):
            style = case.synthesis.style(case.reference, case.reference_map)
        if style.mean is not None:                          # the original takes the style vector of before
            none = jt.full(style.mean.shape, -1e4)
            style = style._replace(mean=jt.array(case.numbers["E/z"]), log_variance=none)
        made, _ = case.make("train", style)
        assert_close(made[:, :, ::2, ::2], case.numbers["G/train"])
    state = case.networks["G"].state_dict()
    buffers = {key: value for key, value in case.numbers.items() if key.startswith("G/train_buffers/")}
    assert buffers
    for key, value in buffers.items():
        assert_close(state[key[len("G/train_buffers/"):]].numpy()[:16], value)


def vgg():
    network = VGG19()
    shapes = {key: tuple(p.shape) for key, p in network.state_dict().items()}
    weights = recipe.make_weights(shapes, 19)
    for key, p in network.state_dict().items():
        p.assign(jt.array(weights[key]))
    return network


def test_one_training_step(case):
    n, o = case.numbers, case.options
    options = {"feature_weight": o["lambda_feat"], "kld_weight": o["lambda_kld"], "l1_weight": 0,
               "routing_weight": o.get("lambda_w_recon", 0), "perceptual_weight": o["lambda_vgg"]}
    case.load()
    network = vgg()
    with jt.no_grad():
        for i, feature in enumerate(network(case.real)):
            assert_close(recipe.stats(feature.numpy()), n[f"vgg/relu{i + 1}_1"])
        loss = losses.perceptual(network(jt.array(n["G/eval"])), network(case.real), LOSS_WEIGHTS)
        assert_close(loss, n["vgg/loss"], 1e-5)
    parts = [part for part in case.networks if part != "D"]
    names = [(part, key, p) for part in parts for key, p in case.networks[part].state_dict().items()
             if not p.is_stop_grad()]
    style = case.synthesis.style(case.real, case.one_hot)
    pictures, routing = case.make("step_g", style)
    terms = generator_terms(case.networks["D"], case.one_hot, case.real, Made(pictures, routing, style),
                            options, Comparison(network, LOSS_WEIGHTS))
    gradients = jt.grad(sum(terms.values()), [p for _, _, p in names], True)
    assert_close(recipe.stats(pictures.numpy()), n["step/fake"])
    expected = {key[5:]: float(value) for key, value in n.items()
                if key.startswith("loss/") and "D_" not in key}
    for name, value in expected.items():
        assert terms[TERMS[name]].item() == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert len(terms) == len(expected)
    for part in parts:
        found = {key: g for (p, key, _), g in zip(names, gradients) if p == part}
        compare_gradients(n, part, found, 3e-3)
    jt.sync_all()
    optimizer = jt.optim.AdamW([p for _, _, p in names], 1e-4, betas=(o["beta1"], o["beta2"]))
    optimizer.param_groups[0]["grads"] = gradients
    optimizer.n_step = 1
    optimizer.step()
    jt.sync_all()
    with jt.no_grad():
        again = case.synthesis.style(case.real, case.one_hot)
        fakes, _ = case.make("step_d", again)
    terms = discriminator_terms(case.networks["D"], case.one_hot, case.real, fakes)
    assert terms["d_fake"].item() == pytest.approx(float(n["loss/D_Fake"]), rel=5e-4)
    assert terms["d_real"].item() == pytest.approx(float(n["loss/D_real"]), rel=1e-5)
    of_d = {key: p for key, p in case.networks["D"].state_dict().items() if not p.is_stop_grad()}
    found = dict(zip(of_d, jt.grad(terms["d_fake"] + terms["d_real"], list(of_d.values()))))
    compare_gradients(n, "D", found, 5e-3)


def compare_gradients(n, part, found, tolerance):
    """Every norm, relative to the largest of the network, and the small gradients in full."""
    keys, norms = [str(key) for key in n[f"grad_keys/{part}"]], n[f"grad_l2/{part}"]
    assert sorted(found) == keys
    norms = np.where(np.isnan(norms), 0, norms)             # NaN: a parameter that is not used
    own = np.array([np.sqrt((found[key].numpy().astype(np.float64) ** 2).sum()) for key in keys])
    assert np.abs(own - norms).max() < tolerance * norms.max()
    for key in keys:
        if f"grad/{part}/{key}" in n:
            assert np.abs(found[key].numpy() - n[f"grad/{part}/{key}"]).max() < tolerance * norms.max(), key


@pytest.mark.parametrize("kind", ["gaugan", "clade", "sean", "scgan"])
def test_full_size_names(kind):
    expected = table("full_shapes.json.gz")[kind]["state_dict"]
    config = configs.load(GOLDEN.parents[1] / f"configs/baselines/{kind}.yaml", networks=("gan",))
    found = {"generator": models.generator(config), "discriminator": models.discriminator(config)}
    if "encoder" in expected and config["gan"]["vae"]:
        found["encoder"] = models.encoder(config)
    for part, network in found.items():
        shapes = {key: tuple(shape) for key, shape in expected[part].items()}
        assert models.published_shapes(network) == shapes, part


def test_judgements_do_not_train_the_generator_twice():
    """The features of real pictures give no gradient, and the discriminator's fakes none either."""
    network = MultiScale(2, 4, 2, 1)
    x = jt.random((1, 3, 32, 32)).start_grad()
    one_hot = jt.zeros((1, 2, 32, 32))
    terms = discriminator_terms(network, one_hot, jt.zeros((1, 3, 32, 32)), x)
    assert jt.grad(sum(terms.values()), [x])[0].abs().sum().item() == 0
    fake, real = judge(network, one_hot, jt.zeros((1, 3, 32, 32)), x)
    assert jt.grad(losses.feature_matching(fake, real, False), [x])[0].abs().sum().item() == 0


def test_config_of_a_kind_that_does_not_fit():
    config = copy.deepcopy(configs.DEFAULTS)
    for kind, size, option in (("iidm", [512, 384], "kind"), ("gaugan", [500, 384], "image_size")):
        config["kind"], config["image_size"] = kind, size
        with pytest.raises(configs.UserError, match=option):
            configs.values.check_networks(config, ("gan",))
    config["kind"] = "sean"
    with pytest.raises(configs.UserError, match="gan.vae"):
        configs.values.check(config)
