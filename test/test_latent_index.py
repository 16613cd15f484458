"""What a latent cache's index refuses, before any network exists; tools from another working directory."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import make_pairs, one_error, run_tool

from ldm.datasets import latents
from ldm.errors import UserError

SIZE = (64, 48)


def test_a_cache_of_an_earlier_version_names_the_folder_to_make_again(tmp_path):
    """Version 2 knew pictures by their sizes in bytes: [name, size]."""
    old = {"version": 2, "autoencoder": "0123456789abcdef", "image_size": list(SIZE), "shard_size": 256,
           "pictures": [["m0.jpg", 1234]], "shards": {}}
    (tmp_path / "index.json").write_text(json.dumps(old))
    for use in (latents.read_index, latents.is_whole, latents.Latents):
        with pytest.raises(UserError, match=f"index.json: .*version; remove the folder {tmp_path} "):
            use(tmp_path)


@pytest.mark.parametrize("part, name", [("references", "m1.jpg"), ("masks", "m1.jpg")])
def test_changed_data_name_the_picture_and_the_folder_to_remove(tmp_path, part, name):
    """A picture with other pixels, or one whose label map has changed: their latents must not be used."""
    from ldm.datasets import encoding
    folder, cache = make_pairs(tmp_path / "data", 3), tmp_path / "cache"
    pairs = [(picture, folder / "masks" / f"{picture.stem}.png")
             for picture in sorted((folder / "references").iterdir())]
    weight = SimpleNamespace(numpy=lambda: np.ones(3, np.float32))
    autoencoder = SimpleNamespace(state_dict=lambda: {"w": weight})
    index = encoding.index_of(cache, pairs, autoencoder, SIZE, 2)
    cache.mkdir()
    (cache / "index.json").write_text(json.dumps(index))
    assert encoding.index_of(cache, pairs, autoencoder, SIZE, 2) == index
    with open(next((folder / part).glob("m1.*")), "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=f"cache: .*{name}.*remove .*{cache}"):
        encoding.index_of(cache, pairs, autoencoder, SIZE, 2)


@pytest.mark.parametrize("tool", ["train", "train_autoencoder", "train_segmenter", "encode_latents"])
def test_the_default_config_is_found_from_any_folder(tool, tmp_path, monkeypatch):
    """The first thing that is refused is the missing data, not the config."""
    monkeypatch.chdir(tmp_path)
    more = ["--autoencoder", "x"] if tool in ("train", "encode_latents") else []
    one_error(run_tool(tool, "--data", tmp_path / "absent", "--output", tmp_path / "out", *more), "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tool", ["train", "train_autoencoder", "train_segmenter", "encode_latents"])
@pytest.mark.parametrize("name", ["imgs", "labels", "link"])
def test_a_folder_of_training_data_is_no_output(tool, name, tmp_path):
    data = make_pairs(tmp_path / "data")
    (data / "references").rename(data / "imgs")
    (data / "masks").rename(data / "labels")
    (data / "link").symlink_to(data / "imgs")
    before = sorted(data.rglob("*"))
    more = ["--autoencoder", "x"] if tool in ("train", "encode_latents") else []
    done = run_tool(tool, "--data", data, "--output", data / name, "image_size=[64, 48]", *more)
    one_error(done, data / name, "--output")
    assert sorted(data.rglob("*")) == before


def test_the_hash_is_of_what_encodes():
    from ldm.backend import jt
    from ldm.datasets import encoding

    def hash_of(**changed):
        weights = {"encoder.w": 1, "quant_conv.w": 2, "post_quant_conv.w": 3, "decoder.w": 4,
                   "quantize.embedding.weight": 5, **changed}
        return encoding.fingerprint(SimpleNamespace(
            state_dict=lambda: {name: jt.array([value]) for name, value in weights.items()}))

    assert hash_of() == hash_of(**{"quantize.embedding.weight": 6, "decoder.w": 7, "post_quant_conv.w": 8})
    assert len({hash_of(), hash_of(**{"encoder.w": 9}), hash_of(**{"quant_conv.w": 9})}) == 3
