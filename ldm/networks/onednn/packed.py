"""Convolutions for inference on training's layouts: weights are packed once, in the activations' type."""
from __future__ import annotations

from ldm.backend import Var
from ldm.networks.onednn.gradients import blocked_shape, geometry
from ldm.networks.onednn.operators import code, pack


def rounded(weight: Var) -> Var:
    """fp32 -> bf16, to the nearest; Jittor's own conversion on a CPU cuts the digits off."""
    call = "for (int64_t i = 0; i < in0->num; i++) iidm::store((iidm::bf16*)out0_p + i, in0_p[i]);"
    flat = weight.reshape(-1)
    return code(flat.shape, [flat], "layout.h", call, {}, "bfloat16").reshape(weight.shape)


class Packed:
    """As gradients.Convolve, without gradients. The plain weights, fp32 or `rounded`, are dropped at its
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
        if self._packed is None:
            self._packed, self._weight = pack(self._weight, {**data, "batch": 1}), None
        return code(blocked_shape(N, self._out, H // self._stride, W // self._stride, dtype),
                    [x, self._packed, self._bias, x], "convolution.h",
                    "iidm::convolve(data, in0_p, in1_p, in2_p, in3_p, out0_p);", data,
                    "float32" if self._wide else dtype)
