"""SegFormer (Xie et al. 2021): a hierarchical transformer and an all-linear head.

The state dict has the names of the Hugging Face hub; `names` translates those of NVlabs, JSeg and mmseg.
"""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from ldm.backend import Module, Var, jt, nn
from ldm.evaluation.networks.layers import LayerNorm, image_batch
from ldm.labels import NUM_CLASSES
from ldm.networks.attention import attend
from ldm.networks.resizing import resize

SIZES = {
    "b0": dict(hidden=(32, 64, 160, 256), depths=(2, 2, 2, 2), decoder=256),
    "b1": dict(hidden=(64, 128, 320, 512), depths=(2, 2, 2, 2), decoder=256),
    "b2": dict(hidden=(64, 128, 320, 512), depths=(3, 4, 6, 3), decoder=768),
    "b3": dict(hidden=(64, 128, 320, 512), depths=(3, 4, 18, 3), decoder=768),
    "b4": dict(hidden=(64, 128, 320, 512), depths=(3, 8, 27, 3), decoder=768),
    "b5": dict(hidden=(64, 128, 320, 512), depths=(3, 6, 40, 3), decoder=768),
}


def size_name(size: Mapping[str, Any]) -> str:
    """"b0" to "b5" if `size`, the arguments of SegFormer, is a published size; else its depths and its first
    stage's channels."""
    for name, published in SIZES.items():
        if all(tuple(size[key]) == published[key] for key in ("hidden", "depths")):
            return name
    return f"{'-'.join(map(str, size['depths']))} of {size['hidden'][0]}"


def to_tokens(x: Var) -> Var:
    """N x C x H x W -> N x HW x C."""
    return x.reshape(x.shape[0], x.shape[1], -1).transpose(0, 2, 1)


def to_map(x: Var, size: Sequence[int]) -> Var:
    """N x HW x C -> N x C x H x W, with `size` = (H, W)."""
    return x.transpose(0, 2, 1).reshape(x.shape[0], -1, *size)


