"""The operators of training, with their gradients. Activations of a batch are N x K x H x W x B: in fp32 K
blocks of B channels, in bf16 one block of all channels, the layout of oneDNN's AMX kernels.

What a Function keeps for its gradient is detached. Otherwise Jittor would keep the whole graph in memory."""
from __future__ import annotations

from typing import Any, Optional

from ldm.backend import Var, jt
from ldm.networks.onednn.operators import block_size, code, own_winograd

NUMBER = {"float32": "float", "bfloat16": "iidm::bf16"}
LAYOUT = "iidm::Layout{in%d_shape0, in%d_shape1, in%d_shape2, in%d_shape3, in%d_shape4}"


def layout(i: int) -> str:
    return LAYOUT % ((i,) * 5)


def given(i: int, dtype: str) -> str:
    """The C++ expression of input i's numbers."""
    return f"(const {NUMBER[dtype]}*)in{i}_p"


def made(i: int, dtype: str) -> str:
    """The C++ expression of output i's numbers."""
    return f"({NUMBER[dtype]}*)out{i}_p"


def kernel(dtype: str) -> str:
    """The first parameters of a kernel's template: the numbers' type, channels at a time."""
    return f"{NUMBER[dtype]}, {block_size()}"


def is_half(dtype: str) -> bool:
    return dtype == "bfloat16"


def channels_of(x: Var) -> int:
    return x.shape[1] * x.shape[4]


