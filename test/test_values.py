"""Values that no network and no training can have are refused by their key before anything is built."""
import copy
import math

import pytest
import tiny
from conftest import ROOT

from ldm import config as configs
from ldm import documents, sizes, values
from ldm.errors import UserError
from ldm.platform import runtime

NETWORKS = ("unet", "autoencoder", "segmenter")
HUGE = 10 ** 30
NAN, INF = float("nan"), float("inf")


def written(folder, text):
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def refused(tree, word, names=()):
    """A config of the defaults with `tree` over it is refused with this word in a single line."""
    with pytest.raises(UserError) as caught:
        config = configs.merge(configs.DEFAULTS, tree, "here")
        values.check(config)
        values.check_networks(config, names)
    assert word in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


TRAINING = [("batch_size", 0), ("steps", 0), ("save_every", 0), ("sample_every", -1), ("log_every", 0),
            ("keep", 0), ("warmup_steps", -1), ("micro_batch", -1), ("learning_rate", 0.0),
            ("learning_rate", NAN), ("learning_rate", INF), ("decay", "exponential"), ("weight_decay", -0.1),
            ("ema_rate", 1.0), ("ema_rate", NAN), ("seed", -1), ("seed", HUGE), ("steps", HUGE),
            ("batch_size", HUGE), ("steps", True), ("learning_rate", True), ("steps", 2.0), ("steps", None)]


@pytest.mark.parametrize("section", ["training", "autoencoder_training", "segmenter_training"])
@pytest.mark.parametrize("key, value", TRAINING)
def test_no_training_has_these(section, key, value):
    refused({section: {key: value}}, f"{section}.{key}")


@pytest.mark.parametrize("name, value", [
    ("training.keep_best", -1), ("training.label_drop", 1.5), ("training.held_out", -1.0),
    ("training.best_by", "hello"), ("training.best_by", "FID"),
    ("training.metrics_every", 0), ("training.precision", "fp8"), ("training.checkpointing", "all"),
    ("training.loss", "mae"), *[("training.more_ema_rates", rates)
                                for rates in ([0.5, 2.0], [0.9999], ["x"], [0.5, 0.5], [NAN])],
    ("autoencoder_training.crop", 16), ("autoencoder_training.crop", 250),
    ("autoencoder_training.lpips", [1]),
    ("autoencoder_training.discriminator_channels", 0), ("autoencoder_training.discriminator_channels", 12),
    ("autoencoder_training.discriminator_start", -1), ("autoencoder_training.discriminator_weight", -0.5),
    ("autoencoder_training.quantize_after", -1), ("autoencoder_training.perceptual_weight", -1.0),
    ("segmenter_training.least_crop", 0.0), ("segmenter_training.least_crop", 1.5), ("schedule", "log"),
    ("image_size", []), ("image_size", [1]), ("image_size", [64, 64, 64]), ("image_size", [0, 0]),
    ("image_size", [64, HUGE]), ("image_size", 64), ("image_size", [64.0, 64]),
])
def test_nor_these(name, value):
    *section, key = name.split(".")
    refused({section[0]: {key: value}} if section else {key: value}, name)


def network_cases():
    """Every number of every network as none can be: negative, 0, huge, of another kind, alone or in lists."""
    for section in NETWORKS:
        for key, default in configs.DEFAULTS[section].items():
            if type(default) is bool:
                yield section, key, 1
                continue
            for wrong in (-1, 0, HUGE, 10 ** 7, "x", None, True, NAN, [], {}):
                if isinstance(default, list):
                    yield section, key, wrong
                    yield section, key, [wrong] * len(default)
                elif (key, wrong) not in (("dropout", 0), ("codebook_size", 0), ("codebook_size", 10 ** 7)):
                    yield section, key, wrong


@pytest.mark.parametrize("section, key, value", [
    case for case in network_cases() if case != ("unet", "attention_downsampling", [])])
def test_no_network_is_built_of_these(section, key, value):
    refused({section: {key: value}}, f"{section}.{key}")


