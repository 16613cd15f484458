"""What is handed from round to round and what a result's file holds: the entry's, bit for bit. No Jittor."""
import io

import numpy as np
import pytest
from conftest import golden
from PIL import Image

from ldm import images
from ldm.errors import UserError
from ldm.inference.color_transfer import color_transfer
from ldm.inference.pixels import Entry, Exact


def read(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("name", ["00000", "00001"])
def test_every_file_of_the_entry_bit_for_bit(name):
    g, entry = golden("entry_handover"), Entry()
    reference = g[f"{name}/reference"]
    for k in (1, 2, 3):
        picture = entry.decoded(g[f"{name}/round{k}/decoded"])
        assert np.array_equal(images.jpeg_roundtrip(picture, 75), g[f"{name}/round{k}/file"])
        if k < 3:
            start = entry.next_start(picture, reference, "opencv8")
            assert np.array_equal(start, g[f"{name}/round{k}/coloured_file"])
    assert np.array_equal(entry.result(picture), g[f"{name}/round3/file"])
    assert np.array_equal(read(entry.file(picture, "jpg")), g[f"{name}/round3/file"])


def extremes(seed):
    """A decoder's output with values beyond -1..1, in 3 x 40 x 56, and a reference."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.9, (3, 40, 56)).astype(np.float32),
            rng.integers(0, 256, (33, 21, 3)).astype(np.uint8))


def pillow_jpeg(picture):
    """A file as a program that names no quality writes it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(5))
def test_other_pictures_go_the_entrys_way(seed):
    """Step by step in other words: truncate, file, read, colours, file, read."""
    decoded, reference = extremes(seed)
    entry = Entry()
    picture = entry.decoded(decoded)
    expected = np.floor(np.clip((decoded.astype(np.float64) + 1) * 127.5, 0, 255)).transpose(1, 2, 0)
    assert np.mean(picture != expected) < 1e-3 and np.abs(picture - expected).max() <= 1    # float32's edges
    handed = read(pillow_jpeg(picture))
    coloured = read(pillow_jpeg(color_transfer(handed, reference, "opencv8")))
    assert np.array_equal(entry.next_start(picture, reference, "opencv8"), coloured)
    assert np.array_equal(entry.next_start(picture, reference, ""), handed)
    assert entry.file(picture, "jpg") == pillow_jpeg(picture)
    assert np.array_equal(entry.result(picture), handed)


def test_exact_pixels_are_rounded_and_uncompressed():
    decoded, reference = extremes(0)
    picture = Exact().decoded(decoded)
    assert np.array_equal(picture, images.from_network(decoded))
    assert np.array_equal(Exact().result(picture), picture)
    assert Exact().next_start(picture, reference, "") is picture
    assert np.array_equal(Exact().next_start(picture, reference, "exact"), color_transfer(picture, reference))
    assert np.array_equal(read(Exact().file(picture, "png")), picture)
    assert np.array_equal(Exact(60).next_start(picture, reference, ""), images.jpeg_roundtrip(picture, 60))


def test_the_entrys_pixels_are_no_png():
    with pytest.raises(UserError, match="jpg"):
        Entry().file(np.zeros((8, 8, 3), np.uint8), "png")
