"""Convolutions for inference on training's layouts: weights are packed once, in the activations' type."""
from __future__ import annotations

from typing import Any

from ldm.backend import Var, jt
from ldm.networks.onednn.gradients import blocked_shape, geometry, given, is_half, made
from ldm.networks.onednn.operators import code, compiles_bf16, has_amx, has_bf16, pack

WINOGRAD = "layout.h winograd_bf16.h"


def rounded(weight: Var) -> Var:
    """fp32 -> bf16, to the nearest; Jittor's own conversion on a CPU cuts the digits off."""
    call = "for (int64_t i = 0; i < in0->num; i++) iidm::store((iidm::bf16*)out0_p + i, in0_p[i]);"
    flat = weight.reshape(-1)
    return code(flat.shape, [flat], "layout.h", call, {}, "bfloat16").reshape(weight.shape)


def diffused(weight: Var) -> Var:
    """Weights O x I x ... in fp32 -> bf16; the errors of each output's add up to nearly 0 (layout.h)."""
    call = ("int64_t count = in0->num / in0_shape0;"
            "_Pragma(\"omp parallel for\") for (int64_t o = 0; o < in0_shape0; o++) {"
            "iidm::Diffusion rounded;"
            "for (int64_t k = o * count; k < (o + 1) * count; k++)"
            "((iidm::bf16*)out0_p)[k] = rounded(in0_p[k]); }")
    flat = weight.reshape(weight.shape[0], -1)
    return code(flat.shape, [flat], "layout.h", call, {}, "bfloat16").reshape(weight.shape)


def in_two(weight: Var) -> Var:
    """Weights O x I x ... in fp32 -> 2O x I x ... in bf16. The results of outputs o and O + o add up to what
    o's would be with twice the digits."""
    high = rounded(weight)
    return jt.concat([high, rounded(weight - high.float32())])


def by_winograd(data: dict[str, Any]) -> bool:
    """Whether winograd_bf16.h computes a convolution of `geometry`'s `data` faster than oneDNN: in bf16
    without AMX, from 64 channels and 48 tiles of 2 x 2 results on. Smaller maps take longer to read its
    weights, which are 16 / 9 as large, than to multiply."""
    tiles = -(-data["height"] // 2) * -(-data["width"] // 2)
    return (data["block"] == 0 and data["kernel"] == 3 and data["stride"] == 1 and tiles >= 48
            and data["in_channels"] >= 64 and data["in_channels"] % 16 == 0 and data["out_channels"] % 32 == 0
            and has_bf16() and not has_amx() and compiles_bf16())


def half(weight: Var) -> Var:
    return diffused(weight) if str(weight.dtype) == "float32" else weight


def transformed(weight: Var, data: dict[str, Any]) -> Var:
    """Weights O x I x 3 x 3, fp32 or `diffused`, as winograd_bf16.h wants them."""
    call = f"iidm::winograd::pack(data, {given(0, 'bfloat16')}, {made(0, 'bfloat16')});"
    return code([16 * weight.shape[0] * weight.shape[1]], [half(weight)], WINOGRAD, call, data,
                "bfloat16").sync()


class Packed:
    """As gradients.Convolve, without gradients. The plain weights, fp32 or `diffused`, are dropped at its
    first use; from then on all maps have the same size. wide: the result is fp32."""

    def __init__(self, weight: Var, bias: Var, stride: int = 1, relu: bool = False,
                 wide: bool = False) -> None:
        self._weight, self._bias, self._packed = weight, bias, None
        self._out, self._in, self._kernel = weight.shape[:3]
        self._stride, self._relu, self._wide = stride, relu, wide

    def __call__(self, x: Var) -> Var:
        N, _, H, W, _ = x.shape
        dtype = str(x.dtype)
        data = {**geometry(N, self._in, self._out, H, W, dtype, self._kernel, self._stride, self._relu),
                "wide": self._wide}
        result = "float32" if self._wide else dtype
        shape = blocked_shape(N, self._out, H // self._stride, W // self._stride, dtype)
        if by_winograd(data):
            if self._packed is None:
                self._packed, self._weight = transformed(self._weight, data), None
            call = (f"iidm::winograd::convolve(data, {given(0, dtype)}, {given(1, dtype)}, in2_p, "
                    f"{made(0, result)});")
            return code(shape, [x, self._packed, self._bias], WINOGRAD, call, data, result)
        if self._packed is None:
            weight = half(self._weight) if is_half(dtype) else self._weight
            self._packed, self._weight = pack(weight, {**data, "batch": 1}), None
        return code(shape, [x, self._packed, self._bias, x], "convolution.h",
                    "iidm::convolve(data, in0_p, in1_p, in2_p, in3_p, out0_p);", data, result)
