#!/usr/bin/env python
"""Turn a folder of masks and style references into landscapes; results that exist already are skipped."""
from __future__ import annotations

import argparse
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Optional, Sequence, cast

import cli
import label_photos
import reading
from tqdm import tqdm

from ldm import files, values
from ldm.datasets import landscape
from ldm.errors import UserError
from ldm.evaluation import labelling
from ldm.inference import fastest, job, makers, record, workers
from ldm.inference.record import Hashes
from ldm.platform import runtime

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "data/samples"
LARGE = 1000                    # pictures; before so many the model itself is checked


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--model", default=ROOT / "models/demo", type=Path,
                        help="folder with config.yaml and weights: unet.safetensors and "
                             "autoencoder.safetensors, or those of a GAN")
    parser.add_argument("--rounds", type=Path,
                        help="the rounds: a YAML file, or the name of one in configs/infer, such as fast "
                        "(default: the one that the model's config.yaml names, else entry)")
    parser.add_argument("--masks", type=Path, help="folder of label maps (PNG, 0..28), or the samples")
    parser.add_argument("--photos", type=Path, help="photographs instead of masks: their label maps are made "
                        "first, in OUTPUT-labels, then each is painted in its reference's style")
    styles = parser.add_mutually_exclusive_group()
    styles.add_argument("--references", "--reference", type=Path,
                        help="folder of photographs, or one photograph for all masks; or the samples'")
    styles.add_argument("--no-reference", action="store_true",
                        help="use no photographs; for rounds from noise, such as --rounds noise")
    parser.add_argument("--reference-masks", type=Path, metavar="DIR",
                        help="label maps of the references, files of the same names; needed by SEAN only")
    parser.add_argument("--pairs", type=Path,
                        help='JSON {"mask.png": "image.jpg"}; by default label_to_img.json '
                             "beside the masks if there is one, else files of the same name")
    parser.add_argument("--output", default=ROOT / "results/demo", type=Path, help="folder for the results")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", default=0, type=int, help="of the noise, with each mask's name")
    seeds.add_argument("--seeds", metavar="FIRST..LAST", help="several results for each mask, called "
                       "MASK_seedN, such as 0..3 or 1,5,9")
    parser.add_argument("--size", nargs=2, type=int, metavar=("WIDTH", "HEIGHT"),
                        help="of the results, if not the size that the model was trained at")
    parser.add_argument("--batch-size", type=int, help="images at a time, or as many of these as the GPU's "
                        "memory holds; if not given 1 on the CPU, 8 on a GPU")
    parser.add_argument("--precision", default="fp32", choices=(*runtime.PRECISIONS, fastest.AUTO),
                        help="of convolutions and attention; bf16 on a GPU or a processor that "
                        "has it, tf32 and fp16 on a GPU; auto is fp32 or bf16, whichever a measurement finds "
                        "faster on this processor")
    shares = parser.add_mutually_exclusive_group()
    shares.add_argument("--processes", default=1, type=int,
                        help="number of processes, each with its share of the cores")
    shares.add_argument("--gpus", type=int, help="number of processes, each with a GPU of its own")
    parser.add_argument("--memory-limit", type=int, metavar="MIB",
                        help="of the modulations that are kept of a batch's label maps, 370 an image at full "
                             "size; beyond it they are computed again at every step")
    parser.add_argument("--format", default="jpg", choices=("jpg", "png"), help="of the results")
    parser.add_argument("--overwrite", action="store_true",
                        help="replace pictures in --output that other settings made or that its record does "
                             "not know; those of the same settings and inputs stay")
    parser.add_argument("--zip", action="store_true",
                        help=f"at the end, write {job.ZIP} beside the results, with them and nothing else")
    parser.add_argument("--part", metavar="I/N", default="1/1", help="make every N-th picture only, from the "
                        "I-th on: for jobs on several machines, see docs/cluster.md")
    reading.add_options(parser)
    label_photos.add_options(parser.add_argument_group("with --photos"))
    parser.add_argument("--dry-run", action="store_true",
                        help="check everything, say what would be made, and stop")
    entry = parser.add_argument_group("the entry's own spelling")
    entry.add_argument("--input_path", type=Path,
                       help="folder with val_B_labels_resized and label_to_img.json")
    entry.add_argument("--img_path", type=Path, help="folder of the references, or one that holds imgs/")
    entry.add_argument("--output_path", type=Path, help="the same as --output")
    parser.add_argument("overrides", nargs="*",
                        help="key=value of the rounds' file, such as sampler=ddpm or rounds.*.guidance=3")
    return check(parser, parser.parse_args(argv))


