"""Colour transfer against the entry's own results, and what it should do to statistics. Needs no Jittor."""
import cv2
import numpy as np
import pytest
from conftest import golden

from ldm.errors import UserError
from ldm.inference import color_transfer
from ldm.inference.color_transfer import moments


@pytest.mark.parametrize("pair", ["0", "1"])
def test_opencv8_equals_the_entry_bit_for_bit(pair):
    g = golden("color_transfer")
    reference, source = g[f"{pair}/ref_rgb"], g[f"{pair}/source_rgb"]
    lab = cv2.cvtColor(reference, cv2.COLOR_RGB2LAB)
    assert np.array_equal(np.concatenate(moments(lab, decimals=2)), g[f"{pair}/ref_mean_std"])
    assert np.array_equal(color_transfer(source, reference, "opencv8"), g[f"{pair}/out_rgb"])


def test_exact_matches_moments():
    g = golden("color_transfer")
    source, reference = g["0/source_rgb"], g["0/ref_rgb"]

    def lab(image):
        return np.concatenate(moments(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)))
    result = color_transfer(source, reference)
    assert np.abs(lab(result) - lab(reference)).max() < 1.0 < np.abs(lab(source) - lab(reference)).max()


def test_of_itself_is_itself():
    image = golden("color_transfer")["1/ref_rgb"]
    assert np.abs(color_transfer(image, image).astype(int) - image).max() <= 1


@pytest.mark.parametrize("mode", ["exact", "opencv8"])
def test_constant_channel_is_left_as_it_is(mode):
    """A grey picture has no spread in a and b: it stays grey, in the reference's brightness, without NaN."""
    grey = np.linspace(40, 200, 48 * 64).astype(np.uint8).reshape(48, 64, 1).repeat(3, axis=2)
    result = color_transfer(grey, golden("color_transfer")["0/ref_rgb"], mode).astype(int)
    assert np.ptp(result, axis=2).max() <= 3 and result.std() > 10
    flat = np.full((8, 8, 3), 120, np.uint8)
    assert np.abs(color_transfer(flat, golden("color_transfer")["0/ref_rgb"], mode).astype(int)
                  - 120).max() <= 1


def test_unknown_mode():
    with pytest.raises(UserError, match="color_transfer: is 'lab'.*exact, opencv8"):
        color_transfer(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8), "lab")