class PatchEmbedding(nn.Module):
    """Overlapping patches: a convolution (kernel = 2 stride - 1) and a norm."""

    def __init__(self, in_channels: int, channels: int, kernel: int) -> None:
        self.proj = nn.Conv(in_channels, channels, kernel, (kernel + 1) // 2, kernel // 2)
        self.layer_norm = LayerNorm(channels)

    def execute(self, x: Var) -> tuple[Var, Sequence[int]]:
        x = self.proj(x)
        return self.layer_norm(to_tokens(x)), x.shape[2:]


class SelfAttention(nn.Module):
    """Multi-head attention; keys and values come from a map whose sides are `reduction` times smaller."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        self._heads = heads
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.sr: Module = None
        self.layer_norm: Module = None
        if reduction > 1:
            self.sr = nn.Conv(channels, channels, reduction, reduction)
            self.layer_norm = LayerNorm(channels)

    def _split(self, x: Var) -> Var:
        """N x L x C -> N heads x C / heads x L."""
        N, L, C = x.shape
        return x.transpose(0, 2, 1).reshape(N * self._heads, C // self._heads, L)

    def execute(self, x: Var, size: Sequence[int]) -> Var:
        reduced = x if self.sr is None else self.layer_norm(to_tokens(self.sr(to_map(x, size))))
        heads = attend(self._split(self.query(x)), self._split(self.key(reduced)),
                       self._split(self.value(reduced)))
        return heads.reshape(x.shape[0], x.shape[2], -1).transpose(0, 2, 1)


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        self.self = SelfAttention(channels, heads, reduction)        # the files have this name
        self.output = Named(dense=nn.Linear(channels, channels))

    def execute(self, x: Var, size: Sequence[int]) -> Var:
        return self.output.dense(self.self(x, size))


class Named(nn.Module):
    """A level of names in the files; it computes nothing."""

    def __init__(self, **children: Module) -> None:
        for name, child in children.items():
            setattr(self, name, child)


class MLP(nn.Module):
    """Linear, depthwise 3 x 3 convolution (it replaces a position embedding), GELU, linear."""

    def __init__(self, channels: int, hidden: int) -> None:
        self.dense1, self.dense2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.dwconv = Named(dwconv=nn.Conv(hidden, hidden, 3, padding=1, groups=hidden))

    def execute(self, x: Var, size: Sequence[int]) -> Var:
        return self.dense2(nn.gelu(to_tokens(self.dwconv.dwconv(to_map(self.dense1(x), size)))))


class Block(nn.Module):
    def __init__(self, channels: int, heads: int, reduction: int, mlp_ratio: int) -> None:
        self.layer_norm_1, self.layer_norm_2 = LayerNorm(channels), LayerNorm(channels)
        self.attention = Attention(channels, heads, reduction)
        self.mlp = MLP(channels, mlp_ratio * channels)

    def execute(self, x: Var, size: Sequence[int]) -> Var:
        x = x + self.attention(self.layer_norm_1(x), size)
        return x + self.mlp(self.layer_norm_2(x), size)


class Encoder(nn.Module):
    """Four stages, each with half the side of the one before; the first has 1/4 of the image's side, or 1/2
    with `patch` 3."""

    def __init__(self, hidden: Sequence[int], depths: Sequence[int], reductions: Sequence[int],
                 mlp_ratio: int, patch: int) -> None:
        inputs, kernels = (3, *hidden), (patch, 3, 3, 3)
        heads = [channels // hidden[0] for channels in hidden]                  # in every published size
        self.patch_embeddings = nn.ModuleList(
            [PatchEmbedding(*shape) for shape in zip(inputs, hidden, kernels)])
        self.block = nn.ModuleList(
            [nn.ModuleList([Block(channels, head, reduction, mlp_ratio) for _ in range(depth)])
             for channels, head, reduction, depth in zip(hidden, heads, reductions, depths)])
        self.layer_norm = nn.ModuleList([LayerNorm(channels) for channels in hidden])

    def execute(self, x: Var) -> list[Var]:
        stages = []
        for embed, blocks, norm in zip(self.patch_embeddings, self.block, self.layer_norm):
            tokens, size = embed(x)
            for block in blocks:
                tokens = block(tokens, size)
            x = to_map(norm(tokens), size)
            stages.append(x)
        return stages


class Head(nn.Module):
    """Project each stage to `decoder` channels, resize it to the first stage's size, merge all stages with a
    1 x 1 convolution, classify.

    The merging convolution is applied to each stage *before* resizing, with its slice of the weights:
    interpolation treats channels separately and its weights sum to 1, so the order does not matter, and most
    of the products are saved. rectify: a ReLU after each stage's projection, as in mmsegmentation.
    """

    def __init__(self, hidden: Sequence[int], decoder: int, num_classes: int, rectify: bool) -> None:
        self._rectify = rectify
        self.linear_c = nn.ModuleList([Named(proj=nn.Linear(channels, decoder)) for channels in hidden])
        self.linear_fuse = nn.Conv(decoder * len(hidden), decoder, 1, bias=False)
        self.batch_norm = nn.BatchNorm(decoder)
        self.classifier = nn.Conv(decoder, num_classes, 1)

    def execute(self, stages: Sequence[Var]) -> Var:
        size = stages[0].shape[2:]
        shares = self.linear_fuse.weight[:, :, 0, 0].chunk(len(stages), dim=1)
        merged = 0
        for i, x in enumerate(stages):
            tokens = self.linear_c[i].proj(to_tokens(x))
            if self._rectify:
                tokens = nn.relu(tokens)
            y = to_map(nn.linear(tokens, shares[-1 - i]), x.shape[2:])  # the files have the last stage first
            merged = merged + (y if i == 0 else resize(y, size))
        return self.classifier(nn.relu(self.batch_norm(merged)))


class SegFormer(nn.Module):
    """`SegFormer(**SIZES["b0"])`. Call `.eval()` before evaluation; else the head's norm uses the batch's
    statistics.

    hidden, depths, reductions: channels, blocks and attention reduction of the four stages; a stage has
    hidden / hidden[0] heads. patch: kernel of the first convolution; the published 7 divides the image's
    sides by 4, 3 divides them by 2, for small images. Images are N x H x W x 3 uint8 RGB of any size.
    """

    def __init__(self, hidden: Sequence[int], depths: Sequence[int], decoder: int,
                 reductions: Sequence[int] = (8, 4, 2, 1), mlp_ratio: int = 4, num_classes: int = NUM_CLASSES,
                 patch: int = 7, rectify: bool = False) -> None:
        # Each stage's map must be at least as large as the square that its attention reduces to one position.
        self.least_side = max(n * ((patch + 1) // 2) * 2 ** i for i, n in enumerate(reductions))
        self.segformer = Named(encoder=Encoder(hidden, depths, reductions, mlp_ratio, patch))
        self.decode_head = Head(hidden, decoder, num_classes, rectify)

    def stages(self, images: np.ndarray) -> list[Var]:
        """The four maps, N x C x H/4 x W/4 to N x C x H/32 x W/32 (twice as large with `patch` 3)."""
        return self.segformer.encoder(image_batch(images))

    def execute(self, images: np.ndarray) -> Var:
        """Logits N x classes x H/4 x W/4 (H/2 x W/2 with `patch` 3)."""
        return self.decode_head(self.stages(images))


def features(stages: Sequence[Var]) -> Var:
    """N x (sum of the stages' channels): the mean over positions of each stage, the features of FD-seg."""
    return jt.concat([x.mean([2, 3]) for x in stages], 1)


def labels(logits: Var, size: Sequence[int]) -> Var:
    """N x H x W int32 labels, size = (H, W): the largest logit after bilinear resizing."""
    return jt.argmax(resize(logits, size), 1)[0]
