"""What the training tools share: bars, the latent cache, the estimate, validation's metrics, a run."""
import sys
from pathlib import Path

import cli

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "configs/demo.yaml"         # found from any working directory


def checking(iterable, total):
    """Show the checks of `total` pairs of files in a bar."""
    from tqdm import tqdm
    return tqdm(iterable, "checking", total, unit="pair", dynamic_ncols=True)


def encode(pairs, autoencoder, size, folder, *sizes, **options):
    """Fill the latent cache in `folder` as encoding.build does, under a bar that shows the time left."""
    from tqdm import tqdm

    from ldm.datasets import encoding
    from ldm.platform import runtime
    done = runtime.notice_compile("encoding", "First encoding here: the autoencoder's operators are compiled "
                                  "now, a minute or two on two cores, once ...")
    encoding.build(pairs, autoencoder, size, folder, *sizes, **options,
                   progress=lambda batches: tqdm(batches, "encoding", unit="batch", dynamic_ncols=True))
    done()


def show_estimate(network, size, options, folder, call=None):
    """Print what training `network` will need: memory, disk, time. One process does. size, call: see
    estimate.one_pass."""
    import shutil

    from ldm.training import estimate, parallel
    if cli.RANK:
        return
    parameters = sum(p.numel() for p in network.parameters())
    one = estimate.one_pass(network, *size, call)
    parts = estimate.memory(parameters, one, options, parallel.count())
    speed = estimate.speed(options.get("precision", "fp32"))
    print(f"{parameters:,} parameters; a pass of a picture has {one.macs / 1e9:.3g} GMAC and "
          f"{one.activations / 1e6:.3g} M activations")
    print(f"memory: about {sum(parts.values()) / 1e9:.3g} GB a process ("
          + ", ".join(f"{name} {size / 1e9:.3g}" for name, size in parts.items()) + ")")
    print(f"disk: about {estimate.disk(parameters, options) / 1e9:.3g} GB, {folder} has "
          f"{shutil.disk_usage(folder).free / 1e9:.3g} GB free")
    hours = estimate.hours(one, options, speed, parallel.count())
    print(f"time: about {hours:.3g} hours for {options['steps']} steps, if all runs at the "
          f"{speed / 1e9:.3g} GMAC/s of a large convolution here", flush=True)


def metrics(segformer=None):
    """What validation measures of pictures in memory: S and, if there is a segmenter, M and FD-seg."""
    from ldm.evaluation import quick, weight_files
    from ldm.evaluation.networks import open_segmenter
    path = weight_files.find("segformer", segformer)
    if path is None:
        print(f"validation: {weight_files.missing('segformer')}", file=sys.stderr)
    segmenter = path and open_segmenter(path)

    def measure(pictures, maps, references):
        moments = segmenter and quick.image_moments(segmenter, references)
        return quick.quick_metrics(pictures, maps, references, segmenter, moments)
    return measure


def add_from_step(parser):
    """The option --from-step of the tools that train."""
    parser.add_argument("--from-step", type=int, metavar="N", help="go back to the saved state of step N, as "
                        "after a loss that is not finite; later states are moved to OUTPUT/abandoned. The "
                        "same command again continues")


def add_dry_run(parser):
    """The option --dry-run of the tools that train."""
    parser.add_argument("--dry-run", action="store_true",
                        help="check everything, say what it will need, and stop")


def say_how_it_goes_on(found):
    """What was found of an earlier run, on standard error; one process says it."""
    if cli.RANK:
        return
    for problem in found.problems:
        cli.warn(f"{problem}; an older state is used")
    for name, (then, now) in found.changes.items():
        print(f"{name} was {then} and is {now} from here on", file=sys.stderr)
    if found.step:
        print(f"continuing at step {found.step}", file=sys.stderr)


def train(trainer, from_step=None):
    """Resume `trainer` and run it under a bar that shows its terms and the time left. from_step: see
    Trainer.resume."""
    from tqdm import tqdm

    from ldm.platform import runtime
    done = runtime.notice_compile(f"training {type(trainer.task).__name__}",
                                  "First training here: the operators are compiled now, "
                                  "some 2 minutes on two cores, once ...")
    with trainer.locked():
        say_how_it_goes_on(trainer.resume(from_step))
        first = trainer.step
        with tqdm(total=trainer.options["steps"], initial=first, unit="step", dynamic_ncols=True) as bar:
            def progress(step, terms):
                bar.update(step - bar.n)
                bar.set_postfix({k: f"{v:.4f}" for k, v in terms.items()}, refresh=False)
                if step == first + 1:
                    done()
            trainer.train(progress)
