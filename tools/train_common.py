"""Shared by the training tools: options, progress bars, latent cache, estimate, metrics, a run."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, Sequence

import cli
import reading

from ldm import files
from ldm.datasets.landscape import PathPair
from ldm.errors import UserError
from ldm.images import Size
from ldm.training.run import checkpoints

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "configs/demo-128.yaml"         # found from any working directory


def checking(iterable: Iterable, total: int) -> Iterable:
    """Show a progress bar while `total` pairs of files are checked."""
    from tqdm import tqdm
    return tqdm(iterable, "checking", total, unit="pair", dynamic_ncols=True)


def check_output(output: files.Name, pairs: Sequence[PathPair], *more: Optional[files.Name]) -> None:
    """UserError, before long work, if nothing can be written to the folder `output`, or if it is one of the
    folders that pictures are read from: samples of the training would become training pictures."""
    folders = {path.parent for pair in pairs[:1] for path in pair} | {Path(f) for f in more if f}
    for folder in sorted(folders):
        if os.path.realpath(output) == os.path.realpath(folder):
            raise UserError(output, "is a folder of pictures that are read", "choose another --output")
    files.check_writable(output)


def check_run(output: files.Name, pairs: Sequence[PathPair], *more: Optional[files.Name]) -> None:
    """`check_output`, and UserError if the folder `output` holds weights but no training: it is a finished
    model, which the training would replace."""
    check_output(output, pairs, *more)
    found = sorted(Path(output).glob("*.safetensors"))
    of_a_run = (Path(output) / checkpoints.LOG).exists() or any(p.name.startswith("state-") for p in found)
    if found and not of_a_run:
        raise UserError(output, f"holds {found[0].name}, but no training that made it and could go on",
                        "choose another --output")


def encode(pairs: Sequence[PathPair], autoencoder: Any, size: Size, folder: files.Name,
           **options: Any) -> None:
    """Fill the latent cache in `folder` (see encoding.build), with a progress bar."""
    from tqdm import tqdm

    from ldm.datasets import encoding
    from ldm.platform import runtime
    done = runtime.notice_compile("encoding", "First encoding on this machine: the autoencoder's operators "
                                  "are compiled once now, 1 to 2 minutes on two cores ...")
    encoding.build(pairs, autoencoder, size, folder, **options,
                   progress=lambda batches: tqdm(batches, "encoding", unit="batch", dynamic_ncols=True))
    done()


def show_estimate(network: Any, parts: Sequence[tuple[Sequence[int], dict[str, Any]]], folder: files.Name,
                  call: Optional[Callable[[], Any]] = None) -> None:
    """Print the memory, disk and time that training `network` needs. Only rank 0 prints.

    parts: [((height, width), options)] of the parts of the run. height, width, call: see
    estimate.one_pass."""
    import shutil

    from ldm.training import estimate, parallel
    if cli.RANK:
        return
    parameters = sum(p.numel() for p in network.parameters())
    passes = [(estimate.one_pass(network, size[0], size[1], call), options) for size, options in parts]
    one, options = passes[-1]
    memory = max((estimate.memory(parameters, *part, parallel.count()) for part in passes),
                 key=lambda shares: sum(shares.values()))
    speed = estimate.speed(options.get("precision", "fp32"))
    print(f"{parameters:,} parameters; a pass of a picture has {one.macs / 1e9:.3g} GMAC and "
          f"{one.activations / 1e6:.3g} M activations")
    print(f"memory: about {sum(memory.values()) / 1e9:.3g} GB a process ("
          + ", ".join(f"{name} {size / 1e9:.3g}" for name, size in memory.items()) + ")")
    print(f"disk: about {estimate.disk(parameters, options) / 1e9:.3g} GB, {folder} has "
          f"{shutil.disk_usage(folder).free / 1e9:.3g} GB free")
    hours = sum(estimate.hours(*part, speed, parallel.count()) for part in passes)
    steps = sum(options["steps"] for _, options in passes)
    print(f"time: about {hours:.3g} hours for {steps} steps, if everything is as fast as the "
          f"{speed / 1e9:.3g} GMAC/s of a large convolution on this machine", flush=True)


def metrics(size: Sequence[int], segformer: Optional[files.Name] = None,
            ) -> Callable[..., dict[str, Optional[float]]]:
    """A function that measures pictures of `size` for validation: S and, with a segmenter, M and FD-seg."""
    from ldm.evaluation import quick, weight_files
    from ldm.evaluation.networks import open_segmenter
    path = weight_files.find("segformer", segformer, size=size)
    if path is None:
        print(f"validation: {weight_files.missing('segformer')}", file=sys.stderr)
    segmenter = path and open_segmenter(path)

    def measure(pictures, maps, references):
        moments = segmenter and quick.image_moments(segmenter, references)
        return quick.quick_metrics(pictures, maps, references, segmenter, moments)
    return measure


def parser_of(description: str, section: str, config: Optional[Path]) -> cli.Parser:
    """A parser with the options that all training tools have. section: of the config, for --help. config: the
    default of --config; None if it must be given."""
    parser = cli.Parser(description=description)
    parser.add_argument("--config", default=config, required=config is None,
                        help="config file of the model and its training")
    parser.add_argument("--data", required=True,
                        help="folder of the data in the contest's form (train_resized/imgs and /labels)")
    parser.add_argument("--output", required=True,
                        help="folder of the run, for its states, averages, samples and logs")
    reading.add_options(parser)
    parser.add_argument("--from-step", type=int, metavar="N", help="go back to the saved state of step N, "
                        "for example if the loss became NaN; later states are moved to OUTPUT/abandoned. The "
                        "same command again continues from where it is")
    parser.add_argument("--dry-run", action="store_true",
                        help="check all inputs, print the memory, disk and time it needs, and stop")
    parser.add_argument("overrides", nargs="*",
                        help=f"options of the config to change, as {section}.key=value")
    return parser


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add the option --init of the tools that can fine-tune."""
    parser.add_argument("--init", type=Path, metavar="FILE|MODEL", help="weights to begin with, or a model's "
                        "folder; without it a new network is trained")


