"""What to do about errors of the computer: a full disk, a missing permission, a compiler that died."""
from __future__ import annotations

import errno
import os
import sys

from ldm.errors import UserError

# Errors of the system that can occur wherever a file is used, and what to do.
REMEDIES = {errno.EACCES: "get permission for it", errno.EPERM: "get permission for it",
            errno.ENAMETOOLONG: "use a shorter name", errno.ELOOP: "remove the circular links",
            errno.ENOSPC: "free some space", errno.EDQUOT: "free some space",
            errno.EROFS: "use a writable folder", errno.ENOENT: "restore this file",
            errno.ENOTDIR: "give a folder", errno.EISDIR: "give a file",
            errno.EEXIST: "remove or rename what has this name",
            errno.EMFILE: "allow more open files with `ulimit -n 1024`",
            errno.ENFILE: "close other programs: too many files are open"}


def refusal(error: BaseException) -> UserError | None:
    """A UserError for an error of the system, or of Jittor's compilation or loading; None for others."""
    if isinstance(error, UserError):
        return error
    platform = sys.modules.get("ldm.platform.runtime")
    if platform and isinstance(error, RuntimeError):
        return platform.explain(error)
    if isinstance(error, MemoryError):
        return UserError("memory", f"is used up ({error or 'of this process'})",
                         "end other programs, or use smaller pictures or batches")
    if not isinstance(error, OSError) or error.errno not in REMEDIES:
        return None
    name = error.filename if isinstance(error.filename, (str, os.PathLike)) else "the computer"
    return UserError(name, f"cannot be used ({error.strerror})", REMEDIES[error.errno])