def blocked_shape(N: int, C: int, H: int, W: int, dtype: str) -> tuple[int, ...]:
    """The shape of an activation of C channels, filled up to whole blocks in fp32."""
    B = block_size()
    return (N, 1, H, W, C) if is_half(dtype) else (N, -(-C // B), H, W, B)


def geometry(N: int, C_in: int, C_out: int, H: int, W: int, dtype: str, kernel: int = 1, stride: int = 1,
             relu: bool = False) -> dict[str, Any]:
    """The numbers that iidm::Geometry reads. Winograd's algorithm computes tiles of 4 x 4; it is not used if
    many tiles would be incomplete (as in 6 x 8 it is still faster, forwards and backwards)."""
    tiled = -(-H // 4) * -(-W // 4) * 16
    return {"batch": N, "in_channels": C_in, "out_channels": C_out, "height": H, "width": W, "kernel": kernel,
            "stride": stride, "block": 0 if is_half(dtype) else block_size(),
            "sum": 0, "relu": relu, "wide": 0,
            "winograd": kernel == 3 and stride == 1 and not is_half(dtype) and tiled <= 1.35 * H * W}


def _rearranged(x, channels, dtype, inwards):
    N, _, H, W = x.shape[:4]
    data = {**geometry(N, channels, channels, H, W, dtype), "inwards": inwards}
    shape = blocked_shape(N, channels, H, W, dtype) if inwards else (N, channels, H, W)
    return code(shape, [x], "layout.h convolution.h gradients.h",
                "iidm::rearrange(data, in0_p, out0_p);", data, dtype if inwards else "float32")


class Enter(jt.Function):
    """N x C x H x W fp32 -> in blocks, in `dtype`."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def execute(self, x: Var) -> Var:
        self.channels = x.shape[1]
        return _rearranged(x, self.channels, self.dtype, True)

    def grad(self, dy: Var) -> Var:
        return _rearranged(dy, self.channels, self.dtype, False)


class Leave(jt.Function):
    """The first `channels` in blocks -> N x channels x H x W fp32."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def execute(self, x: Var) -> Var:
        self.dtype = str(x.dtype)
        return _rearranged(x, self.channels, self.dtype, False)

    def grad(self, dy: Var) -> Var:
        return _rearranged(dy, self.channels, self.dtype, True)


class Convolve(jt.Function):
    """x, plain fp32 weights O x I x k x k and bias -> the convolution. It keeps the size; at stride 2 it
    halves it, with padding on the right and below only. A ReLU follows if `relu`."""

    def __init__(self, stride: int = 1, relu: bool = False) -> None:
        self.stride, self.relu = stride, relu

    def code(self, name: str, shape: Any, inputs: list[Var], data: dict[str, Any], dtype: Any) -> Any:
        """The operator `name` of gradients.h, or of winograd_fp32.h where that has it."""
        outputs = range(len(dtype) if isinstance(dtype, list) else 1)
        arguments = ", ".join([*(f"in{i}_p" for i in range(len(inputs))), *(f"out{i}_p" for i in outputs)])
        headers, call = "layout.h convolution.h gradients.h", f"iidm::{name}(data, {arguments});"
        exchanged = {**data, "in_channels": data["out_channels"], "out_channels": data["in_channels"]}
        if own_winograd(data) and (name != "backward_data" or own_winograd(exchanged)):
            headers, call = "winograd_fp32.h", f"iidm::winograd::{name}<8>(data, {arguments});"
        return code(shape, inputs, headers, call, data, dtype)

    def execute(self, x: Var, weight: Var, bias: Var) -> Var:
        C_out, C_in, k = weight.shape[:3]
        N, _, H, W, _ = x.shape
        dtype = str(x.dtype)
        self.x, self.weight, self.fixed = x.detach(), weight.detach(), x.is_stop_grad()
        self.data = geometry(N, C_in, C_out, H, W, dtype, k, self.stride, self.relu)
        y = self.code("forward", blocked_shape(N, C_out, H // self.stride, W // self.stride, dtype),
                      [x, weight, bias], self.data, dtype)
        self.y = y.detach() if self.relu else None
        return y

    def grad(self, dy: Var) -> Var:
        if self.relu:
            dy = paired("passed", self.y, dy)
        data = {**self.data, "relu": 0}
        dw, db = self.code("backward_weights", [self.weight.shape, self.weight.shape[:1]], [self.x, dy], data,
                           ["float32"] * 2)
        if self.fixed:
            return None, dw, db
        dx = self.code("backward_data", self.x.shape, [self.weight, dy], data, self.x.dtype)
        return dx, dw, db


def paired(name: str, a: Var, b: Var) -> Var:
    """A function in moving.h of pairs of numbers: their "sum", "product" or "passed", b where a > 0."""
    dtype = str(a.dtype)
    call = (f"iidm::paired({given(0, dtype)}, {given(1, dtype)}, {made(0, dtype)}, in0->num, "
            f"[](float a, float b) {{ return iidm::{name}(a, b); }});")
    return code(a.shape, [a, b], "layout.h moving.h", call, {}, dtype)


class Add(jt.Function):
    """a + b, rounded to the nearest. Jittor's own sum of bf16 numbers on a CPU cuts digits off: each is
    nearer to 0, by 0.2 % on average, and that adds up from block to block."""

    def execute(self, a: Var, b: Var) -> Var:
        return paired("sum", a, b)

    def grad(self, dy: Var) -> tuple[Var, Var]:
        return dy, dy


class Twice(jt.Function):
    """x for two uses, whose gradients are added as in Add."""

    def execute(self, x: Var) -> tuple[Var, Var]:
        return x, x

    def grad(self, a: Optional[Var], b: Optional[Var]) -> Optional[Var]:
        return paired("sum", a, b) if a is not None and b is not None else b if a is None else a


class Multiply(jt.Function):
    """x times numbers without a gradient, rounded to the nearest."""

    def execute(self, x: Var, factor: Var) -> Var:
        self.factor = factor.detach()
        return paired("product", x, factor)

    def grad(self, dy: Var) -> tuple[Var, None]:
        return paired("product", dy, self.factor), None


class Normalize(jt.Function):
    """x, affine, emb -> act((norm(x) gain + offset) (1 + scale) + shift) of groups; act is SiLU or nothing.
    `affine` is 2 x C, gains and offsets, or maps of 2 C channels, for each image or (without a
    gradient) for all; emb is N x 2C, scales and shifts."""

    HEADERS = "layout.h norm_channels_last.h norm_training.h"

    def __init__(self, groups: int, eps: float, silu: bool) -> None:
        self.data = {"groups": groups, "eps": eps, "silu": silu}

    def kernel(self, dtype: str) -> str:
        return f"{kernel(dtype)}, {str(self.maps).lower()}"

    def layouts(self) -> str:
        return f"{layout(0)}, {layout(1 if self.maps else 0)}"

    def execute(self, x: Var, affine: Var, emb: Var) -> Var:
        self.x, self.affine, self.emb = x.detach(), affine.detach(), emb.detach()
        dtype = str(x.dtype)
        self.maps = affine.ndim == 5
        call = (f"iidm::normalize<{self.kernel(dtype)}>({given(0, dtype)}, in1_p, in2_p, {made(0, dtype)}, "
                f"out1_p, {self.layouts()}, data[\"groups\"], data[\"eps\"], data[\"silu\"]);")
        y, stats = code([x.shape, emb.shape], [x, affine, emb], self.HEADERS, call, self.data,
                        [x.dtype, "float32"])
        self.stats = stats.detach()
        return y

    def grad(self, dy: Var) -> Var:
        dtype = str(self.x.dtype)
        call = (f"iidm::backward<{self.kernel(dtype)}>({given(0, dtype)}, in1_p, in2_p, in3_p, "
                f"{given(4, dtype)}, {made(0, dtype)}, out1_p, out2_p, {self.layouts()}, "
                "data[\"groups\"], data[\"silu\"]);")
        return code([self.x.shape, self.affine.shape, self.emb.shape],
                    [self.x, self.affine, self.emb, self.stats, dy], self.HEADERS, call, self.data,
                    [self.x.dtype, self.affine.dtype, "float32"])


class Attend(jt.Function):
    """3C channels, each head's q, k and v side by side -> softmax(q k^T / sqrt(c)) v, C channels."""

    HEADERS = "attention.h layout.h attention_training.h"

    def __init__(self, heads: int) -> None:
        self.heads = heads

    def execute(self, qkv: Var) -> Var:
        N, K, H, W, B = qkv.shape
        self.qkv, dtype = qkv.detach(), str(qkv.dtype)
        self.shape = (N, K, H, W, B // 3) if is_half(dtype) else (N, K // 3, H, W, B)
        self.result = ("iidm::Layout{in0_shape0, in0_shape1, in0_shape2, in0_shape3, in0_shape4 / 3}"
                       if is_half(dtype) else
                       "iidm::Layout{in0_shape0, in0_shape1 / 3, in0_shape2, in0_shape3, in0_shape4}")
        call = (f"iidm::attend<{kernel(dtype)}>({given(0, dtype)}, {made(0, dtype)}, "
                f"{layout(0)}, {self.result}, data[\"heads\"]);")
        return code(self.shape, [qkv], self.HEADERS, call, {"heads": self.heads}, qkv.dtype)

    def grad(self, dy: Var) -> Var:
        dtype = str(self.qkv.dtype)
        call = (f"iidm::attend_backward<{kernel(dtype)}>({given(0, dtype)}, {given(1, dtype)}, "
                f"{made(0, dtype)}, {layout(0)}, {self.result}, data[\"heads\"]);")
        return code(self.qkv.shape, [self.qkv, dy], self.HEADERS, call, {"heads": self.heads}, self.qkv.dtype)


def _resized(x, factor, twice):
    N, K, H, W, B = x.shape
    dtype = str(x.dtype)
    shape = (N, K, 2 * H, 2 * W, B) if twice else (N, K, H // 2, W // 2, B)
    at = layout(0) if twice else \
        "iidm::Layout{in0_shape0, in0_shape1, in0_shape2 / 2, in0_shape3 / 2, in0_shape4}"
    call = (f"iidm::{'spread' if twice else 'gathered'}({given(0, dtype)}, {made(0, dtype)}, "
            f"{at}, data[\"factor\"]);")
    return code(shape, [x], "layout.h moving.h", call, {"factor": factor}, dtype)


class Upsample(jt.Function):
    """Twice the height and the width, nearest."""

    def execute(self, x: Var) -> Var:
        return _resized(x, 1, True)

    def grad(self, dy: Var) -> Var:
        return _resized(dy, 1, False)


class Downsample(jt.Function):
    """Half the height and the width, mean of each 2 x 2."""

    def execute(self, x: Var) -> Var:
        return _resized(x, 0.25, False)

    def grad(self, dy: Var) -> Var:
        return _resized(dy, 0.25, True)


class Join(jt.Function):
    """The channels of a, then those of b."""

    def execute(self, a: Var, b: Var) -> Var:
        self.shapes = a.shape, b.shape
        (N, K, H, W, B), other, self.dtype = a.shape, b.shape, str(a.dtype)
        half = is_half(self.dtype)
        self.data = {"count": N * H * W if half else N, "n": B if half else K * H * W * B,
                     "m": other[4] if half else other[1] * H * W * B}
        shape = (N, 1, H, W, B + other[4]) if half else (N, K + other[1], H, W, B)
        call = (f"iidm::joined({given(0, self.dtype)}, {given(1, self.dtype)}, "
                f"{made(0, self.dtype)}, data[\"count\"], data[\"n\"], data[\"m\"]);")
        return code(shape, [a, b], "layout.h moving.h", call, self.data, self.dtype)

    def grad(self, dy: Var) -> Var:
        call = (f"iidm::parted({given(0, self.dtype)}, {made(0, self.dtype)}, "
                f"{made(1, self.dtype)}, data[\"count\"], data[\"n\"], data[\"m\"]);")
        return code(list(self.shapes), [dy], "layout.h moving.h", call, self.data, [self.dtype] * 2)
