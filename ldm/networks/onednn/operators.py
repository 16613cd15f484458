"""The operators. Activations are 1 x C/B x H x W x B, in blocks of B channels, as oneDNN's kernels need
them."""
from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, Optional, Sequence

from ldm.backend import Var, jt
from ldm.platform import compilers, onednn

SOURCES = {path.name: path.read_text() for path in Path(__file__).parent.glob("*.h")}
AVX512, BF16, AMX = 0x20, 0x80, 0x200     # bits of dnnl_get_effective_cpu_isa


def _folder():
    """The folder of Jittor's oneDNN."""
    return onednn.folder()


def available() -> bool:
    """Whether Jittor computes on the CPU with oneDNN."""
    return not jt.flags.use_cuda and jt.compile_extern.use_mkl and onednn.in_cache() is not None


@functools.lru_cache(None)
def _isa():
    return ctypes.CDLL(str(_folder() / "lib/libmkldnn.so")).dnnl_get_effective_cpu_isa()


def block_size() -> int:
    """Channels in a block: the number of fp32 numbers in a vector register of this processor."""
    return 16 if _isa() & AVX512 else 8


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers (AVX512_BF16, AMX)."""
    return available() and bool(_isa() & BF16)


def has_amx() -> bool:
    """Whether this processor multiplies tiles of bf16 numbers (AMX)."""
    return available() and bool(_isa() & AMX)


@functools.lru_cache(None)
def compiles_bf16() -> bool:
    """Whether the compiler has AVX512_BF16 (g++ does from version 10 on, on such a processor)."""
    return compilers.defines("__AVX512BF16__")


@functools.lru_cache(None)
def _flags():
    """The compiler's options to find oneDNN, as Jittor expects them."""
    lib = _folder() / "lib"
    return {f"FLAGS: -I{_folder() / 'include'} -L{lib} -lmkldnn -Wl,-rpath,{lib} ": 1}


def code(shape: Any, inputs: Sequence[Var], headers: str, source: str, data: dict[str, Any],
         dtype: Any = "float32") -> Any:
    """An operator: `source` with `headers` before it and `data`'s numbers in `data`. One output or, with a
    list of shapes and of dtypes, several."""
    with jt.flag_scope(compile_options=_flags()):
        return jt.code(shape, dtype, inputs, cpu_src=source,
                       cpu_header="\n".join(SOURCES[name] for name in headers.split()),
                       data={name: float(value) for name, value in data.items()})


def _refuse(what, found, wanted):
    raise ValueError(f"{what} is {tuple(found)}, {wanted} is needed")


def check_shape(what: str, x: Var, shape: Sequence[Optional[int]]) -> None:
    """Raise a ValueError unless `x` is float32 of `shape`, where None is any size from 1 on. The native
    code trusts these sizes: with wrong ones it would read and write beyond the array."""
    right = len(x.shape) == len(shape) and all(n >= 1 and s in (None, n) for n, s in zip(x.shape, shape))
    if not right or str(x.dtype) != "float32":
        _refuse(f"the shape of {what}, {x.dtype},", x.shape,
                "float32 of " + " x ".join("any" if s is None else str(s) for s in shape))


def to_blocks(x: Var, block: int) -> Var:
    """1 x C x H x W -> 1 x C/B x H x W x B, C filled up with zeros to a multiple of B. All operators raise
    a ValueError for other shapes."""
    check_shape("to_blocks' input", x, (1, None, None, None))
    _, C, H, W = x.shape
    if C % block:
        x = jt.concat([x, jt.zeros((1, -C % block, H, W))], dim=1)
    return x.reshape(1, -1, block, H, W).transpose(0, 1, 3, 4, 2)


def from_blocks(x: Var, channels: int) -> Var:
    """The first `channels` of 1 x C/B x H x W x B -> 1 x channels x H x W."""
    check_shape("from_blocks' input", x, (1, None, None, None, None))
    if not 1 <= channels <= x.shape[1] * x.shape[4]:
        _refuse("channels", [channels], f"1 to {x.shape[1] * x.shape[4]}")
    _, blocks, H, W, B = x.shape
    return x.transpose(0, 1, 4, 2, 3).reshape(1, blocks * B, H, W)[:, :channels]


