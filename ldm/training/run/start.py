"""Fine-tuning: a new run that starts from existing weights, in its network and in every average."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import yaml

from ldm import files, weights
from ldm.documents import read_yaml, short
from ldm.errors import UserError
from ldm.labels import NUM_CLASSES
from ldm.training.run import checkpoints
from ldm.weights.agreement import FREE, differing, network_sections

NOTE = "init.yaml"                      # in the run's folder: what it began with
MAY_DIFFER = (*FREE, "image_size")      # a convolutional network works at other sizes, too
MAPS = "mlp_shared.0.weight"            # tensors that read label maps: hidden x classes x 3 x 3


def weights_file(init: files.Name, part: str) -> Path:
    """The file of weights of `init`, a file or a model folder. part: "unet" or "autoencoder"."""
    return Path(init) / f"{part}.safetensors" if files.kind_of(init) == "folder" else Path(init)


def begin_with(init: files.Name, network: Any, config: dict, part: str, run: files.Name,
               note: bool = True) -> Optional[str]:
    """Load the weights of `init` into `network`, strictly. A run that has a state continues from that
    instead.

    Returns a line about harmless differences, or None. note: whether to record the weights in the run's
    folder. Raises UserError if the weights belong to another network, or if the run began with other weights.
    """
    path = weights_file(init, part)
    digest, place = files.sha256(path, 64), Path(run) / NOTE
    if checkpoints.saved(Path(run), "state"):
        if files.kind_of(place) is None or read_yaml(place).get("sha256") != digest:
            raise UserError("--init", f"is {path}, but the run in {run} began with other weights",
                            "leave --init out to continue it, or give another --output")
        return None
    line = _compare(path, config, part)
    weights.load(path, network)
    if note:
        with files.replacing(place) as temporary:
            temporary.write_text(yaml.safe_dump({"file": str(path), "sha256": digest}))
    return line


def _compare(path, config, part):
    """UserError if the weights are plainly of another network than `config`'s; else a line or None."""
    with weights.opened(path) as (entries, found):
        classes = {entry.shape[1] for name, entry in entries.items()
                   if name.endswith(MAPS) and len(entry.shape) > 1}
    if part == "unet" and classes - {NUM_CLASSES}:
        raise UserError(path, f"was trained with {min(classes - {NUM_CLASSES})} classes of label maps",
                        f"a U-Net keeps its classes: give weights of {NUM_CLASSES}, or train without --init")
    if not isinstance(found, dict):
        return None
    then = network_sections(found, part)
    keys = differing(then, network_sections(config, part))
    wrong = [key for key in keys if key not in MAY_DIFFER]
    if wrong:
        raise UserError(path, f"was made with other values of {', '.join(wrong)}", _remedy(wrong, part))
    if part == "unet" and "image_size" in keys:
        return (f"{path} was trained at image_size {short(then['image_size'])}: at another size it needs "
                "some hundred steps to adapt")
    return None


def _remedy(keys, part):
    if part == "unet" and any(key.startswith("autoencoder.") for key in keys):
        return ("a U-Net knows the latents of one autoencoder: use the config and the autoencoder of these "
                "weights")
    if "schedule" in keys:
        return "a U-Net knows the noise of one schedule: use that one"
    what = "codebook" if keys == ["autoencoder.codebook_size"] else "width or depth"
    return f"the network has another {what}: use the config of these weights, or train without --init"
