"""From decoded arrays to bytes, and from one round to the next: exactly, or as the entry did it."""
from __future__ import annotations

import numpy as np

from ldm import images
from ldm.errors import UserError
from ldm.inference.color_transfer import color_transfer
from ldm.inference.provenance import encoded
from ldm.inference.rounds import Settings

# The error of an image whose latents are NaN or infinite; a picture of them would be noise or black.
NOT_FINITE = ("its numbers became NaN or infinite",
              "check the weights and the guidance, or use --precision fp32")
ENTRY_QUALITY = 75              # Pillow's default, with which the entry writes every file


class Exact:
    """Pixels are rounded, and no picture is compressed until the result is written.

    jpeg: quality of one JPEG between two rounds, 0 for none.
    """

    suffixes: tuple[str, ...] = ("jpg", "png")

    def __init__(self, jpeg: int = 0) -> None:
        self.jpeg = jpeg

    def decoded(self, array: np.ndarray) -> np.ndarray:
        """The decoder's 3 x H x W in about -1..1 -> H x W x 3 uint8."""
        return images.from_network(array)

    def next_start(self, picture: np.ndarray, reference: np.ndarray, transfer: str) -> np.ndarray:
        """What the next round encodes: a round's picture with the colours of the reference (Eq. 6).

        transfer: a mode of `color_transfer`, "" for none. All arrays are H x W x 3 uint8.
        """
        if self.jpeg:
            picture = images.jpeg_roundtrip(picture, self.jpeg)
        return color_transfer(picture, reference, transfer) if transfer else picture

    def result(self, picture: np.ndarray) -> np.ndarray:
        """The result's pixels from the last round's picture."""
        return picture

    def file(self, picture: np.ndarray, suffix: str, text: str = "") -> bytes:
        """The result's file from the last round's picture. suffix: one of `suffixes`. text: what made it."""
        return encoded(picture, suffix, text=text)


class Entry(Exact):
    """The entry's processing, bit for bit: pixels are truncated, and every picture is a JPEG file of quality
    75: the result of each round, the picture after each colour transfer, and the final result."""

    suffixes = ("jpg",)

    def __init__(self) -> None:
        super().__init__(ENTRY_QUALITY)

    def decoded(self, array: np.ndarray) -> np.ndarray:
        scaled = (array.astype(np.float32).transpose(1, 2, 0) + 1) / 2 * 255
        return np.clip(scaled, 0, 255).astype(np.uint8)

    def next_start(self, picture: np.ndarray, reference: np.ndarray, transfer: str) -> np.ndarray:
        start = super().next_start(picture, reference, transfer)
        return images.jpeg_roundtrip(start, self.jpeg) if transfer else start

    def result(self, picture: np.ndarray) -> np.ndarray:
        return images.jpeg_roundtrip(picture, self.jpeg)

    def file(self, picture: np.ndarray, suffix: str, text: str = "") -> bytes:
        """The entry's bytes, which hold no text."""
        if suffix not in self.suffixes:
            raise UserError("pixels", f"'entry' writes no {suffix} files", "choose --format jpg")
        return encoded(picture, suffix, self.jpeg)


def of(settings: Settings) -> Exact:
    """The pixels that a file of rounds (ldm.inference.rounds.Settings) asks for."""
    return Entry() if settings.pixels == "entry" else Exact(settings.jpeg_between_rounds)
