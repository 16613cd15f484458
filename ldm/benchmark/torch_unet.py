"""The same U-Net in plain PyTorch modules, only to compare with: torch_side.py imports it in a process of its
own. Its weights have the names of ldm.networks.UNet."""
from __future__ import annotations

import math
from typing import Callable, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    frequencies = torch.exp(-math.log(10000) * torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    angles = t[:, None].double() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class SPADENorm(nn.Module):
    def __init__(self, channels: int, num_classes: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(num_classes, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, one_hot: Tensor) -> Tensor:
        h = self.mlp_shared(F.interpolate(one_hot, size=x.shape[2:], mode="nearest"))
        return self.norm(x) * (1 + self.mlp_gamma(h)) + self.mlp_beta(h)


class ResBlock(nn.Module):
    """spade: (classes, hidden) of the norms, None for plain ones. resize: applied to the map between the two
    convolutions' norms, None to keep the size."""

    def __init__(self, channels: int, out_channels: int, emb: int, groups: int,
                 spade: Optional[tuple[int, int]] = None,
                 resize: Optional[Callable[[Tensor], Tensor]] = None) -> None:
        super().__init__()
        self.resize = resize
        self.spade = spade is not None
        conv = nn.Conv2d(channels, out_channels, 3, padding=1)
        out_conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if spade is not None:
            self.in_norm = SPADENorm(channels, spade[0], spade[1], groups)
            self.out_norm = SPADENorm(out_channels, spade[0], spade[1], groups)
            self.in_layers = nn.Sequential(nn.SiLU(), conv)
            self.out_layers = nn.Sequential(nn.SiLU(), nn.Dropout(0), out_conv)
        else:
            self.in_layers = nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), conv)
            self.out_layers = nn.Sequential(nn.GroupNorm(groups, out_channels), nn.SiLU(), nn.Dropout(0),
                                            out_conv)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out_channels))
        self.skip_connection = (nn.Conv2d(channels, out_channels, 1) if channels != out_channels
                                else nn.Identity())

    def forward(self, x: Tensor, emb: Tensor, one_hot: Tensor) -> Tensor:
        h = self.in_norm(x, one_hot) if self.spade else x
        h = self.in_layers[:-1](h)
        if self.resize:
            h, x = self.resize(h), self.resize(x)
        h = self.in_layers[-1](h)
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.out_norm(h, one_hot) if self.spade else self.out_layers[0](h)
        h = h * (1 + scale) + shift
        return self.skip_connection(x) + (self.out_layers if self.spade else self.out_layers[1:])(h)


class Attention(nn.Module):
    def __init__(self, channels: int, head_channels: int, groups: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv, self.proj_out = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        N, C, H, W = x.shape
        qkv = self.qkv(self.norm(x).reshape(N, C, -1)).reshape(N, self.heads, 3, C // self.heads, H * W)
        q, k, v = qkv.transpose(3, 4).unbind(2)
        h = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(N, C, -1)
        return x + self.proj_out(h).reshape(x.shape)


class UNet(nn.Module):
    def __init__(self, num_classes: int, channels: int, channel_mult: Sequence[int], num_res_blocks: int,
                 attention_downsampling: Sequence[int], head_channels: int, learn_sigma: bool, dropout: float,
                 spade_channels: int, norm_groups: int) -> None:
        super().__init__()
        emb, self.channels = 4 * channels, channels
        self.time_embed = nn.Sequential(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))

        def spade(c, c_out, resize=None):
            return ResBlock(c, c_out, emb, norm_groups, (num_classes, spade_channels), resize)

        def attention(c, ds):
            return [Attention(c, head_channels, norm_groups)] if ds in attention_downsampling else []

        c, ds = channels * channel_mult[0], 1
        blocks, widths = [[nn.Conv2d(3, c, 3, padding=1)]], [c]
        for level, mult in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                blocks.append([ResBlock(c, mult * channels, emb, norm_groups),
                               *attention(mult * channels, ds)])
                c = mult * channels
                widths.append(c)
            if level < len(channel_mult) - 1:
                blocks.append([ResBlock(c, c, emb, norm_groups, resize=lambda x: F.avg_pool2d(x, 2))])
                widths.append(c)
                ds *= 2
        self.input_blocks = nn.ModuleList(map(nn.ModuleList, blocks))
        self.middle_block = nn.ModuleList([spade(c, c), Attention(c, head_channels, norm_groups),
                                           spade(c, c)])
        blocks = []
        for level, mult in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks + 1):
                blocks.append([spade(c + widths.pop(), mult * channels), *attention(mult * channels, ds)])
                c = mult * channels
                if level > 0 and i == num_res_blocks:
                    blocks[-1].append(spade(c, c, lambda x: F.interpolate(x, scale_factor=2)))
                    ds //= 2
        self.output_blocks = nn.ModuleList(map(nn.ModuleList, blocks))
        self.out = nn.Sequential(nn.GroupNorm(norm_groups, c), nn.SiLU(),
                                 nn.Conv2d(c, 6 if learn_sigma else 3, 3, padding=1))

    def forward(self, z: Tensor, t: Tensor, one_hot: Tensor) -> Tensor:
        emb = self.time_embed(timestep_embedding(t, self.channels).to(z.dtype))

        def through(block, h):
            for layer in block:
                h = layer(h, emb, one_hot) if isinstance(layer, ResBlock) else layer(h)
            return h

        h, skips = z, []
        for block in self.input_blocks:
            h = through(block, h)
            skips.append(h)
        h = through(self.middle_block, h)
        for block in self.output_blocks:
            h = through(block, torch.cat([h, skips.pop()], dim=1))
        return self.out(h)
