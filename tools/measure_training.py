#!/usr/bin/env python
"""How much memory and time a training step takes: some steps of a new network on random latents."""
import json

import cli

from ldm import config as configs


def main():
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--config", default="configs/iidm.yaml", help="what would be trained and how")
    parser.add_argument("--steps", type=int, default=2, help="how many steps; the first compiles")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("overrides", nargs="*", help="key=value, such as training.checkpointing=blocks")
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    if args.steps < 1:
        parser.error("--steps must be 1 or more")

    from ldm.training import options
    options.check(config, "training")
    from ldm.training.rehearsal import rehearse
    figures = rehearse(config, args.steps)
    if args.json:
        print(json.dumps(figures))
    else:
        print(f"{figures['parameters'] / 1e6:.1f} million parameters, batch {figures['batch_size']}: "
              f"{figures['peak_gb']:.2f} GB at most, {figures['seconds']:.1f} s a step")


if __name__ == "__main__":
    cli.run(main)
