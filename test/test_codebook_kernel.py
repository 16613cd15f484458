"""The codebook for inference on the CPU: the entries that the plain Quantizer finds."""
import numpy as np
import pytest

from ldm.backend import jt
from ldm.networks.autoencoder import Quantizer
from ldm.networks.onednn.operators import available

pytestmark = pytest.mark.skipif(not available(), reason="needs oneDNN on the CPU")


def both(entries, z):
    """z N x dim x h x w -> the entries that the plain one and ours find."""
    from ldm.networks.onednn.codebook import Codebook
    plain = Quantizer(*entries.shape)
    plain.embedding.weight.assign(jt.array(entries))
    with jt.no_grad():
        ours = Codebook(plain)(jt.array(z)).numpy()
        return plain(jt.array(z))[0].numpy(), ours


@pytest.mark.parametrize("size, dim", [(1, 3), (5, 1), (16, 3), (37, 4), (300, 3), (8192, 3), (40, 8)])
def test_the_entries_are_those_of_the_plain_one(size, dim):
    rng = np.random.default_rng(size)
    entries = rng.standard_normal((size, dim)).astype(np.float32)
    z = rng.standard_normal((2, dim, 9, 7)).astype(np.float32)
    plain, ours = both(entries, z)
    np.testing.assert_array_equal(ours, plain)
    rows = z.transpose(0, 2, 3, 1).reshape(-1, 1, dim).astype(np.float64)
    nearest = entries[((rows - entries) ** 2).sum(2).argmin(1)]
    np.testing.assert_array_equal(ours, nearest.reshape(2, 9, 7, dim).transpose(0, 3, 1, 2))


def test_many_vectors_between_close_entries():
    """A book as dense as the demo's: entries at nearly the same distance are the rule."""
    rng = np.random.default_rng(0)
    entries = rng.standard_normal((20000, 3)).astype(np.float32)
    plain, ours = both(entries, rng.standard_normal((1, 3, 150, 200)).astype(np.float32))
    np.testing.assert_array_equal(ours, plain)


def test_entries_far_from_zero():
    entries = np.float32([[-1e4, 0, 0], [1e4, 1e4, 0], [0, 0, -3e4]])
    plain, ours = both(entries, np.zeros((1, 3, 2, 2), np.float32) + 5e3)
    np.testing.assert_array_equal(ours, plain)


def test_another_shape_is_refused():
    for z in (np.zeros((1, 2, 4, 4)), np.zeros((3, 4, 4))):
        with pytest.raises(ValueError, match="codebook"):
            both(np.ones((4, 3), np.float32), z.astype(np.float32))
