"""The networks whose features the perceptual loss of a GAN compares: VGG19, or a segmenter without it."""
from __future__ import annotations

from typing import Optional

import numpy as np

from ldm.backend import Var, jt
from ldm.baselines import vgg
from ldm.baselines.objective import Comparison
from ldm.errors import UserError
from ldm.evaluation.networks import open_segmenter
from ldm.files import Name

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)      # of ImageNet, as the segmenter is trained


def open_comparison(options: dict, vgg_file: Optional[Name],
                    segmenter_file: Optional[Name]) -> Optional[Comparison]:
    """The perceptual loss of the option `perceptual`; None for "none". UserError if the file of its network
    is not given, or belongs to another network."""
    kind = options["perceptual"]
    if vgg_file and kind != "vgg":
        raise UserError("--vgg", f"is given, but gan_training.perceptual is {kind}",
                        "leave the option out, or set gan_training.perceptual=vgg")
    if kind == "none" or not options["perceptual_weight"]:
        return None
    if kind == "vgg":
        if not vgg_file:
            raise UserError("--vgg", "is not given, and gan_training.perceptual is vgg",
                            "give torchvision's weights of VGG19, or set it to segmenter or none")
        return Comparison(vgg.open_vgg(vgg_file), vgg.LOSS_WEIGHTS)
    if not segmenter_file:
        raise UserError("--segformer", "is not given, and gan_training.perceptual is segmenter",
                        "give a segmenter's weights, or set it to vgg or none")
    network = open_segmenter(segmenter_file).network
    for p in network.parameters():
        p.stop_grad()
    mean, deviation = (jt.array(np.array(v, np.float32)).reshape(1, 3, 1, 1) for v in (MEAN, DEVIATION))

    def stages(pictures: Var) -> list[Var]:
        return network.segformer.encoder(((pictures + 1) / 2 - mean) / deviation)
    return Comparison(stages, (0.25,) * 4)