@pytest.mark.parametrize("tree, word", [
    ({"unet": {"channels": 100}}, "unet.norm_groups"),
    ({"unet": {"head_channels": 48}}, "unet.head_channels"),
    ({"unet": {"channels": 33, "norm_groups": 33}}, "unet.channels"),
    ({"unet": {"num_classes": 30}}, "unet.num_classes: is 30"),
    ({"unet": {"learn_sigma": False}}, "training.loss"),
    ({"autoencoder": {"channels": 100}}, "autoencoder.norm_groups"),
    ({"autoencoder": {"embed_dim": 4}}, "autoencoder.embed_dim: is 4"),
    ({"autoencoder": {"channels": 32, "norm_groups": 16}, "autoencoder_training": {"linear_start": True}},
     "linear_start"),
    ({"segmenter": {"hidden": [32, 64, 100, 256]}}, "segmenter.hidden"),
])
def test_values_that_do_not_go_together(tree, word):
    refused(tree, word)


@pytest.mark.parametrize("size, names, word", [
    ([512, 100], ("unet", "autoencoder"), "multiples of 64"), ([520, 384], ("unet",), "multiples of 64"),
    ([512, 390], ("autoencoder",), "multiples of 4"), ([32, 16], ("segmenter",), "32 or more"),
])
def test_image_sizes_that_a_network_cannot_halve(size, names, word):
    refused({"image_size": size}, word, names)
    values.check(configs.merge(configs.DEFAULTS, {"image_size": size}, "here"))


@pytest.mark.parametrize("tree, word", [
    ({"unet": {"channels": 2 ** 14}}, "unet: is 'a network of"),
    ({"segmenter": {"hidden": [2 ** 13] * 4, "depths": [256] * 4}}, "segmenter: is 'a network of"),
    ({"autoencoder": {"channels": 2 ** 12, "channel_mult": [64] * 3}}, "autoencoder: is 'a network of"),
    ({"image_size": [2 ** 14, 2 ** 14]}, "image_size"),
])
def test_what_no_memory_holds(monkeypatch, tree, word):
    """Also not a gigabyte of what it would take is asked for."""
    monkeypatch.setattr(values.runtime, "on_gpu", lambda: False)
    refused(tree, word, NETWORKS)


def test_sizes_are_those_of_the_networks():
    """Layer by layer from the numbers, as the built networks have."""
    from test_networks import shapes

    from ldm.networks import Autoencoder, UNet
    from ldm.training import estimate
    other = configs.merge(tiny.CONFIG, {"unet": {"attention_downsampling": [1, 2], "learn_sigma": False},
                                        "autoencoder": {"z_channels": 5, "channel_mult": [1, 2]}}, "here")
    for config in (configs.load(ROOT / "configs/demo-128.yaml"), tiny.CONFIG, other):
        networks = {"unet": UNet(**config["unet"]), "autoencoder": Autoencoder(**config["autoencoder"])}
        for name, network in networks.items():
            built = sum(math.prod(shape) for shape in shapes(network).values())
            assert sizes.parameters(config, name) == built, name
        one = estimate.one_pass(networks["unet"], 12, 16)
        assert sum(layer.macs(12, 16) for layer in sizes.unet(config["unet"])) == one.macs
    assert sizes.parameters(configs.DEFAULTS, "unet") == 501_540_358
    assert sizes.parameters(configs.DEFAULTS, "autoencoder") == 55_322_782


def test_what_inference_needs():
    """At full size: 370 MiB of a label map, and of the entry's 640 guided steps 1.3 passes each."""
    from ldm.diffusion import Schedule
    from ldm.inference import estimate, rounds
    settings = rounds.load(ROOT / "configs/infer/entry.yaml")
    assert round(estimate.modulations(configs.DEFAULTS) / 2 ** 20) == 370
    a_pass = sum(layer.macs(96, 128) for layer in sizes.unet(configs.DEFAULTS["unet"]))
    made = estimate.macs(configs.DEFAULTS, settings, Schedule.named("linear"))
    assert 640 * a_pass < made < 2 * 640 * a_pass
    works = [estimate.macs(configs.DEFAULTS, rounds.load("entry", texts), Schedule.named("linear"))
             for texts in ([], ["rounds.*.guidance_interval=[0.2, 0.4]"], ["rounds.*.guidance=1"])]
    assert works[0] == made and (works[1] - works[2]) / (works[0] - works[2]) == pytest.approx(0.33, abs=0.02)
    assert 3e9 < estimate.memory(configs.DEFAULTS, 1, limit=0) < estimate.memory(configs.DEFAULTS, 8) < 12e9
    if not runtime.on_gpu():                # measured: 2.4 GB, docs/performance.md
        assert 2e9 < estimate.memory(configs.DEFAULTS, 1, precision="bf16") < 4e9


