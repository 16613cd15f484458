"""From a decoded picture to classes: which greys, palettes and colours are unambiguous label maps."""
from __future__ import annotations

import logging
from typing import Optional

import numpy as np

from ldm.decoding import Decoded
from ldm.errors import UserError
from ldm.files import Name
from ldm.labels import COLORS, NUM_CLASSES, OTHER
from ldm.mask_colors import Table, in_hex

log = logging.getLogger(__name__)
LOSSLESS = ("PNG", "BMP", "TIFF")
UNKNOWN, LONG_LIST = 255, 100            # a value that is no class; unknown colours in an error's details
LISTED = 6                              # unknown colours in an error
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
WANTED = f"save it as a grey PNG (or BMP, TIFF) with values 0..{NUM_CLASSES - 1}"
_warned: set[str] = set()               # warnings that this process has printed: one per folder is enough


def classes(decoded: Decoded, path: Name, ignore: tuple[int, ...] = (),
            table: Optional[Table] = None) -> np.ndarray:
    """The classes of a label map, H x W uint8.

    Accepted are grey images of any depth whose values are classes, and colour images whose colours are such
    greys or exactly the class colours (ldm.labels.COLORS). Palettes follow the same rules; if their colours
    are others, the indices are the classes, with a warning. ignore: values that are not classes and become
    "other". table: the colours are looked up there instead, and all others are refused. Raises UserError for
    anything else, and for lossy formats such as JPEG.
    """
    if decoded.format not in LOSSLESS or decoded.compression in LOSSY_TIFF:
        raise UserError(path, f"is a label map saved as {decoded.format}, which changes label values",
                        "save the original as PNG")
    if table is not None:
        return _of_table(decoded, path, table)
    values = _values(decoded, path)
    if ignore:
        values = np.where(np.isin(values, ignore), OTHER, values)
    for value in (values.max(), values.min()):
        if not 0 <= value < NUM_CLASSES:
            remedy = f", or give --ignore {value} to read it as 'other'" if value > 0 else ""
            raise UserError(path, f"holds label {value}", f"use labels 0..{NUM_CLASSES - 1}{remedy}")
    return values.astype(np.uint8)


def _values(decoded, path):
    """The value at each pixel, integers H x W."""
    image, raw = decoded.image, decoded.raw
    if image.mode == "P":
        return _of_palette(image, path)
    if image.mode == "L":               # Pillow scales greys of 2 and 4 bits to 0..255
        return np.asarray(image) // {"L;2": 85, "L;4": 17}.get(raw[:3], 1)
    if image.mode == "1" or image.mode.startswith("I"):
        return np.asarray(image).astype(np.int64)
    rgb = _opaque(image, raw, path, ("RGB", "RGBA", "LA", "PA")).astype(np.int64)
    codes, where = np.unique(rgb @ (65536, 256, 1), return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1)
    values = of_colours(colours)
    if (values < 0).any():
        wrong = tuple(int(c) for c in colours[values < 0][0])
        raise UserError(path, f"is a colour image with the colour {wrong}, which belongs to no class",
                        f"{WANTED}, use exactly the colours listed in data/README.md, or give --mask-colors")
    return values[where].reshape(rgb.shape[:2])


def _opaque(image, raw, path, modes):
    """H x W x 3 uint8. Raises UserError for other modes, for 16 bits and for transparent pixels."""
    if image.mode not in modes or ";16" in raw:
        kind = "16-bit colours" if ";16" in raw else image.mode
        raise UserError(path, f"is not a label map ({kind})", WANTED)
    if image.mode in ("RGBA", "LA", "PA") and np.asarray(image.getchannel("A")).min() < 255:
        raise UserError(path, "has transparent pixels, which have no class", WANTED)
    return np.asarray(image.convert("RGB"))


def _of_table(decoded, path, table):
    """The class of each pixel's colour, H x W uint8."""
    rgb = _opaque(decoded.image, decoded.raw, path, ("1", "L", "P", "RGB", "RGBA", "LA", "PA"))
    codes = rgb[..., 0].astype(np.int32) << 16 | rgb[..., 1].astype(np.int32) << 8 | rgb[..., 2]
    known = np.full(2 ** 24, UNKNOWN, np.uint8)
    for *color, label in table:
        known[int.from_bytes(bytes(color), "big")] = label
    values = known[codes]
    if (values == UNKNOWN).any():
        _refuse_unknown(codes[values == UNKNOWN], codes.size, path)
    return values


def _refuse_unknown(codes, pixels, path):
    """Raise a UserError that lists the colours of these pixels with their shares of all `pixels`."""
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    listed = [f"{in_hex(int(found[i]).to_bytes(3, 'big'))} {100 * counts[i] / pixels:.2g} %" for i in order]
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    raise UserError(path, f"has {len(listed)} colours without a class: {', '.join(listed[:LISTED])}{more}",
                    "name them in the file of --mask-colors, and draw without soft edges",
                    details=[f"{path}: {line}" for line in listed[:LONG_LIST]])


def of_colours(colours: np.ndarray) -> np.ndarray:
    """N x 3 colours -> N values: a grey gives its own value, a class colour its class, all others -1."""
    values = np.full(len(colours), -1)
    grey = (colours == colours[:, :1]).all(1)
    values[grey] = colours[grey, 0]
    for label, colour in enumerate(COLORS.astype(np.int64)):
        values[(colours == colour).all(1)] = label
    return values


def _of_palette(image, path):
    """Classes of a palette image. Class colours win over indices: painting programs order palettes freely."""
    indices = np.asarray(image)
    used = np.unique(indices)
    palette = np.array(image.getpalette("RGB"), np.int64).reshape(-1, 3)
    if used[-1] < len(palette):
        values = of_colours(palette[used])
        known = values.min() >= 0 and len(set(values)) == len(values)
        if known and (values < NUM_CLASSES).all():
            table = np.zeros(256, np.int64)
            table[used] = values
            return table[indices]
    if "palette" not in _warned:
        _warned.add("palette")
        log.warning("%s: its palette does not hold class colours, so its indices are read as classes "
                    "(this warning is shown once)", path)
    return indices
