"""Published spellings of the evaluation's networks, brought to the names that the networks have here.

What a table does not know stays as it is, so that the strict comparison afterwards names it.
"""
import re

import numpy as np

from ldm.errors import UserError
from ldm.weights.names import wrappers

STAGE_PARTS = {"patch_embed": "patch_embeddings", "block": "block", "norm": "layer_norm"}
NVLABS = (                                          # NVlabs and JSeg, once the stage has its place
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
NIMA_MARKS = {                                      # a name that no other layout has
    "features.28.weight": "vgg16_flat", "base_model.features_28.weight": "vgg16_pyiqa",
    "base_model.conv2d_7b.conv.weight": "inception_resnet_v2_pyiqa", "features.18.0.weight": "mobilenet_v2",
}


def _plain(state):
    """Without a wrapping module's prefix and without the counters of training steps that torch's norms
    carry."""
    prefix = wrappers(state)[-1]
    return {name[len(prefix):]: array for name, array in state.items()
            if not name.endswith("num_batches_tracked")}


def _renamed(name, rules):
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def inception(state):
    """pt_inception-2015-12-05, less its classifier, which the FID has no use for."""
    return {name: array for name, array in _plain(state).items() if name not in ("fc.weight", "fc.bias")}


def nima(state, subject):
    """(layout, state) of a file of NIMA; UserError about `subject` where it is none of the four."""
    state = _plain(state)
    found = [layout for mark, layout in NIMA_MARKS.items() if mark in state]
    if len(found) != 1:
        raise UserError(subject, "is no NIMA of a known layout",
                        f"one of {', '.join(NIMA_MARKS.values())} is needed")
    return found[0], state


def segformer(state):
    """(state, rectify) under the names of the Hugging Face hub, from these, NVlabs', JSeg's or
    mmsegmentation's.

    `rectify` says that the head has a ReLU behind every stage's map, as OpenMMLab's has.
    """
    state = _plain(state)
    if any(name.startswith("backbone.layers.") for name in state):
        return _from_mmseg(state), True
    return dict(_from_nvlabs(state)), False


def _from_nvlabs(state):
    for name, array in state.items():
        if name.startswith("decode_head.conv_seg."):                    # there, but the head never calls it
            continue
        name = re.sub(r"^backbone\.(patch_embed|block|norm)(\d)\.",
                      lambda m: f"segformer.encoder.{STAGE_PARTS[m[1]]}.{int(m[2]) - 1}.", name)
        name = re.sub(r"^(decode_head\.linear_c)(\d)\.", lambda m: f"{m[1]}.{int(m[2]) - 1}.", name)
        if ".attn.kv." in name:
            for part, rows in zip(("key", "value"), np.split(array, 2)):
                yield name.replace(".attn.kv.", f".attention.self.{part}."), rows
        else:
            yield _renamed(name, NVLABS), array


def _from_mmseg(state):
    """Linear layers are 1 x 1 convolutions there, query, key and value one matrix, and the head has a norm
    behind each stage's convolution, which is folded into it, and merges the stages in the opposite order."""
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


def _folded(state):
    """`decode_head.convs.N.conv` and `.bn` (eps 1e-5) as one linear layer, in float64."""
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


def segformer_size(state, subject):
    """The arguments of SegFormer for a state under the hub's names; UserError about `subject` where it is
    none."""
    encoder = "segformer.encoder."
    try:
        hidden = [state[f"{encoder}patch_embeddings.{i}.proj.weight"].shape[0] for i in range(4)]
        norms = re.findall(r"block\.(\d)\.\d+\.layer_norm_1\.weight", " ".join(state))
        depths = [norms.count(str(i)) for i in range(4)]
        attention = [f"{encoder}block.{i}.0.attention.self.sr.weight" for i in range(4)]
        reductions = [state[name].shape[2] if name in state else 1 for name in attention]
        rows = state[f"{encoder}block.0.0.mlp.dense1.weight"].shape[0]
        if not all(hidden) or any(channels % (channels // hidden[0] or channels + 1) for channels in hidden):
            raise UserError(subject, f"is no SegFormer (its stages have {hidden} channels)",
                            "multiples of the first stage's are needed")
        return dict(hidden=hidden, depths=depths, reductions=reductions,
                    decoder=state["decode_head.linear_fuse.weight"].shape[0], mlp_ratio=rows // hidden[0],
                    num_classes=state["decode_head.classifier.weight"].shape[0],
                    patch=state[f"{encoder}patch_embeddings.0.proj.weight"].shape[2])
    except (KeyError, IndexError) as e:
        raise UserError(subject, f"is no SegFormer ({e} is missing)",
                        "the names of the Hugging Face hub, NVlabs, JSeg or mmsegmentation are known") from e
