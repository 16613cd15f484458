"""The CUDA kernels' own source, compiled for the CPU with threads for its threads, against the definition."""
import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT

pytestmark = [pytest.mark.process, pytest.mark.skipif(not shutil.which("g++"), reason="no g++")]
# How exact results are, as parts of the largest one: fp32's sums, and a rounding of the result.
TOLERANCE = {"fp32": 3e-6, "fp16": 2.0 ** -11, "bf16": 2.0 ** -8}
MISSING = "barrier: No such file", "unrecognized command-line option", "_Float16"


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    library = tmp_path_factory.mktemp("emulation") / "kernels.so"
    done = subprocess.run(["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread",
                           f"-I{ROOT / 'ldm/networks/cuda'}", ROOT / "test/cuda_emulation.cc", "-o", library],
                          capture_output=True, text=True)
    if any(word in done.stderr for word in MISSING):
        pytest.skip("g++ here has no C++20, or no _Float16")
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def bits(x, kind):
    """float32 `x` as an array of that type; bfloat16, which numpy has not, as its bits."""
    if kind == "bf16":
        whole = x.view(np.uint32)
        return ((whole + 0x7fff + (whole >> 16 & 1)) >> 16).astype(np.uint16)
    return x.astype({"fp32": np.float32, "fp16": np.float16}[kind])


def value(array):
    """What such an array holds, in float64."""
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def pointer(x):
    return None if x is None else x.ctypes.data_as(ctypes.c_void_p)


