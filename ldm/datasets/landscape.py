"""Folders in the contest's form: images and label maps for training, masks and references for inference."""
import json
from pathlib import Path

from ldm import images
from ldm.errors import UserError


def training_pairs(folder):
    """[(image path, label path)] of `folder`/train_resized/{imgs,labels} (or `folder`/{imgs,labels}), sorted.

    Every image must have its label map and the reverse; all that lack theirs are named at once.
    """
    folder = Path(folder)
    root = folder / "train_resized" if (folder / "train_resized").is_dir() else folder
    pictures = {p.stem: p for p in images.list_images(root / "imgs")}
    labels = {p.stem: p for p in images.list_images(root / "labels")}
    lonely = [str(pictures.get(s) or labels[s]) for s in sorted(pictures.keys() ^ labels.keys())]
    if lonely:
        raise UserError(root, f"{len(lonely)} files have no partner: {shorten(lonely)}",
                        "each of imgs/ needs one of the same name in labels/, and the reverse")
    return [(pictures[s], labels[s]) for s in sorted(pictures)]


def shorten(names, most=5):
    """The first few of a list of names, as text."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


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
