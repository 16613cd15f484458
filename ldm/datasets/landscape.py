"""Folders in the contest's form: images and label maps for training, masks and references for inference."""
import logging
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ldm import images
from ldm.documents import read_json
from ldm.errors import UserError
from ldm.files import kind_of

log = logging.getLogger(__name__)
LAYOUT = "train_resized/imgs/NAME.jpg and train_resized/labels/NAME.png are needed"


def normal(name):
    """A name in the form in which equal ones are equal: macOS writes an accent as a letter of its own."""
    return unicodedata.normalize("NFC", name)


def training_pairs(folder, size=None, progress=lambda iterable, total: iterable, reading=images.AS_IS):
    """[(image path, label path)] of `folder`/train_resized/{imgs,labels} (or `folder`/{imgs,labels}), sorted.

    Every image must have its label map and the reverse. With `size` = (width, height) every file is read too:
    it must be whole, the two of a pair of one size and of the proportions of `size`, labels classes, as
    `reading` has it; `progress(iterable, total)` may show that. All faults are found in one go, as the
    error's `details`.
    """
    folder = Path(folder)
    root = folder / "train_resized" if kind_of(folder / "train_resized") == "folder" else folder
    if kind_of(folder) == "folder" and not kind_of(root / "imgs") == kind_of(root / "labels") == "folder":
        raise UserError(folder, "does not hold the folders imgs and labels", LAYOUT)
    pictures, faults = by_stem(images.list_images(root / "imgs"))
    maps, lossy = split_maps(root / "labels")
    maps, more = by_stem(maps)
    faults += more + [str(error) for error in lossy]
    for found, others in ((pictures, root / "labels"), (maps, root / "imgs")):
        present = maps if found is pictures else pictures
        faults += [f"{found[stem]}: has no partner in {others}"
                   for stem in sorted(found.keys() - present.keys())]
    pairs = [(pictures[stem], maps[stem]) for stem in sorted(pictures.keys() & maps.keys())]
    if size is not None:
        with ThreadPoolExecutor() as pool:                 # decoding lets other threads run
            checks = pool.map(lambda pair: pair_faults(*pair, size, reading), pairs)
            faults += [fault for found in progress(checks, len(pairs)) for fault in found]
    if faults:
        raise UserError(root, f"{len(faults)} of its files cannot be used, the first is {faults[0]}",
                        "every image needs a label map of its name and size", faults)
    return pairs


def further_pictures(folder, size, progress=lambda iterable, total: iterable, reading=images.AS_IS):
    """Paths of the images of a folder, which have no label maps, for the autoencoder.

    Each is read: it must be whole and, unless `reading` crops, of the proportions of `size` = (width,
    height). All faults are found in one go, as in training_pairs.
    """
    def fault(path):
        try:
            height, width = images.read_image(path).shape[:2]
        except UserError as e:
            return str(e)
        if reading.fit == "refuse" and not images.same_proportions((width, height), size):
            return f"{path}: is {width} x {height}, other proportions than {size[0]} x {size[1]}"

    paths = images.list_images(folder)
    with ThreadPoolExecutor() as pool:
        faults = [found for found in progress(pool.map(fault, paths), len(paths)) if found]
    if faults:
        raise UserError(folder, f"{len(faults)} of its files cannot be used, the first is {faults[0]}",
                        "take them out or mend them", faults)
    return paths


class Pictures:
    """Training images at `size` = (width, height), read when they are asked for: the contest's 10,000 would
    take 5.9 GB."""

    def __init__(self, paths, size, reading=images.AS_IS):
        self.paths, self.size, self.reading = paths, size, reading

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return images.read_image(self.paths[i], self.size, self.reading.fit)


def by_stem(paths):
    """({stem: path}, a fault for each further file of a stem)."""
    found = {}
    for path in paths:
        found.setdefault(normal(path.stem), path)
    return found, [f"{p}: has the name of {found[normal(p.stem)].name}" for p in paths
                   if found[normal(p.stem)] != p]


def split_maps(folder):
    """(paths of the files in `folder` that can be label maps, a UserError for each picture that cannot)."""
    paths = images.list_images(folder)
    maps = [path for path in paths if path.suffix.lower() in images.MAP_SUFFIXES]
    stems = {normal(path.stem) for path in maps}
    return maps, [UserError(path, f"is no label map: {path.suffix[1:].upper()} files may change its values",
                            "save the original as PNG")
                  for path in paths if normal(path.stem) not in stems]


def pair_faults(picture, labels, size, reading=images.AS_IS):
    """What is wrong with a training image and its label map, as texts; [] if nothing is."""
    faults, sizes = [], []
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
        return [f"{picture}: is {width} x {height}, other proportions than {size[0]} x {size[1]}, crop it or "
                "give --fit crop"]
    return []