def check(parser: cli.Parser, args: argparse.Namespace) -> argparse.Namespace:
    """Refuse values that no job can have, and set those that follow from others. -> args"""
    for option, most in (("batch_size", 65536), ("processes", 1024), ("gpus", 1024)):
        if (given := getattr(args, option)) is not None and not 1 <= given <= most:
            parser.error(f"--{option.replace('_', '-')}: is {given}; choose 1 to {most}")
    fastest.check(args.precision, "--precision")
    args.batch_size = args.batch_size or (8 if runtime.on_gpu() else 1)
    args.environments = workers.devices(args.gpus) if args.gpus else workers.cores(args.processes)
    if args.memory_limit is not None and args.memory_limit < 0:
        parser.error(f"--memory-limit: is {args.memory_limit}; choose 0 or more")
    args.part = part_of(parser, args)
    if not 0 <= args.seed <= values.LARGEST_SEED:
        parser.error(f"--seed: is {args.seed}; choose 0 to {values.LARGEST_SEED}")
    args.seeds = None if args.seeds is None else values.seeds(args.seeds, "--seeds")
    args.output = args.output_path or args.output
    find_inputs(parser, args)
    return args


def find_inputs(parser: cli.Parser, args: argparse.Namespace) -> None:
    """Set args.masks, references and pairs: what is given, in either spelling, or the samples."""
    if args.photos and (args.masks or args.input_path):
        parser.error("--photos: does not go with --masks or --input_path; leave one of them out")
    if args.no_reference and (args.img_path or args.pairs):
        parser.error("--no-reference: does not go with --img_path or --pairs; leave them out")
    if args.img_path:
        args.references = args.img_path / "imgs" if (args.img_path / "imgs").is_dir() else args.img_path
    if args.input_path:
        args.masks, found = landscape.contest_folder(args.input_path)
        args.pairs = args.pairs or found
    own = args.masks or args.photos
    if own and not args.references and not args.no_reference:
        parser.error("--references: is not given; give the photographs whose style is taken, or one of them")
    args.masks = args.masks or SAMPLES / "masks"
    if not args.no_reference:
        args.references = args.references or SAMPLES / "references"


