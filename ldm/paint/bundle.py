"""A result as a zip file: the picture, everything it was made from, and the command that makes it again."""
from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
from PIL import Image

from ldm import labels
from ldm.paint import presets, uploads
from ldm.paint.store import Mask, Result

COMMAND = ("bash tools/infer.sh --model models/{model} --masks BUNDLE/masks --references BUNDLE/references "
           "--rounds BUNDLE/settings.yaml --seed {seed} --format {format} --output BUNDLE/again")
README = """What made picture.{format}, with the model {model}. To make it again, run this in the
project's folder, with BUNDLE for the folder that this file is in:

    {command}

BUNDLE/again/{name}.{format} then holds the same pixels, on a machine of the same kind.
"""


def mask_png(mask: Mask, size: tuple[int, int], colored: bool = False) -> bytes:
    """A mask as PNG: 8-bit grey with the classes as values, or in the class colours, for people."""
    ids = np.frombuffer(mask.ids, np.uint8).reshape(size[1], size[0])
    return uploads.png_bytes(Image.fromarray(labels.colorize(ids) if colored else ids))


def contents(result: Result, size: tuple[int, int], model: str) -> dict[str, bytes]:
    """{path in the bundle: bytes}. The mask's file has the picture's name, the second half of the seed."""
    about = result.about
    entry = about["rounds"]["pixels"] == "entry"            # it writes JPEG files only
    form, picture = ("jpg", result.jpg) if entry else ("png", result.png)
    command = COMMAND.format(model=model, seed=about["seed"], format=form)
    mask, style = f"masks/{about['name']}.png", f"references/{about['name']}.png"
    job: dict[str, Any] = {"version": 1, **about, "model": model, "mask": mask,
                           "style": style if result.reference else None}
    grey = uploads.reference(np.full((size[1], size[0], 3), 128, np.uint8))     # not read
    readme = README.format(format=form, command=command, name=about["name"], model=model)
    return {mask: mask_png(result.mask, size), style: (result.reference or grey).png,
            f"picture.{form}": picture, "settings.yaml": presets.short_yaml(about["rounds"]).encode(),
            "job.json": json.dumps(job, indent=1).encode(), "README.txt": readme.encode()}


def pack(result: Result, size: tuple[int, int], model: str) -> bytes:
    """The bundle as a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in contents(result, size, model).items():
            info = zipfile.ZipInfo(name)                    # dated 1980: equal results, equal bytes
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()
