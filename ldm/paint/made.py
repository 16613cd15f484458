"""Reads our own files: bundles, and pictures with a text about how they were made. Everything in them is
checked."""
from __future__ import annotations

import io
import json
import zipfile
from functools import partial
from typing import Any, NamedTuple, Optional

from ldm.errors import UserError
from ldm.inference import provenance, rounds
from ldm.paint import limits, presets, uploads
from ldm.paint.errors import Refusal
from ldm.paint.orders import ID, NAME
from ldm.paint.store import Mask, Reference
from ldm.values import LARGEST_SEED

ZIP = ("application/zip", "application/x-zip-compressed")


class Made(NamedTuple):
    """mask, reference: of a bundle, at the model's size. about: as the page gets it."""
    mask: Optional[Mask]
    reference: Optional[Reference]
    about: dict[str, Any]


def read(data: bytes, name: str, size: tuple[int, int]) -> Optional[Made]:
    """The content of a file; None for a picture without a text. Raises UserError and Refusal. name: of the
    client's file, for messages."""
    if data.startswith(b"PK"):
        return of_bundle(data, name, size)
    note = provenance.of_file(io.BytesIO(data))
    return None if note is None else Made(None, None, checked(note, note.get("settings")))


def of_bundle(data: bytes, name: str, size: tuple[int, int]) -> Made:
    """The parts of a zip file of bundle.py."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            part = partial(_part, archive)
            job = json.loads(part("job.json", limits.JOB_BODY))
            mask, style = part(job["mask"]), job["style"] and part(job["style"])
            about = {**checked(job, job["rounds"]), "reference": None}
    except Exception:                           # a damaged zip raises anything: BadZipFile, zlib.error, ...
        raise Refusal(422, name, "is no bundle of this page", "open one that was saved here") from None
    reference = style and uploads.reference_of_image(style, size, name)
    return Made(uploads.mask_of_image(mask, size, name).mask, reference or None, about)


def _part(archive, name, most=limits.BODY):
    """A file in the archive. It may say that it is small and not be so."""
    with archive.open(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(name)
    return data


def checked(note: dict[str, Any], tree: Any) -> dict[str, Any]:
    """What of a note the page can use: anybody may have written it. rounds: None where they are wrong. mask,
    reference: ids, None for none; tools/infer.py and the API write no ids."""
    seed, name = note.get("seed"), note.get("name")
    try:
        plain = presets.plain(rounds.check(tree))
    except UserError:
        plain = None
    ids: dict[str, Any] = {
        key: value if isinstance(value := note.get(key), str) and ID.fullmatch(value) else None
        for key in ("mask", "reference") if key in note}
    return {**ids, "seed": seed if type(seed) is int and 0 <= seed <= LARGEST_SEED else 0,
            "name": name if isinstance(name, str) and NAME.fullmatch(name) else "image", "rounds": plain}
