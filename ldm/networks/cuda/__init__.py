"""An operator for inference on a GPU: everything between two convolutions, in three kernels."""
from __future__ import annotations

from pathlib import Path
from typing import Optional

from ldm.backend import Var, jt

HEADER = '#include <type_traits>\n#include "helper_cuda.h"\n' \
    + Path(__file__).with_name("normalization.h").read_text()
PART = 8192                 # numbers of a group per block of threads, for its moments
# Only cudaGetLastError reports a failed launch, and Jittor does not call it.
LAUNCH = """
auto launch = [](auto kernel, int x, int y, int z, int threads, auto... arguments) {
    kernel<<<dim3(x, y, z), threads>>>(arguments...);
    checkCudaErrors(cudaGetLastError());
};
iidm::Shape s {int(in0_shape0), int(in0_shape1), int(in0_shape2), int(in0_shape3), int(data["groups"]),
               int(in1_shape2), int(in1_shape3), int(data["part"]), in1_shape0 == 1, bool(data["has_emb"]),
               bool(data["silu"]), float(data["eps"])};
iidm::normalize(launch, iidm::THREADS, in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, s);
"""


def usable() -> bool:
    """Whether this is a pass without gradients on a GPU; the operator has no gradient."""
    return jt.flags.use_cuda and jt.flags.no_grad


def modulated(x: Var, groups: int, eps: float, gain: Var, offset: Var, emb: Optional[Var], silu: bool) -> Var:
    """As blocks.modulated, without a gradient. The maps may be folded: h and w are 1, or 3 (first, inside,
    last).

    The result has x's dtype, since the convolution that follows would round to it.
    """
    N, C, H, W = x.shape
    parts = -(-(C // groups * H * W) // PART)
    data = {"groups": float(groups), "part": float(PART), "eps": eps, "silu": float(silu),
            "has_emb": float(emb is not None)}
    none = jt.zeros(1) if emb is None else emb
    return jt.code([x.shape, (N * groups, parts, 2), (N * groups, 2)], [x.dtype, "float32", "float32"],
                   [x, gain, offset, none], cuda_header=HEADER, cuda_src=LAUNCH, data=data)[0]
