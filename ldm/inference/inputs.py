"""Inputs of the Python API: paths, Pillow images, arrays, and lists of them. Needs no Jittor."""
from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image

from ldm import images, values
from ldm.decoding import Decoded, decode, decoded
from ldm.documents import short
from ldm.errors import UserError
from ldm.images import Reading
from ldm.inference.batch import Batch

UNNAMED = "image"               # of a mask that is no file


class Wish(NamedTuple):
    """One picture to make."""

    mask: Any
    style: Any                  # None: no style reference
    seed: int
    name: str
    keep: Any = None            # where the style's own pixels stay


def wishes(mask: Any, style: Any, seed: Any, name: Any, keep: Any = None) -> tuple[list[Wish], bool]:
    """(a Wish for each mask and seed, mask by mask; whether the caller gave lists and expects a list).

    A list of masks, of styles, of names or of regions to keep has one entry per picture of the same seed; a
    single value is used for all. seed: a number or an iterable of numbers.
    """
    lists = {"mask": mask, "style": style, "name": name, "keep": keep}
    given = {key: list(value) for key, value in lists.items() if isinstance(value, (list, tuple))}
    count = max(map(len, given.values()), default=1)
    for key, value in given.items():
        if len(value) != count or not value:
            raise UserError(key, f"is a list of {len(value)}",
                            f"give a list of {max(count, 1)}, or one for all")
    seeds, one_seed = _seeds(seed)
    columns = [given.get(key, [lists[key]] * count) for key in lists]
    found = [Wish(m, s, k, _name(n, m), region) for m, s, n, region in zip(*columns) for k in seeds]
    return found, one_seed and not given


def _seeds(seed: Any) -> tuple[list[int], bool]:
    many = isinstance(seed, Iterable) and not isinstance(seed, (str, bytes))
    if isinstance(seed, np.ndarray) and seed.ndim == 0:
        many = False
    found = list(seed) if many else [seed]
    if not found:
        raise UserError("seed", "is an empty list", "give one or more numbers")
    return [_seed(value) for value in found], not many


def _seed(value: Any) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not 0 <= number <= values.LARGEST_SEED:
        raise UserError("seed", f"is {short(value)}", f"give a whole number from 0 to {values.LARGEST_SEED}")
    return number


def _name(name: Any, mask: Any) -> str:
    if name is None:
        return Path(os.fsdecode(mask)).stem if _is_path(mask) else UNNAMED
    if not isinstance(name, str):
        raise UserError("name", f"is {short(name)}", "give a text")
    try:
        os.fsencode(name)                       # the noise is a function of its bytes
    except UnicodeEncodeError:
        raise UserError("name", f"is {short(name)}, which cannot be encoded", "give another text") from None
    return name


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, bytes, os.PathLike))


def batch(found: Sequence[Wish], size: Sequence[int], latent_size: Sequence[int], reading: Reading,
          uses_reference: bool) -> Batch:
    """The arrays of all wishes. What occurs more than once is read once.

    uses_reference: whether the rounds use a style reference. Raises UserError for the first fault.
    """
    masks: dict[int, np.ndarray] = {}
    styles: dict[int, np.ndarray] = {}
    for wish in found:
        if id(wish.mask) not in masks:
            subject = _subject(wish.mask, "mask")
            masks[id(wish.mask)] = images.labels_of(opened(wish.mask, subject), subject, latent_size, reading)
        if wish.style is None and wish.keep is not None:
            raise UserError("style", "is missing, and a part of it is to be kept", "give a photograph")
        if wish.style is None and uses_reference:
            raise UserError("style", "is missing, and these rounds start at a photograph",
                            'give a photograph, or use rounds from noise, such as "noise"')
        if wish.style is not None and id(wish.style) not in styles:
            subject = _subject(wish.style, "style")
            source = opened(wish.style, subject, colors=True)
            styles[id(wish.style)] = images.picture_of(source, subject, size, reading.fit)
    keep = None
    if any(wish.keep is not None for wish in found):
        keep = np.stack([_region(wish.keep, size, reading.fit) for wish in found])
    references = None
    if uses_reference or keep is not None:
        references = np.stack([styles[id(wish.style)] for wish in found])
    return Batch(np.stack([masks[id(wish.mask)] for wish in found]), references,
                 [wish.name for wish in found], [wish.seed for wish in found], keep=keep)


def _region(source: Any, size: Sequence[int], fit: str) -> np.ndarray:
    """H x W bool: what is light in a picture, or not zero in an array of numbers. None: nothing."""
    if source is None:
        return np.zeros(size[::-1], bool)
    if hasattr(source, "__array__") and not isinstance(source, Image.Image):
        source = (np.asarray(source) != 0).astype(np.uint8) * 255
    subject = _subject(source, "keep")
    picture = images.picture_of(opened(source, subject, colors=True), subject, size, fit)
    return picture.max(2) > 127


def _subject(source: Any, word: str) -> str:
    return os.fsdecode(source) if _is_path(source) else word


def opened(source: Any, subject: str, colors: bool = False) -> Decoded:
    """A path, a Pillow image or an array as a decoded image. subject: what a UserError names.

    Arrays are H x W whole numbers or H x W x 3 uint8; with `colors`, of a photograph, they are uint8, H x W
    or H x W x 3 or 4.
    """
    if _is_path(source):
        return decode(os.fsdecode(source))
    if isinstance(source, Image.Image):
        return decoded(source, subject)
    image = _of_array(source, colors)
    if image is None:
        array = np.asarray(source) if hasattr(source, "__array__") else None
        what = short(source) if array is None else f"{array.dtype} of shape {array.shape}"
        shape = "uint8 of shape H x W x 3" if colors else "whole numbers of shape H x W"
        raise UserError(subject, f"is {what}", f"give a path, a Pillow image, or an array of {shape}")
    return decoded(image, subject)


def _of_array(source: Any, colors: bool) -> Optional[Image.Image]:
    """An array as an image; None if it is no array, or has another shape or type."""
    if not hasattr(source, "__array__"):
        return None
    array = np.asarray(source)
    if array.ndim not in (2, 3) or not array.size:
        return None
    if array.ndim == 3:
        right = array.dtype == np.uint8 and array.shape[2] in ((3, 4) if colors else (3,))
        return Image.fromarray(np.ascontiguousarray(array)) if right else None
    if colors or array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array)) if array.dtype == np.uint8 else None
    if not np.issubdtype(array.dtype, np.integer):
        return None
    limit = 2 ** 31 - 1                             # other values are no classes either
    return Image.fromarray(np.clip(array, -limit, limit).astype(np.int32))
