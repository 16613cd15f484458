"""Renames the tensors of published files to the names of our networks of the metrics.

Names that no table lists stay as they are; the strict comparison that follows reports them.
"""
from __future__ import annotations

import re
from typing import Any, Iterable, Iterator

import numpy as np

from ldm.errors import UserError
from ldm.files import Name
from ldm.weights.names import wrappers

State = dict[str, np.ndarray]           # name -> array, as read from a file

STAGE_PARTS = {"patch_embed": "patch_embeddings", "block": "block", "norm": "layer_norm"}
NVLABS = (                                          # NVlabs and JSeg, after the stage's number was moved
    (r"(patch_embeddings\.\d)\.norm\.", r"\1.layer_norm."),
    (r"(block\.\d\.\d+)\.norm([12])\.", r"\1.layer_norm_\2."),
    (r"\.attn\.q\.", ".attention.self.query."),
    (r"\.attn\.sr\.", ".attention.self.sr."),
    (r"\.attn\.norm\.", ".attention.self.layer_norm."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc([12])\.", r".mlp.dense\1."),
    (r"^decode_head\.linear_fuse\.conv\.", "decode_head.linear_fuse."),
    (r"^decode_head\.linear_fuse\.bn\.", "decode_head.batch_norm."),
    (r"^decode_head\.linear_pred\.", "decode_head.classifier."),
)
MMSEG = (                                           # OpenMMLab's mmsegmentation
    (r"^backbone\.layers\.(\d)\.0\.projection\.", r"segformer.encoder.patch_embeddings.\1.proj."),
    (r"^backbone\.layers\.(\d)\.0\.norm\.", r"segformer.encoder.patch_embeddings.\1.layer_norm."),
    (r"^backbone\.layers\.(\d)\.1\.(\d+)\.", r"segformer.encoder.block.\1.\2."),
    (r"^backbone\.layers\.(\d)\.2\.", r"segformer.encoder.layer_norm.\1."),
    (r"(block\.\d\.\d+)\.norm([12])\.", r"\1.layer_norm_\2."),
    (r"\.attn\.sr\.", ".attention.self.sr."),
    (r"\.attn\.norm\.", ".attention.self.layer_norm."),
    (r"\.attn\.attn\.out_proj\.", ".attention.output.dense."),
    (r"\.ffn\.layers\.0\.", ".mlp.dense1."),
    (r"\.ffn\.layers\.1\.", ".mlp.dwconv.dwconv."),
    (r"\.ffn\.layers\.4\.", ".mlp.dense2."),
    (r"^decode_head\.fusion_conv\.conv\.", "decode_head.linear_fuse."),
    (r"^decode_head\.fusion_conv\.bn\.", "decode_head.batch_norm."),
    (r"^decode_head\.conv_seg\.", "decode_head.classifier."),
)
NIMA_MARKS = {                                      # a name that only this layout has
    "features.28.weight": "vgg16_flat", "base_model.features_28.weight": "vgg16_pyiqa",
    "base_model.conv2d_7b.conv.weight": "inception_resnet_v2_pyiqa", "features.18.0.weight": "mobilenet_v2",
}


def _plain(state: State) -> State:
    """`state` without the prefix of a wrapping module and without torch's counters of training steps."""
    prefix = wrappers(state)[-1]
    return {name[len(prefix):]: array for name, array in state.items()
            if not name.endswith("num_batches_tracked")}


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def inception(state: State) -> State:
    """pt_inception-2015-12-05 without its classifier, which the FID does not use."""
    return {name: array for name, array in _plain(state).items() if name not in ("fc.weight", "fc.bias")}


def nima(state: State, subject: Name) -> tuple[str, State]:
    """(layout, state) of a file of NIMA; UserError about `subject` if the layout is not one of the four."""
    state = _plain(state)
    found = [layout for mark, layout in NIMA_MARKS.items() if mark in state]
    if len(found) != 1:
        raise UserError(subject, "is not a NIMA of a known layout",
                        f"give a file of {', '.join(NIMA_MARKS.values())}")
    return found[0], state


def segformer(state: State) -> tuple[State, bool]:
    """Rename a SegFormer of the Hugging Face hub, NVlabs, JSeg or mmsegmentation to the hub's names.

    Returns (state, rectify). rectify: the head has a ReLU after each stage's projection, as in
    mmsegmentation.
    """
    state = _plain(state)
    if any(name.startswith("backbone.layers.") for name in state):
        return _from_mmseg(state), True
    return dict(_from_nvlabs(state)), False


def _from_nvlabs(state: State) -> Iterator[tuple[str, np.ndarray]]:
    for name, array in state.items():
        if name.startswith("decode_head.conv_seg."):                    # the head does not use it
            continue
        name = re.sub(r"^backbone\.(patch_embed|block|norm)(\d)\.",
                      lambda m: f"segformer.encoder.{STAGE_PARTS[m[1]]}.{int(m[2]) - 1}.", name)
        name = re.sub(r"^(decode_head\.linear_c)(\d)\.", lambda m: f"{m[1]}.{int(m[2]) - 1}.", name)
        if ".attn.kv." in name:
            for part, rows in zip(("key", "value"), np.split(array, 2)):
                yield name.replace(".attn.kv.", f".attention.self.{part}."), rows
        else:
            yield _renamed(name, NVLABS), array


def _from_mmseg(state: State) -> State:
    """mmsegmentation stores linear layers as 1 x 1 convolutions, and query, key and value as one matrix. Its
    head has a norm after each stage's convolution (folded into it here) and merges the stages in reverse."""
    translated = {}
    for name, array in _folded(state).items():
        new = _renamed(name, MMSEG)
        if ".attn.attn.in_proj_" in new:
            for part, rows in zip(("query", "key", "value"), np.split(array, 3)):
                translated[new.replace(".attn.attn.in_proj_", f".attention.self.{part}.")] = rows
            continue
        if new.endswith(("dense1.weight", "dense2.weight")) and array.shape[2:] == (1, 1):
            array = array[:, :, 0, 0]
        if new == "decode_head.linear_fuse.weight":
            array = np.concatenate(np.split(array, 4, axis=1)[::-1], axis=1)
        translated[new] = array
    return translated


def _folded(state: State) -> State:
    """Fold `decode_head.convs.N.bn` (eps 1e-5) into `.conv` as one linear layer; computed in float64."""
    state = dict(state)
    for i in range(4):
        prefix = f"decode_head.convs.{i}."
        names = [prefix + "conv.weight"]
        names += [f"{prefix}bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        if all(name in state for name in names):
            conv, weight, bias, mean, variance = (state.pop(name).astype(np.float64) for name in names)
            if (variance < 0).any():
                raise ValueError(f"'{prefix}bn.running_var' has negative variances")
            scale = weight / np.sqrt(variance + 1e-5)
            folded = {"weight": conv[:, :, 0, 0] * scale[:, None], "bias": bias - mean * scale}
            state |= {f"decode_head.linear_c.{i}.proj.{n}": a.astype(np.float32) for n, a in folded.items()}
    return state


def segformer_size(state: State, subject: Name) -> dict[str, Any]:
    """The arguments of SegFormer for a state with the hub's names. UserError about `subject` if it is another
    network."""
    encoder = "segformer.encoder."
    try:
        hidden = [state[f"{encoder}patch_embeddings.{i}.proj.weight"].shape[0] for i in range(4)]
        norms = re.findall(r"block\.(\d)\.\d+\.layer_norm_1\.weight", " ".join(state))
        depths = [norms.count(str(i)) for i in range(4)]
        attention = [f"{encoder}block.{i}.0.attention.self.sr.weight" for i in range(4)]
        reductions = [state[name].shape[2] if name in state else 1 for name in attention]
        rows = state[f"{encoder}block.0.0.mlp.dense1.weight"].shape[0]
        if not all(hidden) or any(channels % (channels // hidden[0] or channels + 1) for channels in hidden):
            raise UserError(subject, f"is not a SegFormer (its stages have {hidden} channels)",
                            "give a file whose channels are multiples of the first stage's")
        return dict(hidden=hidden, depths=depths, reductions=reductions,
                    decoder=state["decode_head.linear_fuse.weight"].shape[0], mlp_ratio=rows // hidden[0],
                    num_classes=state["decode_head.classifier.weight"].shape[0],
                    patch=state[f"{encoder}patch_embeddings.0.proj.weight"].shape[2])
    except (KeyError, IndexError) as e:
        raise UserError(subject, f"is not a SegFormer ({e} is missing)",
                        "give a file of the Hugging Face hub, NVlabs, JSeg or mmsegmentation") from e