def test_what_the_shipped_configs_say_is_allowed():
    for path in [*ROOT.glob("configs/*.yaml"), *ROOT.glob("models/*/config.yaml")]:
        names = ("segmenter",) if path.stem == "segmenter" else ("unet", "autoencoder")
        configs.load(path, (), names)
    values.check_networks(configs.DEFAULTS, NETWORKS)


@pytest.mark.parametrize("text, expected", [("1e-5", 1e-5), ("1E5", 1e5), (".5", 0.5), ("3", 3.0),
                                            ("+2.e1", 20.0), ("1.0e+6", 1e6), ("'1e-5'", 1e-5)])
def test_numbers_as_people_write_them(tmp_path, text, expected):
    path = written(tmp_path, f"training: {{learning_rate: {text}, more_ema_rates: [5e-1, 0]}}\n")
    for config in (configs.load(path), configs.load(path, [f"training.learning_rate={text}"])):
        assert config["training"]["learning_rate"] == expected
        assert config["training"]["more_ema_rates"] == [0.5, 0.0]


def test_the_file_or_the_override_is_named(tmp_path):
    path = written(tmp_path, "training: {steps: 0}\n")
    with pytest.raises(UserError, match=r"c\.yaml: training\.steps: is 0"):
        configs.load(path)
    with pytest.raises(UserError, match=r"^training\.steps: is 0"):
        configs.load(path, ["training.steps=0"])


# ---- what a YAML or JSON file may hold ---------------------------------------------------------------------

LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in
                                    zip("abcdefghijklmnopqrs", "bcdefghijklmnopqrst"))
MERGES = "k: &k {x: 1}\n" + "".join(f"k{'k' * i}: &{'k' * (i + 1)} {{<<: [*{'k' * i}, *{'k' * i}]}}\n"
                                    for i in range(1, 40))
BAD_YAML = {
    "brackets": "[" * 5000, "braces": "{a: " * 5000, "dashes": "- " * 5000, "questions": "? " * 5000,
    "digits": "9" * 5000, "sexagesimal": "1:" * 4000 + "1", "date": "2020-99-99",
    "time": "2020-01-01T99:99:99Z", "year": "0000-00-00",
    "binary": "0b_", "hexadecimal": "0x_", "int": "!!int foo", "float": "!!float foo",
    "no int": "!!int ''", "no float": "!!float ''",
    "bool": "!!bool foo", "timestamp": "!!timestamp foo", "set": "!!set 5", "pairs": "!!pairs [5]",
    "object": "!!python/object/apply:os.system [x]", "list key": "{[1]: 2}", "map key": "{{a: 1}: 2}",
    "nul": "a\0b", "laughs": LAUGHS, "merges": MERGES, "itself": "&a [*a]", "long": "- 1\n" * 15000,
    "half": "[", "quote": "'" * 9999, "number": "1", "nothing": "", "int keys": "1: 2\n",
    "twice": "schedule: linear\nschedule: cosine\n", "nested twice": "unet: {channels: 32, channels: 64}",
    "nested int key": "unet: {1: 2}", "date key": "unet: {2020-01-01: 2}", "null": "unet: null",
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_bad_yaml_is_one_line(tmp_path, name):
    """Without limits some of these take minutes or all memory."""
    path = tmp_path / "c.yaml"
    path.write_bytes(BAD_YAML[name].encode())
    with pytest.raises(UserError) as caught:
        configs.load(path)
    if name not in ("nothing", "int keys", "nested int key", "date key", "null", "merges"):
        with pytest.raises(UserError):
            configs.load(ROOT / "configs/demo-128.yaml", [f"schedule={BAD_YAML[name]}"])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_other_files_that_are_no_documents(tmp_path):
    large, words = tmp_path / "large", tmp_path / "words"
    large.write_bytes(b"#" * (documents.YAML_BYTES + 1))
    words.write_bytes(b"\xff\xfe\x00x")
    for path in (large, words, tmp_path, tmp_path / "none", "/dev/zero"):
        for read in (documents.read_yaml, lambda path: documents.read_json(path, "JSON")):
            with pytest.raises(UserError, match=str(path)):
                read(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000 + "x", "{", "NaN", '{"a": Infinity}', "'a'", "",
                                  '{"m0.png": "a.jpg", "m0.png": "b.jpg"}', "[" + "9" * 5000 + "]"])
