"""Weight files of the metrics: search path, origin, and which metrics are unavailable without them.

Nothing is downloaded here; tools/get_weights.py does that.
"""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple

from ldm import files, weights
from ldm.errors import UserError
from ldm.weights import published

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl", ".ckpt")


class Wanted(NamedTuple):
    """The weights of one network."""
    folders: Tuple[str, ...]    # in the models folder: the user's own, then those in git
    file: str                   # a description
    published: str              # its name in the list of published weights, "" if nobody publishes it
    without: str                # the metrics that are unavailable without it


KINDS = {
    "segformer": Wanted(("segformer", "demo-segmenter", "demo-128-segmenter"),
                        "a SegFormer b0-b5 of the contest's 29 classes", "", "no M, no FD-seg and no T"),
    "nima": Wanted(("nima",), "a NIMA", "nima", "no A and no T"),
    "inception": Wanted(("fid-inception",), "the FID's Inception", "fid-inception",
                        "no FID and no T; FD-seg, with the segmenter's features, replaces FID"),
}
NOT_PUBLISHED = "the contest's own is not public; tools/train_segmenter.py trains one"


def find(kind: str, path: Optional[files.Name] = None, models: files.Name = "models",
         size: Optional[Sequence[int]] = None) -> Optional[Path]:
    """The weight file of `kind` (a key of KINDS): `path` if given, else the only one in its model folder.

    size: (width, height) of the pictures to measure; of the segmenters in git the one for this size is taken.
    Returns None if there is none. Raises UserError if `path` is not a file or if a folder holds several.
    """
    if path is not None:
        files.open_regular(path, KINDS[kind].file).close()
        return Path(path)
    folders = [Path(models) / name for name in KINDS[kind].folders]
    found = [file for folder in folders if (file := _only(folder, kind))]
    if size is not None and found and found[0].parent != folders[0]:
        found.sort(key=lambda file: size_of(file) != tuple(size))
    return found[0] if found else None


def _only(folder, kind):
    """The weight file in a folder, None if there is none."""
    found = sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES and not p.name.startswith("."))
    if len(found) > 1:
        raise UserError(folder, f"holds {len(found)} weight files", f"keep one or give --{kind} FILE")
    return found[0] if found else None


def size_of(path: files.Name) -> Optional[Tuple[int, ...]]:
    """(width, height) of the pictures that a segmenter of ours was trained on; None of another's."""
    with weights.opened(path) as (_, config):
        size = config.get("image_size") if isinstance(config, dict) else None
    return tuple(size) if isinstance(size, list) and [type(side) for side in size] == [int, int] else None


def find_labeller(path: Optional[files.Name] = None, models: files.Name = "models") -> Path:
    """The weights of a SegFormer of ADE20K: `path` if given, else the largest in models/segformer-ade-*."""
    if path is not None:
        files.open_regular(path, "a SegFormer of ADE20K").close()
        return Path(path)
    for folder in sorted(Path(models).glob("segformer-ade-*"), reverse=True):
        found = sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES and not p.name.startswith("."))
        if found:
            return found[0]
    raise UserError(Path(models) / "segformer-ade-b5", "holds no weights",
                    f"{published.how_to_get('segformer-ade-b5')}; segformer-ade-b0 is smaller and less exact")


def missing(kind: str, models: files.Name = "models") -> str:
    """The message for the user if `find` returns None: which file, how to get it, what is unavailable."""
    folders, file, name, without = KINDS[kind]
    how = published.how_to_get(name) if name else NOT_PUBLISHED
    return f"{Path(models) / folders[0]} holds no weights ({file}; {how}): {without}"
