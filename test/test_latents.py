"""The latent cache through its tool: what is in it, kills in the middle, and what is refused."""
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, golden_weights
from PIL import Image
from tiny import CONFIG, make_model, make_pairs, one_error, run_tool

from ldm import config as configs
from ldm import images, weights
from ldm.datasets import landscape
from ldm.datasets.latents import Latents
from ldm.errors import UserError

COUNT, SHARD = 11, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """data/ in the contest's form, model/autoencoder.safetensors, config.yaml; cache/, made undisturbed."""
    folder = tmp_path_factory.mktemp("latents")
    made = make_pairs(folder / "in", count=COUNT)
    (folder / "data").mkdir()
    (made / "masks").rename(folder / "data/labels")
    (made / "references").rename(folder / "data/imgs")
    (folder / "model").mkdir()
    make_model(folder / "model")
    configs.save(folder / "config.yaml", CONFIG)
    done = run_tool("encode_latents", *arguments(folder, folder / "cache"))
    assert done.returncode == 0 and f"{COUNT} pictures" in done.stdout, done.stderr
    return folder


def arguments(folder, output):
    return ["--config", folder / "config.yaml", "--data", folder / "data", "--output", output,
            "--autoencoder", folder / "model/autoencoder.safetensors", "--shard-size", SHARD,
            "--batch-size", 1]


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


def test_a_cache_holds_every_picture_straight_and_flipped(folder):
    from ldm.backend import jt
    from ldm.images import to_network
    from ldm.networks import Autoencoder
    assert set(content(folder / "cache")) == {"index.json", *(f"shard-{k:05d}.npy" for k in range(6))}
    cache = Latents(folder / "cache")
    assert len(cache) == COUNT
    autoencoder = Autoencoder(**CONFIG["autoencoder"])
    weights.load(folder / "model/autoencoder.safetensors", autoencoder)
    pairs = landscape.training_pairs(folder / "data")
    for i, flip in ((0, 0), (3, 1), (10, 1)):
        picture, labels = images.read_image(pairs[i][0]), images.read_labels(pairs[i][1], (16, 12))
        if flip:
            picture, labels = picture[:, ::-1], labels[:, ::-1]
        z, maps = cache.read([i], [flip])
        with jt.no_grad():
            expected = autoencoder.encode(jt.array(to_network(picture)[None])).numpy()
        np.testing.assert_allclose(z, expected, atol=1e-5)
        assert np.array_equal(maps[0], labels)


def test_killed_at_any_moment_it_goes_on_and_ends_the_same(folder, tmp_path):
    command = [sys.executable, ROOT / "tools/encode_latents.py", *map(str, arguments(folder, tmp_path))]
    for wanted in ("shard-00000.npy", "shard-00002.npy"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 120
        while not (tmp_path / wanted).exists() and process.poll() is None and time.time() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "shard-00002.npy").exists() and not (tmp_path / "shard-00005.npy").exists()
    (tmp_path / ".shard-00005.1.tmp.npy").write_bytes(b"half a file")
    done = run_tool("encode_latents", *arguments(folder, tmp_path))
    assert done.returncode == 0, done.stderr
    assert content(tmp_path) == content(folder / "cache")


def test_a_whole_cache_is_left_alone_and_a_removed_shard_made_again(folder, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(folder / "cache", cache)
    (cache / "shard-00001.npy").unlink()
    times = {p.name: p.stat().st_mtime_ns for p in cache.glob("shard*")}
    assert run_tool("encode_latents", *arguments(folder, cache)).returncode == 0
    assert content(cache) == content(folder / "cache")
    assert all((cache / name).stat().st_mtime_ns == t for name, t in times.items())


def test_latents_of_another_autoencoder_are_refused(folder, tmp_path):
    state, _ = weights.read_state(folder / "model/autoencoder.safetensors")
    other = golden_weights({name: a.shape for name, a in state.items()}, 8)
    weights.save(tmp_path / "other.safetensors", other, CONFIG)
    before = content(folder / "cache")
    one_error(run_tool("train", *arguments(folder, tmp_path / "run")[:4], "--output", tmp_path / "run",
                       "--autoencoder", tmp_path / "other.safetensors", "--latents", folder / "cache"),
              folder / "cache", "holds latents of another autoencoder")
    assert content(folder / "cache") == before


def test_a_damaged_shard_is_refused(folder, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(folder / "cache", cache)
    damaged = bytearray((cache / "shard-00002.npy").read_bytes())
    damaged[-5000] ^= 1
    (cache / "shard-00002.npy").write_bytes(damaged)
    one_error(run_tool("encode_latents", *arguments(folder, cache)), "shard-00002.npy", "is damaged")


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"autoencoder": "x", "images": []}'])
def test_an_index_of_another_form_is_refused(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(UserError, match="index.json.*remove"):
        Latents(tmp_path)


def test_a_cache_that_is_not_whole_is_no_cache(folder, tmp_path):
    shutil.copytree(folder / "cache", tmp_path / "cache")
    index = json.loads((tmp_path / "cache/index.json").read_text())
    del index["shards"]["shard-00005.npy"]
    (tmp_path / "cache/index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="not a complete latent cache"):
        Latents(tmp_path / "cache")


def test_bad_data_is_listed_before_anything_expensive(folder, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "data")
    (tmp_path / "data/labels/m3.png").unlink()
    (tmp_path / "data/imgs/m1.jpg").write_bytes(b"no image")
    Image.fromarray(np.full((48, 64), 77, np.uint8)).save(tmp_path / "data/labels/m2.png")
    given = ["--config", folder / "config.yaml", "--data", tmp_path / "data", "--output", tmp_path / "run",
             "--autoencoder", tmp_path / "no such file"]                            # it does not come so far
    for tool in ("encode_latents", "train", "train_autoencoder"):
        done = run_tool(tool, *(given if tool != "train_autoencoder" else given[:-2]))
        one_error(done, "3 files cannot be used")
        for line in ("m3.jpg: has no partner", "m1.jpg: cannot be read", "m2.png: holds label 77"):
            assert line in done.stderr, (tool, done.stderr)


def test_a_typo_and_impossible_sizes_are_refused(folder, tmp_path):
    given = arguments(folder, tmp_path)
    one_error(run_tool("encode_latents", *given, "autoencoder.chanels=3"), "autoencoder.chanels=3")
    one_error(run_tool("encode_latents", *given, "--shard-size", 0), "--shard-size: is 0")
