"""Weight files of the metrics: search path, origin, and which metrics are unavailable without them.

Nothing is ever downloaded.
"""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from ldm import files
from ldm.errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl", ".ckpt")


class Wanted(NamedTuple):
    """The weights of one network."""
    folders: Tuple[str, ...]    # in the models folder; the first that holds a file is used
    file: str                   # its usual name or a description
    where: str                  # its origin
    without: str                # the metrics that are unavailable without it


KINDS = {
    "segformer": Wanted(
        ("segformer", "demo-segmenter"), "a SegFormer b0-b5 of the contest's 29 classes",
        "the contest's own is not public; github.com/Jittor/JSeg and github.com/NVlabs/SegFormer train one",
        "no M, no FD-seg and no T"),
    "nima": Wanted(
        ("nima",), "a NIMA such as NIMA_VGG16_ava-dc4e8265.pth",
        "github.com/chaofengc/IQA-PyTorch/releases/tag/v0.1-weights", "no A and no T"),
    "inception": Wanted(
        ("fid-inception",), "pt_inception-2015-12-05-6726825d.pth",
        "github.com/mseitzer/pytorch-fid/releases/tag/fid_weights",
        "no FID and no T; FD-seg, with the segmenter's features, replaces FID"),
}


def find(kind: str, path: Optional[files.Name] = None, models: files.Name = "models") -> Optional[Path]:
    """The weight file of `kind` (a key of KINDS): `path` if given, else the only one in its model folder.

    Returns None if there is none. Raises UserError if `path` is not a file or if a folder holds several.
    """
    if path is not None:
        files.open_regular(path, KINDS[kind].file).close()
        return Path(path)
    for name in KINDS[kind].folders:
        folder = Path(models) / name
        found = sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES and not p.name.startswith("."))
        if len(found) > 1:
            raise UserError(folder, f"holds {len(found)} weight files", f"keep one or give --{kind} FILE")
        if found:
            return found[0]
    return None


def missing(kind: str, models: files.Name = "models") -> str:
    """The message for the user if `find` returns None: which file, its origin, what is unavailable."""
    folders, file, where, without = KINDS[kind]
    return f"{Path(models) / folders[0]} holds no weights ({file}; {where}): {without}"
