"""From a file that anybody may have written to pixels: formats by name, sizes bounded, pictures upright."""
from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ldm.errors import UserError
from ldm.files import open_regular

# Pillow by itself takes any format that it knows, and hands PostScript to Ghostscript, whatever the suffix.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
NAMES = "PNG, JPEG, WebP, BMP, TIFF or GIF"
MAX_PIXELS = 120_000_000                # of a picture: some 500 MB while it is decoded
# What stands at the beginning of files that are often given a picture's name.
STRANGERS = ((0, b"%!PS", "PostScript"), (0, b"\xc5\xd0\xd3\xc6", "PostScript"), (0, b"%PDF", "a PDF"),
             (4, b"ftyp", "HEIC or AVIF, as telephones write it"), (0, b"\x00\x00\x00\x0cjP", "JPEG 2000"),
             (0, b"8BPS", "a Photoshop file"), (0, b"version https://git-lfs", "a Git LFS pointer"),
             (0, b"<", "text, perhaps a web page"), (0, b"\x1f\x8b", "gzip"), (0, b"PK", "a zip file"))

Image.MAX_IMAGE_PIXELS = MAX_PIXELS     # Pillow's own check, at twice as many, is then never the first
warnings.filterwarnings("ignore", module=r"PIL\.")      # on metadata that is not used here


class Decoded(NamedTuple):
    """The first frame of a picture's file, turned as its EXIF orientation says."""
    image: Image.Image
    format: str                 # one of FORMATS
    raw: str                    # Pillow's name for how a pixel is stored: "L;4" are greys of 4 bits
    compression: str            # of a TIFF, else ""


def decode(path: str | Path) -> Decoded:
    """Open and decode `path`. Whatever is wrong with it is a UserError: no regular file, another format, too
    many pixels (told by the header, before anything is decoded), a file cut off or damaged."""
    with open_regular(path, "a picture") as file:
        beginning = file.read(32)
        file.seek(0)
        try:
            image = Image.open(file, formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise UserError(path, f"is {image.width} x {image.height} pixels",
                                f"{MAX_PIXELS // 10 ** 6} million at most are read: make it smaller")
            kind = "JPEG" if image.format == "MPO" else image.format
            raw, compression = _stored(image), str(image.info.get("compression", ""))
            image.load()
            return Decoded(ImageOps.exif_transpose(image), kind, raw, compression)
        except UserError:
            raise
        except Exception as e:              # decoders of damaged files raise anything: struct.error, ...
            raise UserError(path, f"cannot be read as an image ({_reason(beginning, e)})",
                            f"a whole {NAMES} file is needed") from None


def _stored(image):
    if not image.tile:
        return image.mode
    arguments = image.tile[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments or image.mode)


def _reason(beginning, error):
    if not beginning:
        return "it is empty"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10 ** 6} million pixels"
    for offset, signature, name in STRANGERS:
        if beginning[offset:].startswith(signature):
            return f"it is {name}"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is of another kind or damaged"
    return " ".join(str(error).split())[:120] or type(error).__name__


def whole_greys(decoded: Decoded, path: str | Path) -> np.ndarray | None:
    """Greys of more than 8 bits as 8-bit ones, H x W uint8, white being the largest value that the file can
    hold; None for other pictures. UserError for greys without an agreed white: signed or floating point."""
    mode, raw = decoded.image.mode, decoded.raw
    if mode == "F" or raw.endswith("S"):
        raise UserError(path, "holds floating-point or signed greys, for which no white is agreed",
                        "save it with 8 bits a channel")
    if mode == "I" and raw.startswith("I;32"):
        values, white = np.asarray(decoded.image).view(np.uint32), 2 ** 32 - 1
    elif mode == "I" or mode.startswith("I;16"):
        values, white = np.asarray(decoded.image), 4095 if raw == "I;12" else 65535
    else:
        return None
    return np.round(values / (white / 255)).astype(np.uint8)


def to_rgb(decoded: Decoded, path: str | Path) -> Image.Image:
    """A photograph as an RGB image. Greys, palettes, CMYK and YCbCr are converted; transparency becomes
    white."""
    greys = whole_greys(decoded, path)
    image = decoded.image if greys is None else Image.fromarray(greys)
    try:
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except ValueError:                  # Pillow has no way from here to RGB, as from LAB
        raise UserError(path, f"has colours of another kind ({image.mode})", "save it as RGB") from None
