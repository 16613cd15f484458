"""A run's logs: one JSON object a line, each with the `step` that it belongs to."""
import json
import os

from ldm.documents import short
from ldm.errors import UserError
from ldm.files import appending, kind_of, open_regular, replacing


def append(path, line):
    """Write `line` (a dict with a "step") to the end, through to the disk; a failure is a UserError."""
    try:
        with appending(path) as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise UserError(path, f"cannot be written ({e.strerror or e})",
                        "a writable folder with free space is needed")


def read(path):
    """The lines so far, as dicts, [] without a file. A last line that is not whole yet is left out."""
    if kind_of(path) is None:
        return []
    with open_regular(path, "a log") as file:
        raw = file.read()
    try:
        text = raw.decode()
        lines = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(path, f"cannot be read ({e})", "a JSON object a line is needed") from None
    for line in lines:
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            raise UserError(path, f"has a line {short(line)}", "a JSON object with a step is needed")
    return lines


def cut(path, step):
    """Remove what was written after `step`: a run that goes on from there will write it again."""
    if kind_of(path) is None:
        return
    kept = [line for line in read(path) if line["step"] <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
