"""Self-attention over the positions of a feature map."""
from __future__ import annotations

from ldm.backend import Var, jt, nn
from ldm.networks.blocks import GroupNorm, zero

MAX_POSITIONS = 4096        # more are computed in chunks of rows: 12,288 would need a matrix of 604 MB
LARGE_PRODUCT = 200_000     # multiplications


def bmm(a: Var, b: Var) -> Var:
    """B x n x m times B x m x k. Jittor's own product on a CPU is a plain loop of 1 GMAC/s; if an item is
    large enough, oneDNN computes each item instead."""
    if jt.flags.use_cuda or a.shape[1] * a.shape[2] * b.shape[2] < LARGE_PRODUCT:
        return nn.bmm(a, b)
    return jt.stack([nn.matmul(a[i], b[i]) for i in range(a.shape[0])])


def attend(q: Var, k: Var, v: Var) -> Var:
    """softmax(q^T k / sqrt(c)) v, for q, k, v of shape B x c x L, in chunks of query rows when L is large."""
    B, c, L = q.shape
    q, k = q.transpose(0, 2, 1) * c ** -0.25, k * c ** -0.25   # scaled before the product, as fp16 needs it
    rows = L if L <= MAX_POSITIONS else MAX_POSITIONS // 4
    chunks = []
    for start in range(0, L, rows):
        weights = nn.softmax(bmm(q[:, start:start + rows], k).float32(), dim=-1).cast(v.dtype)
        chunk = bmm(weights, v.transpose(0, 2, 1))
        if rows < L:
            chunk.sync()            # else the weights of all chunks would be in memory at once
        chunks.append(chunk)
    return jt.concat(chunks, dim=1).transpose(0, 2, 1)


class Projection(nn.Module):
    """A 1 x 1 convolution over L positions; its weight is O x I x 1, as in the entry's files."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = nn.Conv(in_channels, out_channels, 1)
        self.weight, self.bias = conv.weight.squeeze(-1), conv.bias

    def execute(self, x: Var) -> Var:
        return nn.conv2d(x, self.weight.unsqueeze(-1), self.bias)


class AttentionBlock(nn.Module):
    """The U-Net's self-attention; q, k and v of each head are side by side (the entry's legacy order)."""

    def __init__(self, channels: int, head_channels: int, groups: int) -> None:
        self._heads = channels // head_channels
        self.norm = GroupNorm(channels, groups)
        self.qkv = Projection(channels, 3 * channels)
        self.proj_out = zero(Projection(channels, channels))

    def execute(self, x: Var) -> Var:
        N, C, H, W = x.shape
        qkv = self.qkv(self.norm(x)).reshape(N * self._heads, 3, C // self._heads, H * W)
        h = attend(qkv[:, 0], qkv[:, 1], qkv[:, 2]).reshape(N, C, H, W)
        return x + self.proj_out(h)
