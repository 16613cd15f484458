"""An operator of our own for inference on a GPU: all that stands between two convolutions, in two passes."""
from pathlib import Path

from ldm.backend import jt

HEADER = Path(__file__).with_name("normalization.h").read_text()
PART = 8192                 # numbers of a group that a block of threads takes the moments of, about
LAUNCH = """
int64_t images = in0_shape0, area = in0_shape2 * in0_shape3;
iidm::Shape s {in0_shape1, in0_shape2, in0_shape3, int64_t(data["groups"]), out1_shape1, in1_shape2,
               in1_shape3, in1_shape0 == 1, bool(data["has_emb"]), bool(data["silu"]), float(data["eps"])};
int64_t size = s.channels / s.groups * area, blocks = (area + iidm::THREADS - 1) / iidm::THREADS;
iidm::moments<<<dim3(images * s.groups, s.parts), iidm::THREADS>>>(in0_p, out1_p, size);
iidm::modulate<<<dim3(blocks, s.channels, images), iidm::THREADS>>>(
    in0_p, out1_p, in1_p, in2_p, in3_p, out0_p, s);
"""


def usable():
    """Is this a pass without gradients on a GPU? The operator has none."""
    return jt.flags.use_cuda and jt.flags.no_grad


def modulated(x, groups, eps, gain, offset, emb, silu):
    """As blocks.modulated, without a gradient. The maps may be folded: h and w 1 or 3, first, inside, last.

    The result has x's dtype: what follows is a convolution, which would round to that.
    """
    N, C, H, W = x.shape
    parts = max(1, C // groups * H * W // PART)
    data = {"groups": float(groups), "eps": eps, "silu": float(silu), "has_emb": float(emb is not None)}
    none = jt.zeros(1) if emb is None else emb
    return jt.code([x.shape, (N * groups, parts, 2)], [x.dtype, "float32"], [x, gain, offset, none],
                   cuda_header=HEADER, cuda_src=LAUNCH, data=data)[0]
