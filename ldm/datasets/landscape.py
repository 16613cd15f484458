"""Folders in the contest's layout: images and label maps for training, masks and references for inference."""
from __future__ import annotations

import logging
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, Sequence, Tuple

import numpy as np

from ldm import images
from ldm.documents import read_json
from ldm.errors import UserError
from ldm.files import Name, kind_of
from ldm.images import Reading, Size

log = logging.getLogger(__name__)
LAYOUT = "provide train_resized/imgs/NAME.jpg and train_resized/labels/NAME.png"
Progress = Callable[[Iterable, int], Iterable]      # (iterable, total) -> the same items, with a progress bar
PathPair = Tuple[Path, Path]


def normal(name: str) -> str:
    """`name` in Unicode's composed form: macOS stores an accent as a separate character."""
    return unicodedata.normalize("NFC", name)


def training_pairs(folder: Name, size: Optional[Size] = None,
                   progress: Progress = lambda iterable, total: iterable,
                   reading: Reading = images.AS_IS) -> list[PathPair]:
    """[(image path, label path)] of `folder`/train_resized/{imgs,labels} (or `folder`/{imgs,labels}), sorted.

    Every image must have a label map and every label map an image. With `size` = (width, height) all files
    are read as `reading` says: they must be intact, both files of a pair must have one size and the aspect
    ratio of `size`, and all label values must be classes. Raises one UserError that lists all faults in its
    `details`.
    """
    folder = Path(folder)
    root = folder / "train_resized" if kind_of(folder / "train_resized") == "folder" else folder
    if kind_of(folder) == "folder" and not kind_of(root / "imgs") == kind_of(root / "labels") == "folder":
        raise UserError(folder, "does not hold the folders imgs and labels", LAYOUT)
    pictures, faults = by_stem(images.list_images(root / "imgs"))
    map_paths, lossy = split_maps(root / "labels")
    maps, more = by_stem(map_paths)
    faults += more + [str(error) for error in lossy]
    for here, there, place in ((pictures, maps, root / "labels"), (maps, pictures, root / "imgs")):
        faults += [f"{here[stem]}: has no partner in {place}" for stem in sorted(here.keys() - there.keys())]
    pairs = [(pictures[stem], maps[stem]) for stem in sorted(pictures.keys() & maps.keys())]
    if size is not None:
        with ThreadPoolExecutor() as pool:                 # decoding lets other threads run
            checks = pool.map(lambda pair: pair_faults(pair[0], pair[1], size, reading), pairs)
            faults += [fault for found in progress(checks, len(pairs)) for fault in found]
    if faults:
        raise UserError(root, f"{len(faults)} files cannot be used, the first: {faults[0]}",
                        "give every image a label map of the same name and size", faults)
    return pairs


def further_pictures(folder: Name, size: Size, progress: Progress = lambda iterable, total: iterable,
                     reading: Reading = images.AS_IS) -> list[Path]:
    """Paths of the images in a folder without label maps, to train the autoencoder.

    Every image is read. It must be intact and, unless `reading` crops, have the aspect ratio of `size` =
    (width, height). Raises one UserError that lists all faults, as training_pairs does.
    """
    def fault(path: Path) -> Optional[str]:
        try:
            height, width = images.read_image(path).shape[:2]
        except UserError as e:
            return str(e)
        if reading.fit == "refuse" and not images.same_proportions((width, height), size):
            return f"{path}: is {width} x {height}, other proportions than {size[0]} x {size[1]}"
        return None

    paths = images.list_images(folder)
    with ThreadPoolExecutor() as pool:
        faults = [found for found in progress(pool.map(fault, paths), len(paths)) if found]
    if faults:
        raise UserError(folder, f"{len(faults)} files cannot be used, the first: {faults[0]}",
                        "fix or remove them", faults)
    return paths