def own_winograd(data: dict[str, Any]) -> bool:
    """Whether winograd_fp32.h computes a convolution of `data` (iidm::Geometry): where Winograd's algorithm
    is wanted and oneDNN lacks it (it has it for AVX-512, in blocks of 16), from 12 tiles of 4 x 4 results on.
    Fewer take longer to read its weights, which are 4 times as large, than to multiply."""
    tiles = data["batch"] * -(-data["height"] // 4) * -(-data["width"] // 4)
    return bool(data["winograd"] and data["block"] == 8 and tiles >= 12
                and data["in_channels"] % 8 == 0 and data["out_channels"] % 16 == 0)


def pack(weight: Var, data: dict[str, Any]) -> Var:
    """Weights O x I x k x k in the layout that a convolution of `data` (iidm::Geometry) wants. For one in
    bf16 they may be bf16 already."""
    if own_winograd(data):
        size = 36 * weight.shape[0] * weight.shape[1]
        return code([size], [weight], "winograd_fp32.h", "iidm::winograd::pack<8>(data, in0_p, out0_p);",
                    data).sync()
    data, size = {**data, "half": str(weight.dtype) == "bfloat16"}, 1
    for _ in range(2):                      # the first call returns the size, the second the weights
        packed = code([size], [weight], "convolution.h", "iidm::pack(data, in0_p, out0_p, out0->num);",
                      data).sync()
        size = int(packed[0].item()) if size == 1 else size
    return packed


class Convolution:
    """A convolution that keeps the size, or halves it at stride 2, with weights packed for maps of `height` x
    `width`. At stride 2 it is padded on the right and below only.

    3 x 3 kernels go by Winograd's algorithm (Lavin and Gray 2016), oneDNN's on AVX-512 and our own on AVX2: a
    quarter to a half of the multiplications, weights of 1.8 to 4 times the size, and fp32 rounding errors of
    about 1e-6 of the result instead of 2.5e-7.
    """

    def __init__(self, weight: Var, bias: Var, height: int, width: int, block: int, winograd: bool = True,
                 stride: int = 1) -> None:
        C_out, C_in, kernel = weight.shape[:3]
        if kernel not in (1, 3) or stride not in (1, 2) or height % stride or width % stride:
            _refuse("(kernel, stride, height, width)", (kernel, stride, height, width),
                    "a kernel of 1 or 3, and a stride of 1 or 2 that divides the sides,")
        check_shape("bias", bias, (C_out,))
        filled = weight.reshape(C_out, C_in, kernel, kernel)
        if C_out % block or C_in % block:
            filled = jt.zeros((C_out + -C_out % block, C_in + -C_in % block, kernel, kernel))
            filled[:C_out, :C_in] = weight
        self._data = {"batch": 1, "in_channels": filled.shape[1], "out_channels": filled.shape[0],
                      "height": height, "width": width, "kernel": kernel, "stride": stride, "block": block,
                      "sum": 0, "relu": 0, "wide": 0, "winograd": winograd and kernel == 3 and stride == 1}
        self._bias = jt.concat([bias, jt.zeros(-C_out % block)]) if C_out % block else bias
        self._weight = pack(filled, self._data)

    @property
    def bytes(self) -> int:
        return 4 * self._weight.numel()

    def __call__(self, x: Var, residual: Optional[Var] = None) -> Var:
        """x convolved, plus `residual` if there is one. x must have the size that the weights were packed
        for."""
        data = self._data
        H, W, B, stride = data["height"], data["width"], data["block"], data["stride"]
        check_shape("a convolution's input", x, (1, data["in_channels"] // B, H, W, B))
        shape = 1, data["out_channels"] // B, H // stride, W // stride, B
        if residual is not None:
            check_shape("a convolution's residual", residual, shape)
        headers, name = "convolution.h", "iidm::convolve"
        if own_winograd(data):
            headers, name = "winograd_fp32.h", "iidm::winograd::convolve<8>"
        return code(shape, [x, self._weight, self._bias, x if residual is None else residual], headers,
                    f"{name}(data, in0_p, in1_p, in2_p, in3_p, out0_p);",
                    {**data, "sum": residual is not None})


def normalize(x: Var, gain: Var, offset: Var, emb: Var, groups: int, eps: float, first: int = 0,
              silu: bool = True) -> Var:
    """act((norm(x) gain + offset) (1 + scale) + shift): group normalisation, modulation, timestep, SiLU.

    gain and offset are 1 x C/B x h x w x B, of x's size or folded (h and w 1 or 3: first, inside, last);
    emb is 1 x n, with C scales from `first` on and C shifts after them.
    """
    arguments = ("in0_p, in1_p, in2_p, in3_p + int64_t(data[\"first\"]), out0_p, in0_shape1, "
                 "in0_shape2, in0_shape3, in1_shape2, in1_shape3, data[\"groups\"], data[\"eps\"]")
    check_shape("normalize's input", x, (1, None, None, None, None))
    _, blocks, H, W, B = x.shape
    check_shape("gain", gain, (1, blocks, None, None, B))
    check_shape("offset", offset, gain.shape)
    if any(given not in (1, 3, size) for given, size in zip(gain.shape[2:4], (H, W))):
        _refuse("the size of gain", gain.shape[2:4], f"{H} x {W}, or 1 or 3 a side,")
    check_shape("emb", emb, (1, None))
    if first < 0 or first + 2 * blocks * B > emb.shape[1]:
        _refuse("emb's shape", emb.shape, f"{2 * blocks * B} numbers from {first} on")
    if groups < 1 or blocks * B % groups:
        _refuse("groups", [groups], f"a divisor of {blocks * B} channels")
    call = (f'if (data["silu"]) iidm::normalize<{B}, true>({arguments}); '
            f'else iidm::normalize<{B}, false>({arguments});')
    return code(x.shape, [x, gain, offset, emb], "layout.h normalization.h", call,
                {"groups": groups, "eps": eps, "first": first, "silu": silu})


def attend(qkv: Var, heads: int) -> Var:
    """1 x 3C/B x H x W x B, each head's q, k and v side by side -> softmax(q k^T / sqrt(c)) v, C channels."""
    check_shape("qkv", qkv, (1, None, None, None, None))
    _, blocks, H, W, B = qkv.shape
    if heads < 1 or blocks % (3 * heads):
        _refuse("(heads, blocks)", (heads, blocks), "blocks for q, k and v of each head")
    call = (f"iidm::attend<{B}>(in0_p, out0_p, data[\"heads\"], in0_shape2 * in0_shape3, "
            f"in0_shape1 * {B} / 3 / int64_t(data[\"heads\"]));")
    return code((1, blocks // 3, H, W, B), [qkv], "attention.h", call, {"heads": heads})
