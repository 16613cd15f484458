"""The published weights that the numbers need: where they are looked for, where they come from, what is lost
without.

Nothing is ever downloaded.
"""
from pathlib import Path
from typing import NamedTuple

from ldm import files
from ldm.errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl", ".ckpt")


class Wanted(NamedTuple):
    folders: tuple          # in the models, the first that holds a file wins
    file: str
    where: str
    without: str


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
        "no FID and no T; a Fréchet distance of the segmenter's features stands in as FD-seg"),
}


def find(kind, path=None, models="models"):
    """The file of weights of `kind` (a key of KINDS): `path` if given, else the only one in its folder of
    `models`, or None. UserError where `path` is no file, or where a folder holds several."""
    if path is not None:
        files.open_regular(path, KINDS[kind].file).close()
        return Path(path)
    for name in KINDS[kind].folders:
        folder = Path(models) / name
        found = sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES and not p.name.startswith("."))
        if len(found) > 1:
            raise UserError(folder, f"holds {len(found)} files of weights", f"keep one or give --{kind} FILE")
        if found:
            return found[0]
    return None


def missing(kind, models="models"):
    """What to tell the user where `find` gave None: which file, where it is published, what is done without
    it."""
    folders, file, where, without = KINDS[kind]
    return f"{Path(models) / folders[0]} holds no weights ({file}; {where}): {without}"
