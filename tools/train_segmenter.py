#!/usr/bin/env python
"""Train a SegFormer on landscapes and their label maps. The same command again continues it."""
from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence

import cli
import numpy as np
import reading
import train_common
from tqdm import tqdm

from ldm import config as configs
from ldm import images, weights
from ldm.datasets import landscape
from ldm.platform.variables import refuse_srun


def main(argv: Optional[Sequence[str]] = None) -> None:
    refuse_srun()
    parser = train_common.parser_of(__doc__, "segmenter_training",
                                    train_common.ROOT / "configs/segmenter.yaml")
    parser.add_argument("--autoencoder",
                        help="weights of an autoencoder; half of the pictures are replaced by its "
                             "reconstructions, which are as soft as generated ones")
    train_common.add_init(parser)
    args = parser.parse_args(argv)
    config = configs.load(args.config, args.overrides,
                          ("segmenter", "autoencoder") if args.autoencoder else ("segmenter",))
    size = config["image_size"]
    how = reading.of(args)
    pairs = landscape.training_pairs(args.data, size, train_common.checking, how)
    train_common.check_run(args.output, pairs)

    from ldm.backend import jt
    from ldm.evaluation.networks import SegFormer
    from ldm.networks import Autoencoder
    from ldm.networks.onednn import for_inference
    from ldm.training.tasks.segmenter import Maps, SegmenterTask, reconstruct
    from ldm.training.trainer import Trainer
    from ldm.weights.agreement import with_config
    options = config["segmenter_training"]
    double = [2 * side for side in size]                   # crops are enlarged, so they need detail
    originals = landscape.Pictures([picture for picture, _ in pairs], double, how)
    versions: list[Sequence[np.ndarray]] = [originals]
    if args.autoencoder:
        autoencoder = Autoencoder(**config["autoencoder"])
        (weights.check if args.dry_run else weights.load)(
            args.autoencoder, autoencoder, agrees=with_config(args.autoencoder, config, "autoencoder"))
    jt.set_global_seed(options["seed"])                    # for the weights of the new network
    network = SegFormer(**config["segmenter"])
    if args.init:
        train_common.begin_with(args, network, config, "segmenter")
    if args.dry_run:
        picture = np.zeros((1, size[1], size[0], 3), np.uint8)
        return train_common.show_estimate(network, [(size[::-1], options)], args.output,
                                          lambda: network(picture))
    if args.autoencoder:
        autoencoder = for_inference(autoencoder, size[1], size[0], consume=True)
        bar = tqdm(originals, "encoding and decoding", unit="image")
        versions.append([reconstruct(images.resize(picture, size), autoencoder) for picture in bar])
    maps = Maps([labels for _, labels in pairs], double, how)
    trainer = Trainer(SegmenterTask(network, versions, maps, size, options), args.output, config, options)
    train_common.train(trainer, args.from_step)
    if trainer.step == options["steps"]:
        state = {name: p.numpy() for name, p in trainer.ema.state.items()}
        path = Path(args.output) / "segmenter.safetensors"
        weights.save(path, state, {key: config[key] for key in trainer.task.sections}, dtype="float16")
        print(f"{path}: the averaged weights")


if __name__ == "__main__":
    cli.run(main)
