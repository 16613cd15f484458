"""Undoes what earlier versions of tools/setup_cuda.py did: they changed files of the installed Jittor.

The present version changes nothing there. EARLIER lists the texts that those versions wrote; it must not
change, even if ldm/platform/cuda/patches.py does.
"""
from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from ldm.errors import UserError
from ldm.files import replacing
from ldm.platform.cuda.patches import EARLIER

PATHS = {patch.path: patch for patch in EARLIER}


def original(root: Path, name: str) -> bytes | None:
    """The bytes of the file `name` below `root` as Jittor was installed; None if its present content is
    neither Jittor's nor that of an earlier version of the set-up."""
    try:
        content = (root / name).read_bytes()
    except FileNotFoundError:
        return None
    patch = PATHS[name]
    before = patch.back(content)
    if not patch.is_original(before) or content not in (before, patch.forth(before)):
        return None
    return before


def changed(root: Path) -> list[str]:
    """The files below `root` that an earlier version changed."""
    return [name for name in PATHS
            if (before := original(root, name)) is not None and before != (root / name).read_bytes()]


def undo(root: Path) -> list[str]:
    """Restore the changed files of the Jittor in `root`, and return their names. All new texts are written
    before the first is renamed, so a full disk changes nothing."""
    names = changed(root)
    try:
        with contextlib.ExitStack() as stack:
            for name in names:
                temporary = stack.enter_context(replacing(root / name))
                temporary.write_bytes(original(root, name) or b"")      # `changed` found an original of each
                shutil.copymode(root / name, temporary)
    except UserError as e:
        reason = getattr(e.__context__, "strerror", None) or e
        raise UserError(root / "jittor", f"cannot be written ({reason})",
                        "undo it as the user who owns it") from e
    return names
