"""From nothing to a result by the tools alone: landscapes, autoencoder, U-Net, ensemble, images, numbers."""
import json

import numpy as np
import pytest
from conftest import ROOT
from tiny import CONFIG, ROUNDS, run_tool

from ldm import config as configs
from ldm import images, weights


def ran(tool, *arguments):
    done = run_tool(tool, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_whole_way(tmp_path):
    data, held_out, model = tmp_path / "data", tmp_path / "held-out", tmp_path / "model"
    model.mkdir()
    configs.save(model / "config.yaml", CONFIG)
    (tmp_path / "rounds.yaml").write_text(ROUNDS)
    ran("make_landscapes", "--count", 6, "--seed", 1, "--output", data)
    ran("make_landscapes", "--count", 3, "--seed", 2, "--split", "test", "--output", held_out)
    ran("train_autoencoder", "--config", model / "config.yaml", "--data", data, "--output", tmp_path / "ae")
    ran("train", "--config", model / "config.yaml", "--data", data, "--autoencoder",
        tmp_path / "ae/autoencoder.safetensors", "--output", tmp_path / "unet")
    ran("convert", tmp_path / "ae/autoencoder.safetensors", "--output", model / "autoencoder.safetensors",
        "--config", model / "config.yaml", "--part", "autoencoder", "--dtype", "float16")
    ran("average", *sorted((tmp_path / "unet").glob("ema-*")), "--output", model / "unet.safetensors")
    ran("infer", "--model", model, "--rounds", tmp_path / "rounds.yaml", "--input_path", held_out,
        "--img_path", held_out / "imgs", "--output_path", tmp_path / "results", "--format", "png")
    made = [images.read_image(p) for p in sorted((tmp_path / "results").glob("0*.png"))]
    assert (len(made) == 3 and all(x.shape == (48, 64, 3) for x in made)
            and not np.array_equal(made[0], made[1]))


def test_latents_of_a_trained_autoencoder_have_unit_deviation(tmp_path):
    """What train_autoencoder hands over, on the data that it was trained on."""
    from ldm.backend import jt
    from ldm.images import to_network
    from ldm.networks import Autoencoder
    data = tmp_path / "data"
    ran("make_landscapes", "--count", 4, "--seed", 3, "--output", data)
    config = tmp_path / "config.yaml"
    configs.save(config, CONFIG)
    ran("train_autoencoder", "--config", config, "--data", data, "--output", tmp_path / "ae",
        "autoencoder_training.linear_start=true", "autoencoder_training.quantize_after=4",
        "autoencoder_training.learning_rate=1.0e-5", "autoencoder.norm_groups=8")
    network = Autoencoder(**CONFIG["autoencoder"])
    weights.load(tmp_path / "ae/autoencoder.safetensors", network)
    pictures = np.stack([to_network(images.read_image(p, (64, 48)))
                         for p in sorted((data / "train_resized/imgs").iterdir())])
    with jt.no_grad():
        z = network.encode(jt.array(pictures)).numpy()
        seen = network.decode(jt.array(z)).numpy()
    assert np.abs(z.mean((0, 2, 3))).max() < 1e-3
    assert np.sqrt(np.mean((z - z.mean((0, 2, 3), keepdims=True)) ** 2)) == pytest.approx(1, abs=1e-3)
    pooled = pictures.reshape(4, 3, 12, 4, 16, 4).mean((3, 5)).repeat(4, axis=2).repeat(4, axis=3)
    assert np.abs(seen - pictures).mean() < 1.5 * np.abs(pooled - pictures).mean()   # as good as mean colours


@pytest.mark.parametrize("name", ["demo", "demo-128"])
def test_a_demo_model_is_what_its_folder_says(name):
    folder = ROOT / "models" / name
    config, demo = configs.load(folder / "config.yaml"), configs.load(ROOT / f"configs/{name}.yaml")
    assert all(config[key] == demo[key] for key in ("image_size", "schedule", "autoencoder", "unet"))
    assert sum(p.stat().st_size for p in folder.iterdir()) < 25e6
    for part in ("unet", "autoencoder"):
        state, saved = weights.read_state(folder / f"{part}.safetensors")
        assert saved[part] == config[part] and all(np.isfinite(a).all() for a in state.values())
    pairs = json.loads((ROOT / "data/samples/label_to_img.json").read_text())
    assert sorted(pairs) == sorted(p.name for p in (ROOT / "data/samples/masks").iterdir())