def test_bad_json_is_one_line(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError, match="c.json") as caught:
        documents.read_json(tmp_path / "c.json", "JSON")
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "c").write_bytes(b"\xef\xbb\xbf{\"a\": 1}")
    assert documents.read_json(tmp_path / "c", "JSON") == documents.read_yaml(tmp_path / "c") == {"a": 1}


def test_aliases_are_read():
    assert documents.parse_yaml("a: &x {b: 1}\nc: {<<: *x, d: 2}\n", "here")["c"] == {"b": 1, "d": 2}


def test_defaults_stay_as_they_are():
    before = copy.deepcopy(configs.DEFAULTS)
    configs.load(ROOT / "configs/demo-128.yaml", ["unet.channel_mult=[1, 1]"])
    assert configs.DEFAULTS == before


# ---- other sizes, and several seeds ------------------------------------------------------------------------

@pytest.mark.parametrize("size, nearest", [((500, 380), "512 x 384"), ((0, 384), "64 x 384"),
                                           ((-5, 99999), "64 x 16384"), ((10 ** 30, 64), "16384 x 64"),
                                           ((31, 97), "64 x 128")])
def test_a_wrong_size_names_the_nearest_right_one(size, nearest):
    with pytest.raises(UserError, match=f"^--size: .*multiples of 64, such as {nearest}"):
        values.resized(configs.DEFAULTS, size, "--size")


@pytest.mark.parametrize("size", [(512,), (512, 384, 3), "512x384", 512, (512.0, 384), (True, 384), None, {}])
def test_what_is_no_size(size):
    with pytest.raises(UserError, match="^size: is .*width"):
        values.resized(configs.DEFAULTS, size)


def test_right_sizes_and_their_memory(monkeypatch):
    other = values.resized(configs.DEFAULTS, [384, 512])
    assert other["image_size"] == [384, 512] and configs.DEFAULTS["image_size"] == [512, 384]
    monkeypatch.setattr(sizes, "machine_memory", lambda: 4 * 10 ** 9)
    with pytest.raises(UserError, match="^--size: .*memory|^--size: .*GB"):
        values.resized(configs.DEFAULTS, [4096, 3072], "--size")


def test_memory_and_time_follow_the_size():
    from ldm.diffusion import Schedule
    from ldm.inference import estimate, rounds
    twice, settings = values.resized(configs.DEFAULTS, [1024, 768]), rounds.load("fast")
    work = [estimate.macs(config, settings, Schedule.named("linear")) for config in (configs.DEFAULTS, twice)]
    assert 4 < work[1] / work[0] < 6                                # attention grows faster than the picture
    assert estimate.modulations(twice) == 4 * estimate.modulations(configs.DEFAULTS)
    assert estimate.memory(twice, 1) > 1.5 * estimate.memory(configs.DEFAULTS, 1) - 3e9


@pytest.mark.parametrize("text, expected", [("0..3", [0, 1, 2, 3]), ("5", [5]), ("1,5,9", [1, 5, 9]),
                                            ("0..1, 7..8", [0, 1, 7, 8]), ("2147483647", [2147483647])])
def test_seeds(text, expected):
    assert values.seeds(text, "--seeds") == expected


@pytest.mark.parametrize("text", ["", "x", "1..", "..3", "3..1", "-1..2", "1..2..3", "1,,2", "1,1", "0..3,2",
                                  "0..99999999", "2147483648", "1" * 5000, "0..9,0..99999", "\u0664", "1e3"])
def test_what_are_no_seeds(text):
    with pytest.raises(UserError) as caught:
        values.seeds(text, "--seeds")
    assert str(caught.value).startswith("--seeds: ") and len(str(caught.value)) < 200
