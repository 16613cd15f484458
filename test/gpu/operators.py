"""Every operator that the networks use, as a function of Vars, with inputs of the shapes they meet."""
import dataclasses
from typing import Callable

import numpy as np

from ldm.backend import jt, nn
from ldm.evaluation.networks.layers import mean_pool
from ldm.networks.attention import attend
from ldm.networks.blocks import SiLU, downsample, modulated, normalize, upsample
from ldm.networks.dropout import mix

ALL, FULL = ("fp32", "tf32", "fp16", "bf16"), ("fp32", "tf32")


@dataclasses.dataclass(frozen=True)
class Operator:
    """`shapes` of the inputs, normally distributed; a number instead of a shape is so many random integers
    below 64. `precisions` it is used in; gradients are compared where there are any."""
    function: Callable
    shapes: tuple
    precisions: tuple = ALL
    gradient: bool = True

    def inputs(self):
        rng = np.random.default_rng(len(self.shapes))
        return [rng.integers(0, 64, shape).astype(np.int32) if isinstance(shape, int)
                else rng.standard_normal(shape).astype(np.float32) for shape in self.shapes]


def before_convolution(x, gain, offset, emb):
    return modulated(x, 8, 1e-5, gain, offset, emb.float32(), silu=True)


MAP, TOKENS = (2, 32, 12, 16), (4, 48, 64)
OPERATORS = {
    "convolution 3 x 3": Operator(lambda x, w, b: nn.conv2d(x, w, b, padding=1),
                                  (MAP, (48, 32, 3, 3), (48,))),
    "convolution of 2304 products": Operator(lambda x, w: nn.conv2d(x, w, padding=1),
                                             ((1, 256, 6, 8), (64, 256, 3, 3))),
    "convolution of stride 2": Operator(lambda x, w: nn.conv2d(nn.pad(x, (0, 1, 0, 1)), w, stride=2),
                                        (MAP, (32, 32, 3, 3))),
    "convolution 1 x 1": Operator(nn.conv2d, (MAP, (48, 32, 1, 1), (48,))),
    "depthwise convolution": Operator(lambda x, w: nn.conv2d(x, w, padding=1, groups=32),
                                      (MAP, (32, 1, 3, 3)), FULL, gradient=False),
    "linear": Operator(lambda x, w, b: nn.matmul_transpose(x, w) + b, ((8, 128), (256, 128), (256,))),
    "batched product": Operator(nn.bmm, (TOKENS, (4, 64, 40))),
    "attention": Operator(attend, (TOKENS, TOKENS, TOKENS)),
    "softmax": Operator(lambda x: nn.softmax(x, dim=-1), (TOKENS,)),
    "softmax of a long row": Operator(lambda x: nn.softmax(x, dim=-1), ((2, 12288),)),
    "normalisation": Operator(lambda x: normalize(x, 8, 1e-5), (MAP,)),
    "normalisation far from zero": Operator(lambda x: normalize(x + 100, 8, 1e-5), (MAP,), ("fp32",)),
    "norm, modulation, timestep, SiLU": Operator(before_convolution, (MAP, MAP, MAP, (2, 64))),
    "the same without gradients": Operator(jt.no_grad()(before_convolution), (MAP, MAP, MAP, (2, 64)),
                                           gradient=False),
    "batch normalisation": Operator(lambda x: nn.BatchNorm(32, is_train=False)(x), (MAP,), FULL,
                                    gradient=False),
    "SiLU": Operator(SiLU(), (MAP,)),
    "ReLU": Operator(nn.relu, (MAP,)),
    "GELU": Operator(nn.gelu, (TOKENS,), FULL, gradient=False),
    "exp, log, sqrt": Operator(lambda x: (x.exp() + 1).log() + (x.sqr() + 1).sqrt(), (MAP,)),
    "modulation": Operator(lambda x, scale, shift: x * (1 + scale) + shift, (MAP, (2, 32, 1, 1), MAP)),
    "halves and joining": Operator(lambda x, y: jt.concat([*x.chunk(2, dim=1), y], dim=1), (MAP, MAP)),
    "upper left of each 2 x 2": Operator(lambda x: x[:, :, ::2, ::2], (MAP,)),
    "upsampling": Operator(upsample, (MAP,)),
    "downsampling": Operator(downsample, (MAP,)),
    "mean and largest": Operator(lambda x: x.mean((1, 2, 3)) + x.max(), (MAP,)),
    "mean pooling": Operator(mean_pool, (MAP,), FULL, gradient=False),
    "largest of 3 x 3": Operator(nn.Pool(3, 2, op="maximum"), (MAP,), FULL, gradient=False),
    "bilinear": Operator(lambda x: nn.interpolate(x, (24, 20), mode="bilinear"), (MAP,), FULL,
                         gradient=False),
    "transpose of the last axes": Operator(lambda x: x.transpose(0, 2, 1), (TOKENS,)),
    "channels last": Operator(lambda x: x.transpose(0, 2, 3, 1), (MAP,)),
    "channels first": Operator(lambda x: x.transpose(0, 3, 1, 2), (MAP,)),
    "codebook": Operator(lambda book, codes: book[codes], ((64, 3), 300), ("fp32",)),
    "nearest entry": Operator(lambda x: x.argmin(1)[0], ((300, 64),), ("fp32",), gradient=False),
    "hash of dropout": Operator(lambda x: mix(x.int64()), (300,), ("fp32",), gradient=False),
}


def run(operator, inputs, dtype):
    """The result, then the gradient of a fixed weighting of it by each floating input, all float32 or int."""
    given = [jt.array(x).cast(dtype) if x.dtype == np.float32 else jt.array(x) for x in inputs]
    out = operator.function(*given)
    if str(out.dtype) == dtype:
        out = out.float32()
    if not operator.gradient:
        return [out.numpy()]
    weights = np.random.default_rng(9).standard_normal(out.shape).astype(np.float32)
    moving = [x for x in given if str(x.dtype) == dtype]
    return [out.numpy(), *(g.float32().numpy() for g in jt.grad((out * jt.array(weights)).sum(), moving))]
