"""From an upload's bytes to a mask or a reference at the model's size. No client's file is kept."""
from __future__ import annotations

import io
import json
from typing import Any, NamedTuple, Optional

import numpy as np
from PIL import Image

from ldm import images, label_maps, mask_colors
from ldm.decoding import Decoded, decode_file, to_rgb
from ldm.labels import NUM_CLASSES
from ldm.paint import limits
from ldm.paint.errors import Refusal
from ldm.paint.store import Mask, Reference, identity

STRIP = 2 ** 20                         # pixels of a colour mask that are looked at at a time, to save memory
THUMBNAIL = 128, 128                    # at most; the page shows them 62 pixels wide
FITS = ("refuse", "crop", "stretch")


class NewMask(NamedTuple):
    mask: Mask
    warnings: list[str]
    from_size: tuple[int, int]          # of the file, before it was brought to the model's size


def mask_of_ids(data: bytes, size: tuple[int, int], given: str, name: str) -> NewMask:
    """From the ids themselves, a byte a pixel. given: the header X-Size. Raises Refusal."""
    width, height = size
    if given.replace(" ", "") != f"{width},{height}":
        raise Refusal(422, name, f"has the X-Size {given[:40]!r}", f"send the model's size, {width},{height}")
    if len(data) != width * height:
        raise Refusal(422, name, f"holds {len(data)} bytes", f"send {width * height}, one a pixel")
    if max(data) >= NUM_CLASSES:
        raise Refusal(422, name, f"holds label {max(data)}", f"use labels 0..{NUM_CLASSES - 1}")
    return NewMask(Mask(identity(data), data), [], size)


def mask_of_image(data: bytes, size: tuple[int, int], name: str, fit: str = "refuse",
                  assigned: Optional[dict[tuple[int, int, int], int]] = None) -> NewMask:
    """From a label map's file: grey, palette or colours. assigned: {colour: class} of others than ours.

    Raises UserError, and Refusal 422 with a `code` where the page can ask its user: `proportions`, `colors`.
    """
    decoded = decode_file(io.BytesIO(data), name, limits.PIXELS)
    ids, warnings = classes(decoded, name, assigned or {})
    image = Image.fromarray(ids)
    if fit == "refuse" and not images.same_proportions(image.size, size):
        raise Refusal(422, name, f"is {image.width} x {image.height} pixels, other proportions than "
                      f"{size[0]} : {size[1]}", "crop or stretch it", code="proportions",
                      size=list(image.size))
    at_size = images.sized(image, size, "crop" if fit == "crop" else "refuse", Image.Resampling.NEAREST)
    raw = at_size.tobytes()
    return NewMask(Mask(identity(raw), raw), warnings, image.size)


def classes(decoded: Decoded, name: str,
            assigned: dict[tuple[int, int, int], int]) -> tuple[np.ndarray, list[str]]:
    """A label map's ids, H x W uint8, and what its user should know."""
    image = decoded.image
    lossy = decoded.format not in label_maps.LOSSLESS or decoded.compression in label_maps.LOSSY_TIFF
    exact = not lossy and ";16" not in decoded.raw
    colored = image.mode in (("RGB", "RGBA", "P", "L") if assigned else ("RGB", "RGBA"))
    if colored and exact and is_opaque(image):
        return by_colors(image.convert("RGB"), name, assigned), []
    if image.mode == "L" and exact and np.asarray(image).max() >= NUM_CLASSES:
        return by_colors(image.convert("RGB"), name, assigned), []      # asks what the other greys mean
    warnings = []
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB"), np.int64).reshape(-1, 3)
        used = np.unique(np.asarray(image))
        if used[-1] >= len(palette) or label_maps.of_colours(palette[used]).min() < 0:
            warnings = ["its palette does not hold class colours, so its indices are read as classes"]
    return label_maps.classes(decoded, name), warnings


def is_opaque(image: Image.Image) -> bool:
    return image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255)