def contest_folder(root):
    """(folder of masks, pairs file or None) of a contest folder: val_B_labels_resized,
    val_A_labels_resized, the folder itself if it holds masks, or else its only subfolder beside imgs;
    label_to_img.json in it or beside it."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(root, "is no folder", "one with val_B_labels_resized and label_to_img.json is needed")
    named = [root / name for name in ("val_B_labels_resized", "val_A_labels_resized")
             if (root / name).is_dir()]
    others = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name != "imgs"]
    found = named[:1] or ([root] if any(root.glob("*.png")) else others)
    if len(found) != 1:
        raise UserError(root, f"holds {len(found)} folders that could be the masks",
                        "val_B_labels_resized is looked for")
    pairs = (folder / "label_to_img.json" for folder in (root, root.parent))
    return found[0], next((p for p in pairs if p.exists()), None)


def read_pairs(path):
    """{mask file name: reference file name} from a JSON file such as the contest's label_to_img.json."""
    pairs = read_json(path, 'JSON like {"mask.png": "image.jpg"}')
    if not isinstance(pairs, dict) or not all(isinstance(v, str) for v in pairs.values()):
        raise UserError(path, "is another kind of JSON", '{"mask.png": "image.jpg"} is needed')
    return pairs


def inference_pairs(masks, references, pairs=None):
    """([(mask path, reference path)] sorted by mask, [UserError of each mask that has none]).

    `references` is a folder, or one photograph for all masks. `pairs` maps mask names to reference names;
    without it a reference has its mask's stem, or is the only one, which is said. A name in `pairs` that is
    no mask is an error too; masks of the folder that `pairs` leaves out have no reference.
    """
    paths, found, errors = find_files(masks, references)
    taken, _ = by_stem(paths)
    errors += [UserError(path, f"has the name of {taken[normal(path.stem)].name}", "rename one of them")
               for path in paths if taken[normal(path.stem)] != path]
    find = named_in(pairs, found) if pairs is not None else of_equal_stems(found)
    matched = []
    for path in taken.values():
        reference, wrong = find(path)
        if reference is None:
            errors.append(UserError(path, wrong, f"an image in {references} is needed"))
        else:
            matched.append((path, reference))
    present = {normal(path.name) for path in paths}
    errors += [UserError(Path(masks) / name, "is named in the pairs but is no file", "a mask is needed")
               for name in sorted(pairs or {}) if normal(name) not in present]
    if pairs is None and len(found) == 1 and matched:
        log.warning("%s is the reference of all %d masks", found[0], len(matched))
    return matched, errors


def find_files(masks, references):
    """(mask paths, reference paths, a UserError for each picture among the masks that can be none)."""
    paths, errors = split_maps(masks)
    if kind_of(references) == "file":
        found = [Path(references)]
    else:
        found = images.list_images(references)
        if Path(masks).resolve() == Path(references).resolve():     # photographs beside their masks
            errors, taken = [], set(paths)
            found = [path for path in found if path not in taken]
    if not paths:
        raise errors[0] if errors else UserError(masks, "holds no label map", "PNG files are needed")
    return paths, found, errors


def named_in(pairs, found):
    """find(mask) -> (its reference in `found` as `pairs` says or None, what is wrong)."""
    names = {**{normal(mask): name for mask, name in pairs.items()}, **pairs}
    files = {**{normal(path.name): path for path in found}, **{path.name: path for path in found}}
    stems = {normal(path.stem).lower(): path.name for path in found}

    def find(mask):
        name = names.get(mask.name) or names.get(normal(mask.name))
        if name is None:
            return None, "the pairs name no reference for it"
        near = stems.get(normal(Path(name).stem).lower())
        return (files.get(name) or files.get(normal(name)),
                f"its reference '{name}' is no file" + (f", but {near} is there" if near else ""))
    return find


def of_equal_stems(found):
    """find(mask) -> (the path in `found` of the mask's stem, or the only one, or None; what is wrong)."""
    files, others = {}, {}
    for path in found:
        files.setdefault(normal(path.stem), []).append(path)

    def find(mask):
        same = files.get(normal(mask.stem), found if len(found) == 1 else [])
        if len(same) > 1:
            return None, "has two references, " + " and ".join(path.name for path in same)
        if same:
            return same[0], None
        if found and not others:                        # what else is there, looked at once
            others.update((normal(Path(name).stem), name) for name in os.listdir(found[0].parent))
        other = others.get(normal(mask.stem))
        return None, "has no reference of the same name" + (
            f": {other} is of a kind that is not read" if other else "")
    return find
