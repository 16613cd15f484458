"""Images at the edges of the program: H x W x 3 uint8 RGB arrays, label maps H x W uint8."""
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ldm.decoding import decode, to_rgb
from ldm.errors import UserError
from ldm.files import kind_of, replacing
from ldm.label_maps import classes

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAP_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")            # of formats that keep a label map's values
PROPORTIONS = 0.02                      # sides' ratios that differ by less are called the same
FITS = ("refuse", "crop")


class Reading(NamedTuple):
    """How a user's files are taken, the same for every tool that reads them.

    ignore: values of label maps that are no class and become "other". fit: what happens to a label map of
    other proportions than the size that it is read at: "refuse" it, or "crop" it to the middle; with "crop"
    a photograph is cropped too, else it is stretched.
    """
    ignore: tuple = ()
    fit: str = "refuse"


AS_IS = Reading()


def list_images(folder, suffixes=SUFFIXES):
    """Image files directly in `folder`, sorted by name; a missing or empty folder is a UserError."""
    folder = Path(folder)
    if kind_of(folder) != "folder":
        raise UserError(folder, "is no folder", f"a folder of {', '.join(suffixes)} files is needed")
    try:
        found = sorted(folder.iterdir())
    except OSError as e:
        raise UserError(folder, f"cannot be read ({e.strerror or e})", "a folder is needed") from None
    paths = [p for p in found if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if not paths:
        raise UserError(folder, "holds no image", f"{', '.join(suffixes)} files are read")
    return paths


def read_image(path, size=None, fit="refuse"):
    """RGB image H x W x 3 uint8. Grey, palette and RGBA files are converted (transparency over white), and an
    EXIF orientation is applied; `size` = (width, height) resizes with an antialiasing filter. fit: see
    Reading."""
    return np.asarray(_sized(to_rgb(decode(path), path), size, fit, Image.LANCZOS))


def read_labels(path, size=None, reading=AS_IS):
    """Label map H x W uint8, every value checked to be a class; `size` (width, height) resizes, NEAREST. One
    of other proportions than `size` is a UserError, or cropped: see Reading."""
    image = Image.fromarray(classes(decode(path), path, reading.ignore))
    if size is not None and reading.fit == "refuse" and not same_proportions(image.size, size):
        part = math.gcd(*size)
        raise UserError(path, f"is {image.width} x {image.height} pixels, other proportions than "
                              f"{size[0] // part} : {size[1] // part}",
                        "crop it, or give --fit crop to take its middle")
    return np.asarray(_sized(image, size, reading.fit, Image.NEAREST))


def same_proportions(a, b):
    """Whether two sizes (width, height) have the same proportions, but for rounding."""
    return abs(a[0] * b[1] / (a[1] * b[0]) - 1) <= PROPORTIONS


def _sized(image, size, fit, filter):
    if size is None or image.size == tuple(size):
        return image
    box = None
    if fit == "crop" and not same_proportions(image.size, size):
        scale = min(image.width / size[0], image.height / size[1])
        width, height = size[0] * scale, size[1] * scale
        left, top = (image.width - width) / 2, (image.height - height) / 2
        box = (left, top, left + width, top + height)
    return image.resize(size, filter, box)


def write_image(path, array, quality=95):
    """Write uint8 H x W [x 3] under another name, then rename. JPEG or PNG by suffix."""
    with replacing(path) as temporary:
        Image.fromarray(array).save(temporary, quality=quality)


def jpeg_roundtrip(image, quality=75):
    """H x W x 3 uint8 -> the same after JPEG: what the entry's rounds hand to each other."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resize(image, size, smooth=True):
    """H x W [x 3] uint8 to `size` = (width, height)."""
    return np.asarray(Image.fromarray(image).resize(size, Image.LANCZOS if smooth else Image.NEAREST))


def grid(rows, headings=None, gap=6):
    """Rows of equally large H x W x 3 images -> one uint8 picture, with optional headings over columns."""
    height, width = rows[0][0].shape[:2]
    head = 18 if headings else 0
    columns = max(len(row) for row in rows)
    canvas = np.full((head + len(rows) * (height + gap) + gap, columns * (width + gap) + gap, 3),
                     255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            y, x = head + gap + r * (height + gap), gap + c * (width + gap)
            canvas[y:y + height, x:x + width] = image
    if headings:
        picture = Image.fromarray(canvas)
        for c, text in enumerate(headings):
            ImageDraw.Draw(picture).text((gap + c * (width + gap), 5), text, fill=(0, 0, 0))
        canvas = np.asarray(picture)
    return canvas


def to_network(image):
    """H x W x 3 uint8 -> 3 x H x W float32 in -1..1."""
    return image.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1


def from_network(array):
    """3 x H x W in about -1..1 -> H x W x 3 uint8, rounded and clipped."""
    return np.clip(np.round((array.transpose(1, 2, 0) + 1) * 127.5), 0, 255).astype(np.uint8)