def begin_with(args: argparse.Namespace, network: Any, config: dict[str, Any], part: str) -> None:
    """Load the weights of --init into a network; see run/start.py."""
    from ldm.training.run import start
    note = not args.dry_run and not cli.RANK
    if line := start.begin_with(args.init, network, config, part, args.output, note):
        cli.warn(line)


def report_resume(found: Any) -> None:
    """Print on standard error how the run continues. Only rank 0 prints."""
    if cli.RANK:
        return
    for problem in found.problems:
        cli.warn(f"{problem}; using an older state")
    for name, (then, now) in found.changes.items():
        print(f"{name} was {then} and is {now} from now on", file=sys.stderr)
    if found.step:
        print(f"continuing at step {found.step}", file=sys.stderr)


def train(trainer: Any, from_step: Optional[int] = None, parts: Sequence = (),
          prepare: Optional[Callable[[Any], None]] = None) -> None:
    """Resume `trainer` and train with a progress bar that shows the terms of the loss. from_step: see
    Trainer.resume. parts: the Stages of the run, if it has some; prepare(part) is called before each."""
    from tqdm import tqdm

    from ldm.platform import runtime
    done = runtime.notice_compile(f"training {type(trainer.task).__name__}",
                                  "First training on this machine: the operators are compiled "
                                  "once now, about 2 minutes on two cores ...")

    def to(end):
        first = trainer.step
        with tqdm(total=trainer.options["steps"], initial=first, unit="step", dynamic_ncols=True) as bar:
            def progress(step, terms):
                bar.update(step - bar.n)
                bar.set_postfix({k: f"{v:.4f}" for k, v in terms.items()}, refresh=False)
                if step == first + 1:
                    done()
            trainer.train(progress, end)

    with trainer.locked():
        report_resume(trainer.resume(from_step))
        if not parts:
            to(trainer.options["steps"])
        for part in parts:
            if not trainer.stop_agreed and (part.end > trainer.step or part is parts[-1]):
                if prepare is not None:
                    prepare(part)
                to(part.end)
