"""The CUDA kernels' own source, compiled for the CPU with threads for its threads, against the definition."""
import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    library = tmp_path_factory.mktemp("emulation") / "kernels.so"
    done = subprocess.run(["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread",
                           f"-I{ROOT / 'ldm/networks/cuda'}", ROOT / "test/cuda_emulation.cc", "-o", library],
                          capture_output=True, text=True)
    if "barrier: No such file" in done.stderr or "unrecognized command-line option" in done.stderr:
        pytest.skip("g++ here has no C++20")
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def pointer(x):
    return None if x is None else x.ctypes.data_as(ctypes.c_void_p)


def emulated(kernels, x, gain, offset, emb, groups, silu, parts, threads=8, blocks=3):
    sizes = np.int64([*x.shape, groups, parts, gain.shape[0], *gain.shape[2:]])
    y = np.full_like(x, np.nan)
    kernels.run(pointer(x), pointer(gain), pointer(offset), pointer(emb), pointer(y), pointer(sizes),
                ctypes.c_float(1e-5), silu, threads, blocks)
    return y


def expected(x, gain, offset, emb, groups, silu):
    """In float64: act((norm(x) gain + offset) (1 + scale) + shift)."""
    N, C, H, W = x.shape
    grouped = x.astype(np.float64).reshape(N, groups, -1)
    h = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    h = h.reshape(x.shape) * gain + offset
    if emb is not None:
        scale, shift = emb.astype(np.float64).reshape(N, 2, C, 1, 1).transpose(1, 0, 2, 3, 4)
        h = h * (1 + scale) + shift
    return h / (1 + np.exp(-h)) if silu else h


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("maps, emb, silu", [((2, 12, 6, 10), True, True),     # SPADE and the timestep
                                             ((1, 12, 6, 10), False, True),    # one map for both images
                                             ((1, 12, 1, 1), False, False)])   # a GroupNorm before attention
@pytest.mark.parametrize("mean", [0, 1000])
def test_a_norm_and_what_follows_it(kernels, mean, maps, emb, silu, parts):
    x = normal(2, 12, 6, 10) + np.float32(mean)
    arguments = x, normal(*maps), normal(*maps, seed=1), normal(2, 24) if emb else None, 4, silu
    found, exact = emulated(kernels, *arguments, parts), expected(*arguments)
    assert np.abs(found - exact).max() < (3e-6 if mean == 0 else 1e-3) * np.abs(exact).max()


@pytest.mark.parametrize("height, width", [(6, 10), (3, 4)])
def test_folded_maps(kernels, height, width):
    """Constant inside, so that three rows and columns hold all of it."""
    def unfolded(m):
        rows, columns = ([0] + [1] * (n - 2) + [2] for n in (height, width))
        return np.ascontiguousarray(m[:, :, rows][:, :, :, columns])
    x, gain, offset = normal(1, 4, height, width), normal(1, 4, 3, 3), normal(1, 4, 3, 3, seed=1)
    folded, whole = (emulated(kernels, x, *maps, None, 2, True, 1)
                     for maps in ((gain, offset), (unfolded(gain), unfolded(offset))))
    np.testing.assert_array_equal(folded, whole)