def part_of(parser: cli.Parser, args: argparse.Namespace) -> tuple[int, int]:
    """(I, N) of --part."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", args.part)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        parser.error(f"--part: is {args.part}; write it as 3/8, for the third of eight parts")
    if args.zip and int(found[2]) > 1:
        parser.error("--zip: needs the pictures of all parts; run the same command once more without --part")
    return int(found[1]), int(found[2])


def main(argv: Optional[Sequence[str]] = None) -> Optional[int]:
    args = parse(argv)
    maker = makers.of_folder(args.model, args.rounds, args.overrides, args.precision, args.memory_limit,
                             args.size)
    check_references(args, maker)
    if args.format not in maker.suffixes:
        raise UserError("--format", f"is {args.format}, but these rounds cannot write it",
                        f"choose {' or '.join(maker.suffixes)}")
    size = maker.config["image_size"]
    left_out: list = []
    if args.photos:
        args.masks, left_out = label_maps(args, size)
        if args.dry_run:
            return None
    folder, plan = look(args, maker)
    plan.failures.extend(left_out)
    if args.zip:
        job.check_zip_names(plan)
    if args.dry_run:
        job.check(plan, size)
    print(f"{len(plan.todo)} to make, {len(plan.done)} exist already, {len(plan.failures)} cannot be made; "
          f"{size[0]} x {size[1]} pixels, {maker.steps} steps each", flush=True)
    if plan.changed:
        print(f"{plan.changed} of those to make exist, but from another mask or reference", flush=True)
    if args.dry_run:
        show_needs(args, maker, plan)
        return cli.report(plan.failures)
    files.check_writable(args.output)
    if len(plan.todo) >= LARGE and isinstance(maker, makers.Rounds):
        warn_of_another_autoencoder(args)
    folder.start()
    if plan.todo:
        make(args, maker, plan, folder.made_by["weights"])
    overview = job.overview(plan, args.output)
    print(f"{len(plan.done)} images in {args.output}"
          + (f", side by side in {overview.relative_to(args.output)}" if overview else ""))
    status = cli.report(plan.failures)
    if args.zip:
        print(f"{job.pack(plan, args.output)}: {len(plan.done)} images")
    return status


def label_maps(args: argparse.Namespace, size: Sequence[int]) -> tuple[Path, list]:
    """Label the photographs of --photos. Returns (the folder of the label maps, what cannot be read)."""
    output = args.output.with_name(f"{args.output.name}-labels")
    if args.references:                         # before the labelling, which takes long
        names = [Path(f"{path.stem}.png") for path in labelling.photographs(args.photos)]
        pairs = landscape.read_pairs(args.pairs) if args.pairs else None
        missing = landscape.without_reference(names, args.references, pairs)
        if len(missing) == len(names):
            raise UserError(args.photos, f"none of its photographs has a reference: {names[0]}, a label "
                            f"map, {missing[0].args[1]}", missing[0].args[2])
    paths, folder, errors = label_photos.label(args, output, size, "crop",
                                               before="--part" if args.part[1] > 1 else "")
    if args.dry_run:
        return folder.maps, []
    if not labelling.count(paths, folder):
        raise UserError(args.photos, "none of its photographs could be labelled",
                        f"{output / labelling.TABLE} says why")
    for line in labelling.refused(paths, folder):
        print(f"left out: {line}")
    return folder.maps, errors


def warn_of_another_autoencoder(args: argparse.Namespace) -> None:
    """Before a large job, warn if the model's two networks do not belong together. In a process of its own:
    with --processes this one loads no Jittor."""
    command = [sys.executable, ROOT / "tools/doctor.py", "--model", args.model]
    if args.references:
        command += ["--photos", args.references if args.references.is_dir() else args.references.parent]
    found = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, text=True)
    if found.returncode == 2:
        cli.warn(found.stderr.strip().splitlines()[-1].replace("error: ", "", 1))


def check_references(args: argparse.Namespace, maker: makers.Maker) -> None:
    """UserError if the model reads references, or their label maps, that are not given, or the reverse."""
    if args.no_reference and maker.uses_reference:
        raise UserError("--no-reference", "does not go with this model or these rounds: they use a reference",
                        "leave it out" + ("" if isinstance(maker, makers.GAN) else ", or use --rounds noise"))
    if maker.reads_reference_maps and args.reference_masks is None:
        raise UserError("--reference-masks", "is not given, and this SEAN takes the style of the reference's "
                        "own regions", "give the folder of the references' label maps, or set "
                        f"gan.sean.style_mask to target in {args.model / 'config.yaml'}")
    if args.reference_masks is not None and not maker.reads_reference_maps:
        raise UserError("--reference-masks", f"is given, but {args.model} does not read them", "leave it out")


def look(args: argparse.Namespace, maker: makers.Maker) -> tuple[record.Record, job.Plan]:
    """(the Record of --output, the Plan of what is to make there)."""
    job.refuse_inputs(args.output, args.model, args.masks, args.references, args.reference_masks)
    hashes = Hashes.read(args.output)
    how = reading.of(args)
    made_by = maker.made_by(args.seed if args.seeds is None else None, how, hashes)
    folder = record.Record(args.output, made_by, hashes, args.part if args.part[1] > 1 else None)
    return folder, job.plan(args.masks, args.references, args.pairs, args.output, args.format, args.overwrite,
                            record=folder, reading=how, seed=args.seed, seeds=args.seeds, part=args.part,
                            reference_maps=args.reference_masks)


def show_needs(args: argparse.Namespace, maker: makers.Maker, plan: job.Plan) -> None:
    """Check the headers of the weights, and print the memory and time that the run will need."""
    from ldm.training.estimate import speed
    memory, one = maker.needs(args.batch_size)
    print(f"memory: about {memory / 1e9:.2g} GB a process, {args.gpus or args.processes} at once")
    if one is None:
        return print("time: one pass of the generator for each picture", flush=True)
    rate = speed(maker.precision)
    hours = one * len(plan.todo) / rate / (args.gpus or 1) / 3600
    print(f"time: about {hours:.2g} hours ({one / 1e12:.3g} TMAC an image), if all runs at the "
          f"{rate / 1e9:.3g} GMAC/s of a large convolution here", flush=True)


def make(args: argparse.Namespace, maker: makers.Maker, plan: job.Plan, hashes: dict[str, str]) -> None:
    """Load the model, here or in several processes, and run the job under a bar of steps. hashes: of the
    weights."""
    steps = maker.steps
    compiled = runtime.notice_compile(maker.operators,
                                      "First use of this model here: its operators are compiled now, "
                                      "1 to 3 minutes on two cores, once ...")
    if args.gpus or args.processes > 1:
        runtime.compile_core()
        load = partial(workers.load, cast(record.Writer, plan.writer), maker, hashes)
        run = partial(workers.run, plan, load, args.batch_size, args.environments, steps)
    else:
        run = partial(job.run, plan, maker.load(hashes), args.batch_size)
    finished, total = 0, len(plan.todo)
    with tqdm(total=total * steps, unit="step", dynamic_ncols=True, desc=f"image 1 of {total}") as bar:
        for count in run(on_step=bar.update):
            compiled()
            finished += count
            bar.set_description(f"image {min(finished + 1, total)} of {total}")


if __name__ == "__main__":
    cli.run(main)
