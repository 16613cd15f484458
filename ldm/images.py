"""Images at the edges of the program: H x W x 3 uint8 RGB arrays, label maps H x W uint8."""
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ldm.errors import UserError
from ldm.files import replacing
from ldm.labels import NUM_CLASSES

SUFFIXES = (".jpg", ".jpeg", ".png")


def list_images(folder, suffixes=SUFFIXES):
    """Image files directly in `folder`, sorted by name; a missing or empty folder is a UserError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(folder, "is no folder", f"a folder of {', '.join(suffixes)} files is needed")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))
    if not paths:
        raise UserError(folder, "holds no image", f"{', '.join(suffixes)} files are read")
    return paths


def _open(path):
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise UserError(path, "does not exist", "a PNG or JPEG file is needed")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise UserError(path, f"cannot be read as an image ({e})", "a whole PNG or JPEG file is needed")
    return image


def read_image(path, size=None):
    """RGB image H x W x 3 uint8. Grey, palette and RGBA files are converted (transparency over white);
    `size` = (width, height) resizes with an antialiasing filter."""
    image = _open(path)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if size is not None and image.size != tuple(size):
        image = image.resize(size, Image.LANCZOS)
    return np.asarray(image)


def read_labels(path, size=None):
    """Label map H x W uint8, every value checked to be a class; `size` (width, height) resizes, NEAREST."""
    image = _open(path)
    if image.mode not in ("L", "P"):
        raise UserError(path, f"is a {image.mode} image",
                        f"a label map is 8-bit grey with values 0..{NUM_CLASSES - 1}")
    top = np.asarray(image).max()
    if top >= NUM_CLASSES:
        raise UserError(path, f"holds label {top}", f"labels are 0..{NUM_CLASSES - 1}")
    if size is not None and image.size != tuple(size):
        image = image.resize(size, Image.NEAREST)
    return np.asarray(image)


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
