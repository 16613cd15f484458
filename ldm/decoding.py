"""Safe decoding of image files: listed formats only, bounded size, EXIF orientation applied."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import warnings
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ldm.errors import UserError
from ldm.files import Name, open_regular

# Without this list Pillow opens every format it knows, and passes PostScript to Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
NAMES = "PNG, JPEG, WebP, BMP, TIFF or GIF"
MAX_PIXELS = 120_000_000                # about 500 MB while the picture is decoded
ROWS = 256                              # that are converted at a time
MAX_SIDE = 65_535                       # as of JPEG; to resize a line of 10^8 pixels takes GB of weights
# Signatures of other files that often have a picture's name: (offset, bytes, description).
SIGNATURES = ((0, b"%!PS", "PostScript"), (0, b"\xc5\xd0\xd3\xc6", "PostScript"), (0, b"%PDF", "a PDF"),
              (4, b"ftyp", "HEIC or AVIF, as phones write it"), (0, b"\x00\x00\x00\x0cjP", "JPEG 2000"),
              (0, b"8BPS", "a Photoshop file"), (0, b"version https://git-lfs", "a Git LFS pointer"),
              (0, b"<", "text, perhaps a web page"), (0, b"\x1f\x8b", "gzip"), (0, b"PK", "a zip file"))

Image.MAX_IMAGE_PIXELS = MAX_PIXELS     # Pillow itself refuses at twice this number, after our check
warnings.filterwarnings("ignore", module=r"PIL\.")      # about metadata that is not used here


class Decoded(NamedTuple):
    """The first frame of an image file, with its EXIF orientation applied."""
    image: Image.Image
    format: str                 # one of FORMATS
    raw: str                    # Pillow's name for the stored pixel format: "L;4" is grey with 4 bits
    compression: str            # of a TIFF, else ""


def decode(path: Name) -> Decoded:
    """Open and decode `path`.

    Raises UserError for every fault: not a regular file, another format, too many pixels (known from the
    header, before anything is decoded), a truncated or damaged file.
    """
    with open_regular(path, "a picture") as file:
        return decode_file(file, path)


def decode_file(file: IO[bytes], path: Name, most: int = MAX_PIXELS) -> Decoded:
    """As `decode`, from an open file. path: the subject of a UserError. most: pixels that are accepted."""
    beginning = file.read(32)
    file.seek(0)
    try:
        return _loaded(Image.open(file, formats=FORMATS), path, most)
    except UserError:
        raise
    except Exception as e:              # for damaged files decoders raise anything: struct.error, ...
        raise UserError(path, f"cannot be read as an image ({_reason(beginning, e)})",
                        f"give an intact {NAMES} file") from None


def decoded(image: Image.Image, subject: Name) -> Decoded:
    """A Pillow image as `decode` gives a file's. An image that was never a file counts as PNG.

    subject: what the UserError of a damaged or too large image names.
    """
    try:
        return _loaded(image, subject)
    except UserError:
        raise
    except Exception as e:
        raise UserError(subject, f"cannot be read as an image ({_reason(b'?', e)})",
                        "give an intact image") from None


def _loaded(image: Image.Image, path: Name, most: int = MAX_PIXELS) -> Decoded:
    if image.width * image.height > most:
        raise UserError(path, f"is {image.width} x {image.height} pixels",
                        f"reduce it to at most {most // 10 ** 6} million pixels")
    if max(image.size) > MAX_SIDE:
        raise UserError(path, f"is {image.width} x {image.height} pixels",
                        f"reduce its sides to at most {MAX_SIDE} pixels")
    kind = "JPEG" if image.format == "MPO" else str(image.format or "PNG")
    if kind == "TIFF":
        _quiet_libtiff()
    raw, compression = _stored(image), str(image.info.get("compression", ""))
    image.load()
    return Decoded(ImageOps.exif_transpose(image), kind, raw, compression)


@functools.lru_cache
def _quiet_libtiff():
    """Keep libtiff from printing lines of its own about damaged files; our error says it. Pillow has loaded
    the library and has no switch for this."""
    with contextlib.suppress(OSError, StopIteration, AttributeError), open("/proc/self/maps") as maps:
        library = ctypes.CDLL(next(line.split(maxsplit=5)[5].strip() for line in maps if "/libtiff" in line))
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def _stored(image):
    tile = getattr(image, "tile", None)         # of an image that is a file and not loaded yet
    if not tile:
        return image.mode
    arguments = tile[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments or image.mode)


def _reason(beginning, error):
    if not beginning:
        return "it is empty"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10 ** 6} million pixels"
    for offset, signature, name in SIGNATURES:
        if beginning[offset:].startswith(signature):
            return f"it is {name}"
    if isinstance(error, Image.UnidentifiedImageError):
        return "unknown format, or damaged"
    return " ".join(str(error).split())[:120] or type(error).__name__


def whole_greys(decoded: Decoded, path: Name) -> np.ndarray | None:
    """A grey image of more than 8 bits as H x W uint8, or None for other images.

    The largest value of the file's type becomes white. Raises UserError for signed and floating-point greys,
    for which no white is defined.
    """
    mode, raw = decoded.image.mode, decoded.raw
    if mode == "F" or raw.endswith("S"):
        raise UserError(path, "holds floating-point or signed greys, for which white is not defined",
                        "save it with 8 bits per channel")
    if mode == "I" and raw.startswith("I;32"):
        values, white = np.asarray(decoded.image).view(np.uint32), 2 ** 32 - 1
    elif mode == "I" or mode.startswith("I;16"):
        values, white = np.asarray(decoded.image), 4095 if raw == "I;12" else 65535
    else:
        return None
    greys = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), ROWS):         # in parts: floats take eight times the memory
        greys[top:top + ROWS] = np.round(values[top:top + ROWS] / (white / 255))
    return greys


def to_rgb(decoded: Decoded, path: Name) -> Image.Image:
    """A photograph as an RGB image; grey, palette, CMYK and YCbCr are converted, transparent becomes white.

    Raises UserError for a colour space that cannot be converted.
    """
    greys = whole_greys(decoded, path)
    image = decoded.image if greys is None else Image.fromarray(greys)
    try:
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except ValueError:                  # Pillow cannot convert, for instance from LAB
        raise UserError(path, f"has a colour space that is not supported ({image.mode})",
                        "save it as RGB") from None
