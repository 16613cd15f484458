"""Folders in the contest's form: images and label maps for training, masks and references for inference."""
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ldm import images
from ldm.errors import UserError


def training_pairs(folder, size=None, progress=lambda iterable, total: iterable):
    """[(image path, label path)] of `folder`/train_resized/{imgs,labels} (or `folder`/{imgs,labels}), sorted.

    Every image must have its label map and the reverse. With `size` = (width, height) every file is read too:
    it must be whole, the two of a pair of one size and of the proportions of `size`, labels classes;
    `progress(iterable, total)` may show that. All faults are found in one go, as the error's `details`.
    """
    folder = Path(folder)
    root = folder / "train_resized" if (folder / "train_resized").is_dir() else folder
    pictures, faults = by_stem(images.list_images(root / "imgs"))
    maps, more = by_stem(images.list_images(root / "labels"))
    faults += more
    for found, others in ((pictures, root / "labels"), (maps, root / "imgs")):
        present = maps if found is pictures else pictures
        faults += [f"{found[stem]}: has no partner in {others}"
                   for stem in sorted(found.keys() - present.keys())]
    pairs = [(pictures[stem], maps[stem]) for stem in sorted(pictures.keys() & maps.keys())]
    if size is not None:
        with ThreadPoolExecutor() as pool:                 # decoding lets other threads run
            checks = pool.map(lambda pair: pair_faults(*pair, size), pairs)
            faults += [fault for found in progress(checks, len(pairs)) for fault in found]
    if faults:
        raise UserError(root, f"{len(faults)} of its files cannot be used, the first is {faults[0]}",
                        "every image needs a label map of its name and size", faults)
    return pairs


class Pictures:
    """Training images at `size` = (width, height), read when they are asked for: the contest's 10,000 would
    take 5.9 GB."""

    def __init__(self, paths, size):
        self.paths, self.size = paths, size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return images.read_image(self.paths[i], self.size)


def by_stem(paths):
    """({stem: path}, a fault for each further file of a stem)."""
    found = {}
    for path in paths:
        found.setdefault(path.stem, path)
    return found, [f"{p}: has the name of {found[p.stem].name}" for p in paths if found[p.stem] != p]


def pair_faults(picture, labels, size):
    """What is wrong with a training image and its label map, as texts; [] if nothing is."""
    faults, sizes = [], []
    for path, read in ((picture, images.read_image), (labels, images.read_labels)):
        try:
            sizes.append(read(path).shape[1::-1])
        except UserError as e:
            faults.append(str(e))
    if faults:
        return faults
    (width, height), other = sizes
    if sizes[0] != other:
        return [f"{labels}: is {other[0]} x {other[1]}, but its image {width} x {height}"]
    if not images.same_proportions((width, height), size):
        return [f"{picture}: is {width} x {height}, other proportions than {size[0]} x {size[1]}"]
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
    try:
        pairs = json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise UserError(path, f"cannot be read ({e})", 'JSON like {"mask.png": "image.jpg"} is needed')
    if not isinstance(pairs, dict) or not all(isinstance(v, str) for v in pairs.values()):
        raise UserError(path, "is another kind of JSON", '{"mask.png": "image.jpg"} is needed')
    return pairs


def inference_pairs(masks, references, pairs=None):
    """([(mask path, reference path)] sorted by mask, [UserError of each mask that has none]).

    `pairs` maps mask names to reference names; without it a reference has its mask's stem, or is the only
    one. A name in `pairs` that is no mask is an error too; masks of the folder that `pairs` leaves out
    have no reference.
    """
    paths = {p.name: p for p in images.list_images(masks, (".png",))}
    found = {p.name: p for p in images.list_images(references)}
    by_stem = {p.stem: p for p in found.values()}
    matched, errors = [], []
    for name, path in paths.items():
        if pairs is not None:
            reference = found.get(pairs.get(name))
            wrong = (f"its reference '{pairs[name]}' is no file" if name in pairs
                     else "the pairs name no reference for it")
        else:
            reference = by_stem.get(path.stem) or (next(iter(found.values())) if len(found) == 1 else None)
            wrong = "has no reference of the same name"
        if reference is None:
            errors.append(UserError(path, wrong, f"an image in {references} is needed"))
        else:
            matched.append((path, reference))
    errors += [UserError(Path(masks) / name, "is named in the pairs but is no file", "a mask is needed")
               for name in sorted((pairs or {}).keys() - paths.keys())]
    return matched, errors
