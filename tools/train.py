#!/usr/bin/env python
"""Train the diffusion U-Net (Algorithm 1) on a folder of landscapes; the same command again continues."""
from pathlib import Path

import cli
from tqdm import tqdm

from ldm import config as configs
from ldm import files
from ldm.datasets import landscape


def main():
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--config", default="configs/demo.yaml", help="what to train and how")
    parser.add_argument("--data", required=True,
                        help="folder in the contest's form (train_resized/imgs and /labels)")
    parser.add_argument("--autoencoder", required=True, help="the autoencoder's weights")
    parser.add_argument("--output", required=True,
                        help="folder of the run: latents, states, averages, samples, log")
    parser.add_argument("overrides", nargs="*", help="training.key=value")
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    pairs = landscape.training_pairs(args.data)
    files.check_writable(args.output)
    configs.save(Path(args.output) / "config.yaml", config)

    from ldm import weights
    from ldm.backend import jt
    from ldm.datasets import latents
    from ldm.diffusion import Schedule
    from ldm.networks import Autoencoder, UNet
    from ldm.training.diffusion_task import DiffusionTask
    from ldm.training.trainer import Trainer
    autoencoder = Autoencoder(**config["autoencoder"])
    weights.load(args.autoencoder, autoencoder)
    cache = Path(args.output) / "latents"
    latents.build(pairs, autoencoder, config["image_size"], cache,
                  progress=lambda steps: tqdm(steps, "encoding", unit="batch"))
    jt.set_global_seed(config["training"]["seed"])         # of the new network's weights
    task = DiffusionTask(UNet(**config["unet"]), latents.Latents(cache), Schedule.named(config["schedule"]),
                         autoencoder, config["training"])
    cli.train(Trainer(task, args.output, config, config["training"]))


if __name__ == "__main__":
    cli.run(main)
