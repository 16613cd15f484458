"""From a decoded picture to classes: what of greys, palettes and colours is a label map beyond doubt."""
from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ldm.decoding import Decoded
from ldm.errors import UserError
from ldm.labels import COLORS, NUM_CLASSES, OTHER

log = logging.getLogger(__name__)
LOSSLESS = ("PNG", "BMP", "TIFF")
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
WANTED = f"a label map is a grey PNG (or BMP, TIFF) with values 0..{NUM_CLASSES - 1}"
_said = set()                           # what this process has warned of: once is enough for a whole folder


def classes(decoded: Decoded, path: str | Path, ignore: tuple[int, ...] = ()) -> np.ndarray:
    """The classes H x W uint8 of a label map, every value checked to be one.

    Read are greys of any number of bits whose values are classes; colours that are greys of such values, or
    that are exactly the classes' colours (ldm.labels.COLORS); palettes by these rules, and if their colours
    are others by index, with a warning. `ignore`: values that are no class and are taken as "other".
    UserError for all else, and for formats that change values, such as JPEG.
    """
    if decoded.format not in LOSSLESS or decoded.compression in LOSSY_TIFF:
        raise UserError(path, f"is a label map saved as {decoded.format}, which changes its values",
                        "save the original as PNG")
    values = _values(decoded, path)
    if ignore:
        values = np.where(np.isin(values, ignore), OTHER, values)
    for value in (values.max(), values.min()):
        if not 0 <= value < NUM_CLASSES:
            remedy = f"; --ignore {value} takes it as 'other'" if value > 0 else ""
            raise UserError(path, f"holds label {value}", f"labels are 0..{NUM_CLASSES - 1}{remedy}")
    return values.astype(np.uint8)


def _values(decoded, path):
    """What the map holds at each pixel, integers H x W."""
    image, raw = decoded.image, decoded.raw
    if image.mode == "P":
        return _of_palette(image, path)
    if image.mode == "L":               # Pillow spreads greys of 2 and 4 bits over 0..255
        return np.asarray(image) // {"L;2": 85, "L;4": 17}.get(raw[:3], 1)
    if image.mode == "1" or image.mode.startswith("I"):
        return np.asarray(image).astype(np.int64)
    if image.mode not in ("RGB", "RGBA", "LA", "PA") or ";16" in raw:
        kind = "16-bit colours" if ";16" in raw else image.mode
        raise UserError(path, f"is a picture of another kind ({kind})", WANTED)
    if image.mode != "RGB":
        if np.asarray(image.getchannel("A")).min() < 255:
            raise UserError(path, "has transparent pixels, which have no class", WANTED)
        image = image.convert("RGB")
    rgb = np.asarray(image).astype(np.int64)
    codes, where = np.unique(rgb @ (65536, 256, 1), return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1)
    values = of_colours(colours)
    if (values < 0).any():
        wrong = tuple(int(c) for c in colours[values < 0][0])
        raise UserError(path, f"is a colour image with the colour {wrong}, which is no class's",
                        f"{WANTED}, or has exactly the colours listed in data/README.md")
    return values[where].reshape(rgb.shape[:2])


def of_colours(colours: np.ndarray) -> np.ndarray:
    """N x 3 colours -> N values: a grey's is itself, a class's colour is that class, -1 for all others."""
    values = np.full(len(colours), -1)
    grey = (colours == colours[:, :1]).all(1)
    values[grey] = colours[grey, 0]
    for label, colour in enumerate(COLORS.astype(np.int64)):
        values[(colours == colour).all(1)] = label
    return values


def _of_palette(image, path):
    """A palette's colours decide where they name classes: painting programs number colours as they like."""
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
    if "palette" not in _said:
        _said.add("palette")
        log.warning("%s: its palette has colours that are no classes', so its indices are taken as classes "
                    "(this is said once)", path)
    return indices
