"""The logs of a run: JSON objects, one per line, each with its "step"."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Union

from ldm.documents import short
from ldm.errors import UserError
from ldm.files import appending, kind_of, open_regular, replacing


def append(path: Union[str, Path], line: dict) -> None:
    """Write `line`, which has a "step", to the end of the file and to the disk. UserError if it fails."""
    try:
        with appending(path) as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise UserError(path, f"cannot be written ({e.strerror or e})",
                        "choose a writable folder with free space") from None


def read(path: Union[str, Path]) -> list[dict]:
    """All lines; [] if there is no file. An unfinished last line is left out. UserError for other content."""
    if kind_of(path) is None:
        return []
    with open_regular(path, "a log") as file:
        raw = file.read()
    try:
        text = raw.decode()
        lines = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(path, f"cannot be read ({e})",
                        "each line must be a JSON object: correct or delete it") from None
    for line in lines:
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            raise UserError(path, f"has a line {short(line)}",
                            "each line must be a JSON object with a step: correct or delete it")
    return lines


def cut(path: Union[str, Path], step: int) -> None:
    """Delete the lines of later steps: a run that continues from `step` writes them again."""
    if kind_of(path) is None:
        return
    lines = [line for line in read(path) if line["step"] <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
