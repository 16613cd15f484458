"""Reading and writing images (H x W x 3 uint8 RGB) and label maps (H x W uint8)."""
from __future__ import annotations

import io
import math
import os
from numbers import Integral
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from ldm.decoding import Decoded, decode, to_rgb
from ldm.documents import short
from ldm.errors import UserError
from ldm.files import Name, kind_of, replacing
from ldm.label_maps import classes
from ldm.mask_colors import Table
from ldm.mask_colors import load as load_colors

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAP_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")            # of lossless formats, for label maps
PROPORTIONS = 0.02                      # aspect ratios that differ by less count as equal
FITS = ("refuse", "crop")

Size = Sequence[int]                    # width, height


class Reading(NamedTuple):
    """How a user's files are read. All tools use the same rules.

    ignore: label values that are not classes and are read as "other".
    fit: for a label map whose aspect ratio differs from the requested size: "refuse" it, or "crop" it to
    the centre. With "crop" photographs are cropped too, otherwise they are stretched.
    mask_colors: the classes of a label map's colours, see ldm.mask_colors; None: see label_maps.classes.
    """
    ignore: Tuple[int, ...] = ()
    fit: str = "refuse"
    mask_colors: Optional[Table] = None

    def tree(self) -> dict[str, Any]:
        """Plain data, by which two readings are compared. It leaves out mask_colors if there are none."""
        tree = self._asdict()
        return tree if self.mask_colors else {key: tree[key] for key in ("ignore", "fit")}


def reading(ignore: Iterable[Any] = (), fit: str = "refuse", mask_colors: Any = None,
            names: Sequence[str] = ("ignore", "fit", "mask_colors")) -> Reading:
    """A Reading from a user's values. names: what the UserErrors call them."""
    if fit not in FITS:
        raise UserError(names[1], f"is {short(fit)}", f"choose {' or '.join(FITS)}")
    if not isinstance(ignore, Iterable):
        raise UserError(names[0], f"is {short(ignore)}", "give a list of label values")
    found = list(ignore)
    for value in found:
        if not isinstance(value, Integral) or not 0 <= int(value) < 2 ** 16:
            raise UserError(names[0], f"is {short(value)}", "choose values from 0 to 65535")
    if mask_colors is not None and found:
        raise UserError(names[0], f"has no effect with {names[2]}", "leave one of them out")
    table = None if mask_colors is None else load_colors(mask_colors)
    return Reading(tuple(sorted({int(value) for value in found})), fit, table)


AS_IS = Reading()


def list_images(folder: Name, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Image files directly in `folder`, sorted by name. Raises UserError if it is missing or has none."""
    folder = Path(folder)
    if kind_of(folder) != "folder":
        raise UserError(folder, "is not a folder", f"give a folder of {', '.join(suffixes)} files")
    try:
        names = sorted(os.listdir(folder))
    except OSError as e:
        raise UserError(folder, f"cannot be read ({e.strerror or e})", "give a readable folder") from None
    paths = [folder / name for name in names
             if os.path.splitext(name)[1].lower() in suffixes and not name.startswith(".")]
    if not paths:
        raise UserError(folder, "holds no image", f"give a folder of {', '.join(suffixes)} files")
    return paths


def read_image(path: Name, size: Optional[Size] = None, fit: str = "refuse") -> np.ndarray:
    """Read an RGB image, H x W x 3 uint8.

    Grey, palette and RGBA files are converted (transparent pixels become white), and the EXIF orientation is
    applied. `size` = (width, height) resizes with an antialiasing filter. fit: see Reading. Raises UserError
    if the file cannot be read as an image.
    """
    return picture_of(decode(path), path, size, fit)


def picture_of(decoded: Decoded, subject: Name, size: Optional[Size] = None,
               fit: str = "refuse") -> np.ndarray:
    """As `read_image`, from an image that is decoded already. subject: what a UserError names."""
    return np.asarray(sized(to_rgb(decoded, subject), size, fit, Image.Resampling.LANCZOS))


def read_labels(path: Name, size: Optional[Size] = None, reading: Reading = AS_IS) -> np.ndarray:
    """Read a label map, H x W uint8. `size` = (width, height) resizes it by nearest neighbour.

    Raises UserError if a value is not a class, or if the aspect ratio differs from that of `size` and
    `reading` does not crop.
    """
    return labels_of(decode(path), path, size, reading)


def labels_of(decoded: Decoded, subject: Name, size: Optional[Size] = None,
              reading: Reading = AS_IS) -> np.ndarray:
    """As `read_labels`, from an image that is decoded already. subject: what a UserError names."""
    image = Image.fromarray(classes(decoded, subject, reading.ignore, reading.mask_colors))
    if size is not None and reading.fit == "refuse" and not same_proportions(image.size, size):
        part = math.gcd(*size)
        raise UserError(subject, f"is {image.width} x {image.height} pixels, other proportions than "
                                 f"{size[0] // part} : {size[1] // part}",
                        "crop it, or give --fit crop to use its centre")
    return np.asarray(sized(image, size, reading.fit, Image.Resampling.NEAREST))


def same_proportions(a: Size, b: Size) -> bool:
    """Whether two sizes have the same aspect ratio, up to rounding."""
    return abs(a[0] * b[1] / (a[1] * b[0]) - 1) <= PROPORTIONS


def sized(image: Image.Image, size: Optional[Size], fit: str, filter: Image.Resampling) -> Image.Image:
    """`image` at `size` = (width, height), or as it is for None. fit: see Reading; only "crop" crops."""
    if size is None or image.size == tuple(size):
        return image
    box = None
    if fit == "crop" and not same_proportions(image.size, size):
        scale = min(image.width / size[0], image.height / size[1])
        width, height = size[0] * scale, size[1] * scale
        left, top = (image.width - width) / 2, (image.height - height) / 2
        box = (left, top, left + width, top + height)
    return image.resize((size[0], size[1]), filter, box)


def write_image(path: Name, array: np.ndarray, quality: int = 95) -> None:
    """Write uint8 H x W [x 3] atomically, as JPEG or PNG by the suffix. Raises UserError if it cannot."""
    with replacing(path) as temporary:
        Image.fromarray(array).save(temporary, quality=quality)


def jpeg_roundtrip(image: np.ndarray, quality: int = 75) -> np.ndarray:
    """Compress and decompress H x W x 3 uint8 as JPEG, as the entry does between its rounds."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resize(image: np.ndarray, size: Size, smooth: bool = True) -> np.ndarray:
    """Resize H x W [x 3] uint8 to `size`, antialiased or (smooth=False) by nearest neighbour."""
    filter = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((size[0], size[1]), filter))


def grid(rows: Sequence[Sequence[np.ndarray]], headings: Optional[Sequence[str]] = None,
         gap: int = 6) -> np.ndarray:
    """Arrange rows of H x W x 3 uint8 images of one size in one picture, with headings above the columns."""
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


def to_network(image: np.ndarray) -> np.ndarray:
    """H x W x 3 uint8 -> 3 x H x W float32 in -1..1."""
    return image.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1


def from_network(array: np.ndarray) -> np.ndarray:
    """3 x H x W in about -1..1 -> H x W x 3 uint8, rounded and clipped."""
    return np.clip(np.round((array.transpose(1, 2, 0) + 1) * 127.5), 0, 255).astype(np.uint8)
