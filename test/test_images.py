"""Reading and writing pictures, label maps, configs; what is wrong is said in one line. Needs no Jittor."""
import numpy as np
import pytest
from PIL import Image

from ldm import config as configs
from ldm import files, images, labels
from ldm.errors import UserError


@pytest.fixture
def picture(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    return tmp_path, rgb


def test_every_mode_becomes_rgb(picture):
    folder, rgb = picture
    assert np.array_equal(images.read_image(folder / "rgb.png"), rgb)
    rgba = np.dstack([rgb, np.full((24, 32), 255, np.uint8)])
    rgba[:4, :, 3] = 0
    Image.fromarray(rgba).save(folder / "rgba.png")
    read = images.read_image(folder / "rgba.png")
    assert (read[:4] == 255).all() and np.array_equal(read[4:], rgb[4:])         # transparency over white
    Image.fromarray(rgb[..., 0]).save(folder / "grey.png")
    assert np.array_equal(images.read_image(folder / "grey.png"), rgb[..., :1].repeat(3, axis=2))
    assert images.read_image(folder / "rgb.png", (20, 10)).shape == (10, 20, 3)


def test_labels_are_checked(tmp_path):
    good = np.arange(29, dtype=np.uint8).reshape(1, 29).repeat(4, axis=0)
    Image.fromarray(good).save(tmp_path / "good.png")
    assert np.array_equal(images.read_labels(tmp_path / "good.png"), good)
    palette = Image.fromarray(good)
    palette.putpalette(labels.COLORS.reshape(-1).tolist())
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(images.read_labels(tmp_path / "palette.png"), good)
    double = images.read_labels(tmp_path / "good.png", (58, 8))
    assert double.shape == (8, 58) and np.array_equal(double[0, ::2], good[0])
    Image.fromarray(good + 1).save(tmp_path / "high.png")
    with pytest.raises(UserError, match="holds label 29; .*0..28"):
        images.read_labels(tmp_path / "high.png")
    Image.fromarray(good.astype(np.uint16) * 100).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match="holds label 2800"):
        images.read_labels(tmp_path / "deep.png")


def test_broken_files(picture):
    folder, _ = picture
    whole = (folder / "rgb.png").read_bytes()
    for name, data in (("half.png", whole[:len(whole) // 2]), ("empty.png", b""), ("text.png", b"hello")):
        (folder / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name}: cannot be read as an image"):
            images.read_image(folder / name)
    with pytest.raises(UserError, match="No such file"):
        images.read_image(folder / "none.png")


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.png"
    images.write_image(path, np.zeros((4, 4, 3), np.uint8))
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        with files.replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot be written"):
        images.write_image(path / "below.png", np.zeros((4, 4, 3), np.uint8))


def test_grid_places_every_picture():
    rows = [[np.full((8, 8, 3), 10 * r + c, np.uint8) for c in range(3)] for r in range(2)]
    sheet = images.grid(rows, gap=2)
    assert sheet.shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    assert all((sheet[2 + 10 * r:10 + 10 * r, 2 + 10 * c:10 + 10 * c] == 10 * r + c).all()
               for r in range(2) for c in range(3))


def test_jpeg_roundtrip_is_the_entrys_quality():
    rgb = np.linspace(0, 255, 32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)
    lost = [np.abs(images.jpeg_roundtrip(rgb, q).astype(int) - rgb).mean() for q in (20, 75, 95)]
    assert lost[0] > lost[1] > lost[2] and lost[1] < 3


def test_one_hot():
    maps = np.array([[[0, 28]], [[5, 5]]], np.uint8)
    hot = labels.one_hot(maps)
    assert hot.shape == (2, 29, 1, 2) and hot.sum() == 4 and hot[0, 28, 0, 1] == hot[1, 5, 0, 0] == 1


def write(path, text):
    path.write_text(text)
    return path


def test_config_merges_overrides_and_checks(tmp_path):
    path = write(tmp_path / "c.yaml", "unet: {channels: 64}\ntraining: {learning_rate: 1}\n")
    config = configs.load(path, ["unet.dropout=0.1", "training.steps=5", "unet.channel_mult=[1, 2]"])
    assert config["unet"]["channels"] == 64 and config["unet"]["channel_mult"] == [1, 2]
    assert config["training"]["learning_rate"] == 1.0 and config["training"]["steps"] == 5
    assert config["autoencoder"] == configs.DEFAULTS["autoencoder"]
    configs.save(tmp_path / "d.yaml", config)
    assert configs.load(tmp_path / "d.yaml") == config


@pytest.mark.parametrize("text, words", [
    ("unet: {chanels: 64}", "unknown key 'unet.chanels'"),
    ("unet: {channels: big}", "'unet.channels' is 'big'"),
    ("unet: {channels: true}", "'unet.channels' is True"),
    ("unet: [", "cannot be read as YAML"),
    ("- 1", "mapping of options"),
    ("unet: {channel_mult: [1, x]}", "'unet.channel_mult' is 'x'")])
def test_config_errors(tmp_path, text, words):
    with pytest.raises(UserError) as e:
        configs.load(write(tmp_path / "c.yaml", text))
    assert words in str(e.value) and "c.yaml" in str(e.value)


@pytest.mark.parametrize("assignment", ["unet.chanels=3", "unet=3", "unet.channels", "a.b.c=1",
                                        "unet.channels.x=1", "unet.channels=1.5", "unet.channels=["])
def test_override_errors(assignment):
    with pytest.raises(UserError, match=assignment.split("=")[0]):
        configs.override(configs.DEFAULTS, [assignment])


def test_shipped_configs_load():
    from conftest import ROOT
    assert configs.load(ROOT / "configs/iidm.yaml") == configs.DEFAULTS
    entry = {name: part for name, part in configs.DEFAULTS.items()
             if not name.startswith(("segmenter", "gan"))}
    assert configs.read_yaml(ROOT / "configs/iidm.yaml") == entry, "every key stands there"
    segmenter = configs.load(ROOT / "configs/segmenter.yaml")
    assert segmenter["segmenter"].keys() == configs.DEFAULTS["segmenter"].keys()
    assert segmenter["image_size"] == [512, 384]
    assert configs.load(ROOT / "configs/demo-128.yaml")["image_size"] == [128, 96]
