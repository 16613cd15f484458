"""Text about how a picture was made, as JSON in its file: PNG's iTXt "iidm", JPEG's EXIF UserComment.

If another program changes the picture and keeps the text, the text becomes wrong. It informs people; jobs use
their record (ldm.inference.record), which identifies files by hashes.
"""
from __future__ import annotations

import io
import json
from pathlib import Path
from typing import IO, Any, Mapping, Optional

from PIL import Image, PngImagePlugin

from ldm import __version__
from ldm.decoding import FORMATS
from ldm.errors import UserError
from ldm.files import Name, open_regular, replacing
from ldm.inference.record import VERSION
from ldm.inference.rounds import Settings

KEY = "iidm"
QUALITY = 95                                    # of JPEG files
FORMAT = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg"}
EXIF, USER_COMMENT, ASCII = 0x8769, 0x9286, b"ASCII\0\0\0"
LONGEST = 2 ** 16                               # characters


def about(model: str, weights: Mapping[str, str], settings: Settings, size: tuple[int, ...],
          precision: str) -> dict[str, Any]:
    """The part of the text that all pictures of a pipeline share; each also has a seed and a name."""
    return {"software": f"iidm-jittor {__version__}", "version": VERSION, "model": model,
            "weights": dict(weights), "size": list(size), "precision": precision, "settings": settings.tree()}


def encoded(picture: Any, suffix: str, quality: int = QUALITY, text: str = "") -> bytes:
    """The bytes of an image file, "jpg" or "png", of H x W x 3 uint8 or a Pillow image. text: ASCII text to
    put into the file, or ""."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    options: dict[str, Any] = {"quality": quality} if suffix == "jpg" else {}
    if text and suffix == "png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(KEY, text)
    if text and suffix == "jpg":
        exif = Image.Exif()
        exif.get_ifd(EXIF)[USER_COMMENT] = ASCII + text.encode("ascii")
        options["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "png": "PNG"}[suffix], **options)
    return buffer.getvalue()


def save(image: Image.Image, path: Name) -> None:
    """Write a picture as PNG or JPEG, by the suffix, with the text about how it was made. UserError if it
    cannot be written."""
    if not isinstance(image, Image.Image):
        raise UserError("picture", f"is a {type(image).__name__}", "give a Pillow image")
    suffix = FORMAT.get(Path(path).suffix.lower())
    if suffix is None:
        raise UserError(path, "is not the name of a PNG or JPEG file", "end it in .png or .jpg")
    data = encoded(image.convert("RGB"), suffix, text=str(image.info.get(KEY, "")))
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read(path: Name) -> Optional[dict[str, Any]]:
    """The text in a picture's file, as a dict; None if there is none. Pixels are not decoded.

    Anybody may have written the text: check it, for example with `rounds.load`.
    """
    with open_regular(path, "a picture") as file:
        return of_file(file)


def of_file(file: IO[bytes]) -> Optional[dict[str, Any]]:
    """As `read`, from an open file."""
    try:
        image = Image.open(file, formats=FORMATS)
        text: Any = image.info.get(KEY)
        if text is None:
            comment = image.getexif().get_ifd(EXIF).get(USER_COMMENT, b"")
            text = comment[len(ASCII):].decode("ascii") if comment.startswith(ASCII) else ""
        tree = json.loads(text) if len(text) < LONGEST else None
    except Exception:                           # decoders may raise any error for damaged files
        return None
    return tree if isinstance(tree, dict) else None