class Pictures(Sequence):
    """Training images H x W x 3 uint8, resized to `size` = (width, height).

    Each is read when it is requested: the contest's 10,000 images would take 5.9 GB of memory.
    """

    def __init__(self, paths: Sequence[Path], size: Size, reading: Reading = images.AS_IS) -> None:
        self.paths, self.size, self.reading = paths, size, reading

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> np.ndarray:            # type: ignore[override]    # no slices
        return images.read_image(self.paths[i], self.size, self.reading.fit)


def by_stem(paths: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """({stem: path}, one fault for each further file with the same stem)."""
    paths = list(paths)
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(normal(path.stem), path)
    return found, [f"{p}: has the name of {found[normal(p.stem)].name}" for p in paths
                   if found[normal(p.stem)] != p]


def split_maps(folder: Name) -> tuple[list[Path], list[UserError]]:
    """(paths of the possible label maps in `folder`, a UserError for each image in a lossy format)."""
    paths = images.list_images(folder)
    maps = [path for path in paths if path.suffix.lower() in images.MAP_SUFFIXES]
    stems = {normal(path.stem) for path in maps}
    return maps, [UserError(path, f"is not a label map: {path.suffix[1:].upper()} files may change labels",
                            "save the original as PNG")
                  for path in paths if normal(path.stem) not in stems]


def pair_faults(picture: Path, labels: Path, size: Size, reading: Reading = images.AS_IS) -> list[str]:
    """The faults of a training image and its label map; [] if there are none."""
    faults: list[str] = []
    sizes: list[Any] = []
    for read in (lambda: images.read_image(picture), lambda: images.read_labels(labels, reading=reading)):
        try:
            sizes.append(read().shape[1::-1])
        except UserError as e:
            faults.append(str(e))
    if faults:
        return faults
    (width, height), other = sizes
    if sizes[0] != other:
        return [f"{labels}: is {other[0]} x {other[1]}, but its image {width} x {height}"]
    if reading.fit == "refuse" and not images.same_proportions((width, height), size):
        return [f"{picture}: is {width} x {height}, other proportions than {size[0]} x {size[1]}; crop it or "
                "give --fit crop"]
    return []


def contest_folder(root: Name) -> tuple[Path, Optional[Path]]:
    """(folder of masks, pairs file or None) of a contest folder.

    The masks are in val_B_labels_resized or val_A_labels_resized, in `root` itself, or in its only subfolder
    beside imgs. The pairs file is label_to_img.json in `root` or beside it.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(root, "is not a folder",
                        "give one that holds val_B_labels_resized and label_to_img.json")
    named = [root / name for name in ("val_B_labels_resized", "val_A_labels_resized")
             if (root / name).is_dir()]
    others = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name != "imgs"]
    found = named[:1] or ([root] if any(root.glob("*.png")) else others)
    if len(found) != 1:
        raise UserError(root, f"holds {len(found)} folders that could be the masks",
                        "name the masks' folder val_B_labels_resized")
    pairs = (folder / "label_to_img.json" for folder in (root, root.parent))
    return found[0], next((p for p in pairs if p.exists()), None)


def read_pairs(path: Name) -> dict[str, str]:
    """{mask file name: reference file name} from a JSON file such as the contest's label_to_img.json."""
    pairs = read_json(path, 'JSON like {"mask.png": "image.jpg"}')
    if not isinstance(pairs, dict) or not all(isinstance(v, str) for v in pairs.values()):
        raise UserError(path, "does not map names to names", 'write JSON like {"mask.png": "image.jpg"}')
    return pairs


def inference_pairs(masks: Name, references: Name, pairs: Optional[dict[str, str]] = None,
                    ) -> tuple[list[PathPair], list[UserError]]:
    """([(mask path, reference path)] sorted by mask, a UserError for each mask without a reference).

    references: a folder, or one photograph for all masks. pairs: mask name -> reference name. Without it a
    reference has the stem of its mask, or is the only one in the folder (with a warning). A name in `pairs`
    without a mask is an error too; masks that `pairs` does not name have no reference.
    """
    paths, found, errors = find_files(masks, references)
    taken, _ = by_stem(paths)
    errors += [UserError(path, f"has the name of {taken[normal(path.stem)].name}", "rename one of them")
               for path in paths if taken[normal(path.stem)] != path]
    find = finder(found, references, pairs)
    matched = []
    for path in taken.values():
        reference, wrong = find(path)
        if reference is None:
            errors.append(UserError(path, *wrong))
        else:
            matched.append((path, reference))
    present = {normal(path.name) for path in paths}
    errors += [UserError(Path(masks) / name, "is named in the pairs but is not a file", "add this mask")
               for name in sorted(pairs or {}) if normal(name) not in present]
    if pairs is None and len(found) == 1 and matched:
        log.warning("%s is the reference of all %d masks", found[0], len(matched))
    return matched, errors


def find_files(masks: Name, references: Name) -> tuple[list[Path], list[Path], list[UserError]]:
    """(mask paths, reference paths, a UserError for each image among the masks in a lossy format)."""
    paths, errors = split_maps(masks)
    if kind_of(references) == "file":
        found = [Path(references)]
    else:
        found = images.list_images(references)
        if Path(masks).resolve() == Path(references).resolve():     # photographs beside their masks
            errors, taken = [], set(paths)
            found = [path for path in found if path not in taken]
    if not paths:
        raise errors[0] if errors else UserError(masks, "holds no label map", "give a folder of PNG files")
    return paths, found, errors


def without_reference(masks: Sequence[Path], references: Name,
                      pairs: Optional[dict[str, str]] = None) -> list[UserError]:
    """A UserError for each of `masks`, which need not exist yet, without a reference; see inference_pairs."""
    found = [Path(references)] if kind_of(references) == "file" else images.list_images(references)
    find = finder(found, references, pairs)
    answers = ((mask, *find(mask)) for mask in masks)
    return [UserError(mask, *wrong) for mask, reference, wrong in answers if reference is None]


# mask -> (its reference or None, (what is wrong, what to do))
Find = Callable[[Path], Tuple[Optional[Path], Tuple[str, str]]]


def finder(found: Sequence[Path], references: Name, pairs: Optional[dict[str, str]]) -> Find:
    """A function that finds a mask's reference in `found`, by `pairs` or by its stem; see inference_pairs."""
    add = f"add an image to {references}"
    return named_in(pairs, found, add) if pairs is not None else of_equal_stems(found, add)


def named_in(pairs: dict[str, str], found: Sequence[Path], add: str) -> Find:
    """A function that finds a mask's reference in `found` by the names in `pairs`. add: what to do if it is
    missing."""
    names = {**{normal(mask): name for mask, name in pairs.items()}, **pairs}
    files = {**{normal(path.name): path for path in found}, **{path.name: path for path in found}}
    stems = {normal(path.stem).lower(): path.name for path in found}

    def find(mask):
        name = names.get(mask.name) or names.get(normal(mask.name))
        if name is None:
            return None, ("the pairs name no reference for it", "name one, or remove the mask")
        near = stems.get(normal(Path(name).stem).lower())
        return (files.get(name) or files.get(normal(name)),
                (f"its reference '{name}' does not exist" + (f", but {near} does" if near else ""), add))
    return find


def of_equal_stems(found: Sequence[Path], add: str) -> Find:
    """A function that finds a mask's reference in `found`: the file of the same stem, or the only file. add:
    what to do if it is missing."""
    files: dict[str, list[Path]] = {}
    others: dict[str, str] = {}
    for path in found:
        files.setdefault(normal(path.stem), []).append(path)

    def find(mask):
        same = files.get(normal(mask.stem), found if len(found) == 1 else [])
        if len(same) > 1:
            return None, ("has two references, " + " and ".join(path.name for path in same),
                          "remove or rename one of them")
        if same:
            return same[0], ("", "")
        if found and not others:                        # the folder's other files, listed once
            others.update((normal(Path(name).stem), name) for name in os.listdir(found[0].parent))
        other = others.get(normal(mask.stem))
        return None, ("has no reference of the same name" + (
            f": {other} has a format that is not supported" if other else ""), add)
    return find
