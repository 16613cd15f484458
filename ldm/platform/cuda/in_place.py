"""Undoing what earlier versions of tools/setup_cuda.py did: they changed files of the installed Jittor.

Nothing is changed in place any more. The texts below are what those versions wrote: they never change, even
where ldm/platform/cuda/patches.py goes on.
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
    """What the file `name` below `root` was when Jittor was installed; None where neither Jittor nor an
    earlier version of the set-up wrote what is there now."""
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
    """Give the Jittor in `root` its own files back; all new texts are on the disk before the first is
    renamed. -> the files restored."""
    names = changed(root)
    try:
        with contextlib.ExitStack() as stack:
            for name in names:
                temporary = stack.enter_context(replacing(root / name))
                temporary.write_bytes(original(root, name))
                shutil.copymode(root / name, temporary)
    except UserError as e:
        reason = getattr(e.__context__, "strerror", None) or e
        raise UserError(root / "jittor", f"cannot be written ({reason})",
                        "undo it as the user who owns it") from e
    return names
