"""Make procedural landscapes in the contest's folder layout: pictures with their label maps.

    python tools/make_landscapes.py --count 2000 --seed 0 --output data/procedural
    python tools/make_landscapes.py --count 32 --seed 1 --output data/held_out --split test
    python tools/make_landscapes.py --count 2000 --kind photo --output data/photo-like

The last command makes pictures with the statistics of photographs, without label maps, for the autoencoder.

Scene k of a seed does not depend on --count, --start and --processes. Existing files are kept.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

import cli  # noqa: F401  (puts the repository on the path)
import cv2
import numpy as np
from tqdm import tqdm

from ldm import images
from ldm.datasets.landscape import read_pairs
from ldm.datasets.procedural import DRAWING, SIZE, make_photo, make_scene
from ldm.documents import short
from ldm.errors import UserError
from ldm.files import check_writable, kind_of, open_regular, replacing

QUALITY = 92
RECORD = "scenes.json"          # in the folder: kind, seed and size of its pictures
# Of the options. All jobs of a call are in memory: a million take 1.3 GB.
RANGES = {"count": (1, 10 ** 6), "seed": (0, 2 ** 63 - 1), "start": (0, 10 ** 9), "processes": (1, 1024)}


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, required=True, default=argparse.SUPPRESS,
                        help="number of scenes")
    parser.add_argument("--seed", type=int, default=0, help="series of scenes")
    parser.add_argument("--start", type=int, default=0, help="number of the first scene, used as file name")
    parser.add_argument("--output", type=Path, required=True, default=argparse.SUPPRESS,
                        help="folder to write to")
    parser.add_argument("--processes", type=int, default=1, help="scenes made at the same time")
    parser.add_argument("--kind", choices=("scene", "photo"), default="scene",
                        help="scene: landscapes with label maps; photo: pictures with the statistics of "
                             "photographs for train_autoencoder.py --pictures, in imgs, without label maps")
    parser.add_argument("--split", choices=("train", "test"), default="train",
                        help="train: train_resized/{imgs,labels}; test: val_B_labels_resized (masks), imgs "
                             "(references: for each mask the picture of the next scene), label_to_img.json, "
                             "truth (the masks' own pictures), reference_labels")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), default=SIZE,
                        help="in pixels")
    args = parser.parse_args(argv)
    if args.kind == "photo" and args.split == "test":
        raise UserError("--split", "is test, but photos have no label maps", "leave --kind or --split out")
    if min(args.size) < 32 or max(args.size) > 4096:
        raise UserError("--size", f"is {args.size[0]} {args.size[1]}",
                        "choose 32 to 4096 pixels per side")
    for option, (least, most) in RANGES.items():
        if not least <= getattr(args, option) <= most:
            raise UserError(f"--{option}", f"is {short(getattr(args, option))}", f"choose {least} to {most}")
    return args


def folders(output: Path, kind: str, split: str) -> tuple[Path, ...]:
    """The folders of pictures and of masks; photos have no masks."""
    if kind == "photo":
        return (output / "imgs",)
    if split == "train":
        return output / "train_resized" / "imgs", output / "train_resized" / "labels"
    return output / "truth", output / "val_B_labels_resized"


def make_files(job: tuple) -> None:
    """Write the missing files of a picture; job: (kind, seed, index, size, its paths, its mask's paths)."""
    kind, seed, index, size, *targets = job
    pictures, masks = ([path for path in paths if not path.exists()] for paths in targets)
    if not pictures and not masks:
        return
    if kind == "scene":
        image, labels = make_scene(seed, index, size)
        for path in masks:
            images.write_image(path, labels)
    else:
        image = make_photo(seed, index, size)
    for path in pictures:
        images.write_image(path, image, quality=QUALITY)


def jobs_of(args: argparse.Namespace) -> Iterator[tuple]:
    """One job per picture; for --split test one more scene, the reference of the last mask."""
    pictures, *masks = folders(args.output, args.kind, args.split)
    stop = args.start + args.count
    for index in range(args.start, stop):
        name = f"{index:05d}"
        targets = [pictures / f"{name}.jpg"]
        if args.split == "test" and index > args.start:
            targets.append(args.output / "imgs" / f"{name}.jpg")
        yield args.kind, args.seed, index, args.size, targets, maps_of(args, index, masks)
    if args.split == "test":
        yield (args.kind, args.seed, stop, args.size, [args.output / "imgs" / f"{stop:05d}.jpg"],
               maps_of(args, stop, []))


def maps_of(args: argparse.Namespace, index: int, folders: Sequence[Path]) -> list[Path]:
    """Paths of a scene's label map: in `folders` and, if it is a reference, in the references' folder."""
    if args.split == "test" and index > args.start:
        folders = [*folders, args.output / "reference_labels"]
    return [folder / f"{index:05d}.png" for folder in folders]


def claim(args: argparse.Namespace) -> None:
    """Record the kind of scenes in the folder; raise UserError if it holds others.

    Folders of earlier versions have no record: their first scene is drawn again and compared.
    """
    path = args.output / RECORD
    mine = {"kind": args.kind, "drawing": DRAWING, "seed": args.seed, "size": list(args.size),
            "split": args.split}
    _, *masks = folders(args.output, args.kind, args.split)
    if kind_of(path) is not None:
        same = read_json(path) == mine
    elif standing := [path for folder in masks for path in sorted(folder.glob("[0-9]" * 5 + ".png"))]:
        drawn = make_scene(args.seed, int(standing[0].stem), args.size)[1]
        same = np.array_equal(images.read_labels(standing[0]), drawn)
    else:
        others = ("scene", "train"), ("scene", "test"), ("photo", "train")
        every = [folder for other in others for folder in folders(args.output, *other)]
        same = not any(path for folder in every for path in folder.glob("*.*"))
    if not same:
        raise UserError(args.output, "holds pictures of another seed, size, split, kind or version",
                        "choose another --output")
    references = [args.output / "reference_labels"] if args.split == "test" else []
    for folder in [*folders(args.output, args.kind, args.split), *references]:
        check_writable(folder)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(mine) + "\n")


def read_json(path: Path) -> Any:
    with open_regular(path) as file:
        try:
            return json.loads(file.read())
        except (ValueError, RecursionError):
            raise UserError(path, "is not a JSON file of this tool", "choose another --output") from None


def write_pairs(args: argparse.Namespace) -> None:
    path = args.output / "label_to_img.json"
    pairs = read_pairs(path) if kind_of(path) else {}       # of scenes made before
    pairs |= {f"{k:05d}.png": f"{k + 1:05d}.jpg" for k in range(args.start, args.start + args.count)}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(dict(sorted(pairs.items())), indent=0) + "\n")


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    claim(args)
    cv2.setNumThreads(1)                         # scenes are small: processes gain more than threads
    jobs = list(jobs_of(args))
    with tqdm(total=len(jobs), unit=args.kind) as bar:
        if args.processes == 1:
            for _ in map(make_files, jobs):
                bar.update()
        else:
            processes = min(args.processes, len(jobs))
            with multiprocessing.get_context("spawn").Pool(processes, cv2.setNumThreads, (1,)) as pool:
                for _ in pool.imap_unordered(make_files, jobs):
                    bar.update()
    if args.split == "test":
        write_pairs(args)
    print(f"{args.count} {args.kind}s of seed {args.seed} are in {args.output}")


if __name__ == "__main__":
    cli.run(main)