def at_16_bytes(x, off=0):
    """A copy of `x` whose data begin `off` numbers after a multiple of 16 bytes."""
    room = np.empty(x.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 16 + off * x.itemsize
    copy = room[start:start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


class Case:
    """A norm's inputs in these types, and what the kernels make of them."""

    def __init__(self, x, gain, offset, emb, groups, silu, kind="fp32", maps_kind=None):
        maps_kind = maps_kind or kind
        self.x, self.gain, self.offset = bits(x, kind), bits(gain, maps_kind), bits(offset, maps_kind)
        self.emb, self.groups, self.silu, self.name = emb, groups, silu, f"{kind}_{maps_kind}"

    def emulated(self, kernels, part=120, threads=8, off=0):
        """-> (the result in float64, numbers loaded, numbers stored)."""
        x, gain, offset = (at_16_bytes(a, off) for a in (self.x, self.gain, self.offset))
        nothing = 0x7fff if x.dtype == np.uint16 else np.nan
        y, counts = at_16_bytes(np.full_like(x, nothing), off), np.zeros(2, np.int64)
        sizes = np.int32([*x.shape, self.groups, part, gain.shape[0], *gain.shape[2:]])
        getattr(kernels, self.name)(pointer(x), pointer(gain), pointer(offset), pointer(self.emb), pointer(y),
                                    pointer(sizes), ctypes.c_float(1e-5), self.silu, threads, pointer(counts))
        return value(y), *counts

    def exact(self):
        """act((norm(x) gain + offset) (1 + scale) + shift)."""
        x, gain, offset = map(value, (self.x, self.gain, self.offset))
        N, C, H, W = x.shape
        grouped = x.reshape(N, self.groups, -1)
        h = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
        h = h.reshape(x.shape) * gain + offset
        if self.emb is not None:
            scale, shift = self.emb.astype(np.float64).reshape(N, 2, C, 1, 1).transpose(1, 0, 2, 3, 4)
            h = h * (1 + scale) + shift
        return h / (1 + np.exp(-h)) if self.silu else h


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def distance(found, exact):
    return np.abs(found - exact).max() / np.abs(exact).max()


KINDS = [("fp32", "fp32"), ("fp16", "fp16"), ("fp16", "fp32"), ("bf16", "bf16"), ("bf16", "fp32")]


@pytest.mark.parametrize("kind, maps_kind", KINDS)
@pytest.mark.parametrize("maps, emb, silu", [((2, 12, 6, 12), True, True),     # SPADE and the timestep
                                             ((1, 12, 6, 12), False, True),    # one map for both images
                                             ((1, 12, 1, 1), False, False)])   # a GroupNorm before attention
def test_a_norm_and_what_follows_it(kernels, maps, emb, silu, kind, maps_kind):
    case = Case(normal(2, 12, 6, 12), normal(*maps), normal(*maps, seed=1), normal(2, 24) if emb else None, 4,
                silu, kind, maps_kind)
    assert distance(case.emulated(kernels)[0], case.exact()) < TOLERANCE[kind]


@pytest.mark.parametrize("part", [8, 120, 8192])
def test_a_mean_far_from_zero_and_parts(kernels, part):
    x, constants = normal(2, 12, 6, 12) + np.float32(1000), normal(1, 12, 1, 1)
    case = Case(x, constants, constants, None, 4, True)
    assert distance(case.emulated(kernels, part)[0], case.exact()) < 1e-3


@pytest.mark.parametrize("kind", TOLERANCE)
@pytest.mark.parametrize("height, width, off", [(5, 7, 0), (1, 1, 0), (3, 331, 0),    # numbers one by one
                                                (6, 12, 1)])                       # a slice of another tensor
def test_odd_sizes_and_places(kernels, height, width, off, kind):
    shape = 2, 6, height, width
    case = Case(normal(*shape), normal(*shape, seed=1), normal(*shape, seed=2), None, 2, True, kind)
    assert distance(case.emulated(kernels, off=off)[0], case.exact()) < TOLERANCE[kind]


@pytest.mark.parametrize("kind", TOLERANCE)
@pytest.mark.parametrize("height, width", [(6, 12), (3, 4), (5, 7), (8, 10)])    # packs across two rows too
def test_folded_maps(kernels, height, width, kind):
    """Constant inside, so that three rows and columns hold all of it."""
    def unfolded(m):
        rows, columns = ([0] + [1] * (n - 2) + [2] for n in (height, width))
        return np.ascontiguousarray(m[:, :, rows][:, :, :, columns])
    x, gain, offset = normal(1, 4, height, width), normal(1, 4, 3, 3), normal(1, 4, 3, 3, seed=1)
    folded, whole = (Case(x, *maps, None, 2, True, kind).emulated(kernels)[0]
                     for maps in ((gain, offset), (unfolded(gain), unfolded(offset))))
    np.testing.assert_array_equal(folded, whole)


@pytest.mark.parametrize("kind", TOLERANCE)
@pytest.mark.parametrize("maps", [(2, 12, 6, 12), (1, 12, 1, 1)])
def test_no_number_is_moved_more_often_than_counted(kernels, maps, kind):
    """x twice, each map once an image, y once; and what each thread or block takes beside."""
    case = Case(normal(2, 12, 6, 12), normal(*maps), normal(*maps), None, 4, True, kind)
    part, threads = 120, 8
    loads, stores = case.emulated(kernels, part, threads)[1:]
    whole = case.x.size
    of_moments = 2 * 4 * -(-3 * 72 // part) * threads             # each thread the first number of its part
    of_maps = whole * 2 if maps[2] > 1 else 2 * loads_of_constants(kind, threads) * 2 * 12
    assert stores == whole and loads == 2 * whole + of_moments + of_maps


def loads_of_constants(kind, threads):
    """Threads that read one map's number for a channel of 72 positions: 4 times 16 bytes to each."""
    packs = 72 * {"fp32": 4}.get(kind, 2) // 16
    return -(-packs // (4 * threads)) * threads


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
def test_nvcc_compiles_every_kernel_and_none_spills(tmp_path):
    done = subprocess.run(["nvcc", "-std=c++14", "-O2", "--use_fast_math", "-arch=sm_90", "-Xptxas", "-v",
                           "-cubin", "-o", tmp_path / "out", f"-I{ROOT / 'ldm/networks/cuda'}",
                           ROOT / "test/gpu/kernels.cu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kernels = done.stderr.count("Compiling entry function")
    assert kernels == 37 == done.stderr.count(" 0 bytes spill stores, 0 bytes spill loads")
