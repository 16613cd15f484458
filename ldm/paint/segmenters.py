"""Two questions to a segmenter: the label map of a photograph, and how much of its mask a picture shows.

`find` needs no Jittor. Segmenters answers in the model process; a network is opened when it is first needed.
"""
from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
from PIL import Image

from ldm import images
from ldm.decoding import decode_file
from ldm.errors import UserError
from ldm.evaluation import weight_files
from ldm.evaluation.segmentation import MaskAccuracy
from ldm.paint import limits
from ldm.platform import runtime

FIRST = "First use of this segmenter here: its operators are compiled now, a minute or more ..."
LABEL, CHECK = "label", "check"


def find(size: tuple[int, int], given: Optional[Path], models: Path) -> dict[str, str]:
    """{question: the file of the network that answers it, or ""}.

    size: of the model's pictures. given: a network of ADE20K, by default that in the folder `models`. Raises
    UserError if `given` cannot be read.
    """
    try:
        labeller = str(weight_files.find_labeller(given, models))
    except UserError:
        if given:
            raise
        labeller = ""
    return {LABEL: labeller, CHECK: _judge(size, models) or labeller}


def _judge(size, models):
    """The segmenter of tools/evaluate.py, if it is one for pictures of this size."""
    try:
        path = weight_files.find("segformer", None, models, size)
        return str(path) if path and weight_files.size_of(path) in (None, size) else ""
    except UserError:                           # two files or a damaged one; tools/evaluate.py says so
        return ""


class Segmenters:
    """Answers both questions. files: see `find`."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.opened: dict[str, Any] = {}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to {"kind": LABEL, "picture": a file's bytes, "name", "size"} or {"kind": CHECK,
        "picture": a PNG's bytes, "mask": its ids, "size"}. Raises UserError."""
        kind, size = question["kind"], tuple(question["size"])
        compiled = runtime.notice_compile(f"{kind} {self.files[kind]} {size}", FIRST)
        found = self.label(question, size) if kind == LABEL else self.check(question, size)
        compiled()
        return found

    def network(self, kind: str, *mapping: str) -> Any:
        from ldm.evaluation.networks import open_segmenter  # needs Jittor
        if kind not in self.opened:
            self.opened[kind] = open_segmenter(self.files[kind], *mapping)
        return self.opened[kind]

    def label(self, question: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """The map of tools/label_photos.py for the same file, with its default options."""
        from ldm.evaluation import labelling  # imports OpenCV, which the web process does without
        segmenter, options = self.network(LABEL, "nearest"), labelling.Options(size)
        if segmenter.mapping is None:
            raise UserError(self.files[LABEL], "is a segmenter of the 29 classes", "give one of ADE20K's 150")
        decoded = decode_file(io.BytesIO(question["picture"]), question["name"], limits.PIXELS)
        read: Callable[..., np.ndarray] = partial(images.picture_of, decoded, question["name"])
        labels, sure, indoor = labelling.label_map(segmenter, read, options)
        return {"ids": labels.tobytes(), "confidence": round(float(sure.mean()), 3),
                "doubts": labelling.doubts(sure, indoor, options)}

    def check(self, question: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """M of one picture in percent, and of each class in its mask, as tools/evaluate.py counts it."""
        segmenter, accuracy = self.network(CHECK), MaskAccuracy()
        picture = np.asarray(Image.open(io.BytesIO(question["picture"])).convert("RGB"))
        mask = np.frombuffer(question["mask"], np.uint8).reshape(size[::-1])
        accuracy.add(segmenter.segment(picture[None])[0][0], mask)
        classes = {str(k): round(m, 1) for k, m in enumerate(accuracy.per_class()) if m is not None}
        name = f"{Path(self.files[CHECK]).parent.name}: {segmenter.name}"
        return {"segmenter": name, "found": round(accuracy.mean() or 0.0, 1), "classes": classes}