def by_colors(image: Image.Image, name: str, assigned: dict[tuple[int, int, int], int]) -> np.ndarray:
    """The ids of an RGB image: colours in `assigned`, then ours and greys 0..28, or else SPADE's, exactly.

    Raises Refusal 422, code `colors`, that lists all others with their shares.
    """
    counts, codes = _count_colors(image)
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1)
    values = min((table_values(colors) for table_values in (our_values, voc_values)),
                 key=lambda values: counts[values < 0].sum())
    for color, label in assigned.items():
        values[(colors == color).all(1)] = label
    unknown = values < 0
    if unknown.any():
        order = np.argsort(-counts[unknown], kind="stable")
        listed = [[*map(int, colors[unknown][i]), round(float(counts[unknown][i] / counts.sum()), 6)]
                  for i in order[:limits.UNKNOWN_COLORS]]
        raise Refusal(422, name, f"has {unknown.sum()} colours that belong to no class",
                      "say which class each of them is", code="colors", colors=listed,
                      more=int(unknown.sum()) - len(listed))
    table = np.zeros(2 ** 24, np.uint8)
    table[codes] = values
    width, height = image.size
    found = np.empty((height, width), np.uint8)
    for top, strip in _strips(image):
        found[top:top + len(strip)] = table[strip]
    return found


def our_values(colors: np.ndarray) -> np.ndarray:
    """N x 3 colours -> N classes, -1 for none: our class colours, and greys 0..28."""
    values = label_maps.of_colours(colors)
    return np.where(values < NUM_CLASSES, values, -1)


def voc_values(colors: np.ndarray) -> np.ndarray:
    """The same for the colours in which SPADE and JGAN draw label maps."""
    values = np.full(len(colors), -1)
    for *color, label in mask_colors.SHIPPED["voc"]:
        values[(colors == color).all(1)] = label
    return values


def _strips(image):
    """(top row, H' x W codes 0xRRGGBB) of an RGB image, strip by strip."""
    width, height = image.size
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        pixels = np.asarray(image.crop((0, top, width, min(height, top + rows)))).astype(np.int64)
        yield top, pixels @ np.array((65536, 256, 1))


def _count_colors(image):
    """(counts, codes) of the colours of an RGB image."""
    counts = np.zeros(2 ** 24, np.int64)
    for _, strip in _strips(image):
        codes, number = np.unique(strip, return_counts=True)
        counts[codes] += number
    codes = np.flatnonzero(counts)
    return counts[codes], codes


def shares(mask: Mask) -> dict[str, float]:
    """{class: its share of the map}, the largest first."""
    counts = np.bincount(np.frombuffer(mask.ids, np.uint8))
    order = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    return {str(label): round(float(counts[label] / len(mask.ids)), 6) for label in order}


def assignment(text: str) -> dict[tuple[int, int, int], int]:
    """The query `colors`: JSON {"r,g,b": class}. Raises Refusal 400."""
    try:
        tree = json.loads(text or "{}")
        found = {}
        for color, label in tree.items():
            red, green, blue = (int(part) for part in color.split(","))
            if max(red, green, blue) > 255 or min(red, green, blue) < 0 or type(label) is not int \
                    or not 0 <= label < NUM_CLASSES:
                raise ValueError
            found[red, green, blue] = label
        return found
    except (ValueError, AttributeError, RecursionError):
        raise Refusal(400, "colors", "is not an assignment of colours",
                      'send JSON {"r,g,b": class}') from None


def reference_of_image(data: bytes, size: tuple[int, int], name: str, crop: str = "") -> Reference:
    """A style picture at the model's size, by the same filter as tools/infer.py, as a PNG.

    crop: "x,y,w,h" in pixels of the picture as it is shown, or nothing. Raises UserError and Refusal.
    """
    image = to_rgb(decode_file(io.BytesIO(data), name, limits.PIXELS), name)
    if crop:
        image = image.crop(_box(crop, image.size))
    return reference(np.asarray(images.sized(image, size, "refuse", Image.Resampling.LANCZOS)))


def readable(data: bytes, name: str) -> bytes:
    """`data`, if it is a picture that can be decoded. Raises UserError."""
    to_rgb(decode_file(io.BytesIO(data), name, limits.PIXELS), name)
    return data


def reference(pixels: np.ndarray) -> Reference:
    """From H x W x 3 uint8 at the model's size."""
    png = png_bytes(Image.fromarray(pixels))
    return Reference(identity(png), png)


def _box(crop, size):
    try:
        x, y, width, height = (int(part) for part in crop.split(","))
    except ValueError:
        raise Refusal(400, "crop", "is not four whole numbers", "send x,y,w,h") from None
    if not (0 <= x < x + width <= size[0] and 0 <= y < y + height <= size[1]):
        raise Refusal(422, "crop", f"is not inside the picture's {size[0]} x {size[1]} pixels",
                      "send one that is")
    return x, y, x + width, y + height


def png_bytes(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def thumbnail(png: bytes) -> bytes:
    """A stored picture as a small JPEG, to be shown."""
    image, buffer = Image.open(io.BytesIO(png)), io.BytesIO()
    image.thumbnail(THUMBNAIL)
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
