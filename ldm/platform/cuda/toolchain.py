"""The toolchain folder: one folder, as Jittor expects of CUDA, with links to the real folders and with shims.

Its plan is {path in the folder: `Path` that a link points to, or text of a file}. The folder on disk is
compared with the plan, so writing it twice changes nothing.
"""
from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Iterable, Optional, Union

from ldm.errors import UserError
from ldm.platform.cuda import shims
from ldm.platform.cuda.toolkit import (
    CUDNN_LIBRARIES,
    CuDNN,
    Toolkit,
    dotted,
    include_folders,
    library_folders,
)

RECORD = "setup.json"
Tree = dict[str, Union[Path, str]]              # the plan of a folder, see above


def folder(cache: Union[str, Path]) -> Path:
    """The toolchain folder below Jittor's cache folder."""
    return Path(cache) / "iidm" / "cuda"


# ---- the plan ----------------------------------------------------------------------------------------------

def _first_of_each_name(folders: Iterable[Path], pattern: str) -> dict[str, Path]:
    """{name: file} of the folders' entries; of equal names the one in the earlier folder."""
    found: dict[str, Path] = {}
    for place in folders:
        for entry in sorted(place.glob(pattern)):
            found.setdefault(entry.name, entry)
    return found


def _without_version(libraries: dict[str, Path]) -> dict[str, Path]:
    """{libX.so: file} for each libX.so.1.2; of several versions the shortest name, which is the soname's."""
    names: dict[str, Path] = {}
    for name in sorted(libraries, key=lambda n: (len(n), n)):
        names.setdefault(re.sub(r"\.so\..*", ".so", name), libraries[name])
    return names


def plan(toolkit: Toolkit, cudnn: CuDNN, jittor_version: str) -> Tree:
    """The plan of a toolchain for this CUDA and this cuDNN."""
    assert cudnn.library is not None        # find_cudnn returns no other
    headers = _first_of_each_name([*include_folders(toolkit), cudnn.include], "*")
    libraries = _first_of_each_name([*library_folders(toolkit), cudnn.library], "lib*.so*")
    for name in _first_of_each_name([cudnn.library], "libcudnn*.so*"):
        libraries[name] = cudnn.library / name          # of that cuDNN, whatever else lies about
    libraries.update(_without_version(libraries))
    libraries |= _first_of_each_name(library_folders(toolkit), "libcuda*.a")    # nvcc links some of these
    tree: Tree = {f"include/{name}": path for name, path in headers.items()}
    tree |= {f"lib64/{name}": path for name, path in libraries.items()}
    tree |= {link: libraries[name] for link, name in shims.SPLIT_CUDNN.items()}
    tree["bin/nvcc"] = shims.nvcc(toolkit.nvcc)
    tree["include/cudnn.h"] = shims.cudnn_header(cudnn.include / "cudnn.h")
    if toolkit.version[0] >= 13:
        tree["include/cub/cub.cuh"] = shims.CUB_HEADER
    if "npp.h" not in headers:
        tree["include/npp.h"] = shims.NPP_HEADER
    record = {"cuda": dotted(toolkit.version), "cudnn": dotted(cudnn.version), "jittor": jittor_version,
              "toolkit": str(toolkit.home), "cudnn_libraries": str(cudnn.library)}
    tree[RECORD] = json.dumps(record, indent=1) + "\n"
    return tree


# ---- on disk -----------------------------------------------------------------------------------------------

def read(place: Path) -> Tree:
    """The content of the folder `place` as a plan; {} if the folder does not exist."""
    tree: Tree = {}
    for directory, folders, names in os.walk(place):
        for path in (Path(directory, name) for name in [*names, *folders]):
            if path.is_symlink():
                tree[str(path.relative_to(place))] = Path(os.readlink(path))
            elif path.is_file():
                tree[str(path.relative_to(place))] = path.read_text(errors="replace")
    return tree


def write(tree: Tree, place: Path) -> bool:
    """Write the plan `tree` to the folder `place`, completely or not at all. Returns False if the folder was
    like that already."""
    if read(place) == tree:
        return False
    fresh, old = (place.with_name(f".{place.name}.{os.getpid()}.{word}") for word in ("new", "old"))
    try:
        for name, content in tree.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content)
            else:
                path.write_text(content)
                path.chmod(0o755 if path.parent.name == "bin" else 0o644)
        with contextlib.suppress(FileNotFoundError):
            place.rename(old)
        fresh.rename(place)
    except OSError as e:
        raise UserError(place, f"cannot be written ({e.strerror or e})", "choose a writable HOME") from e
    finally:
        for rest in (fresh, old):
            shutil.rmtree(rest, ignore_errors=True)
    return True


def remove(place: Path) -> bool:
    """Delete the toolchain in `place`. Returns False if there was none."""
    if not place.is_dir():
        return False
    try:
        shutil.rmtree(place)
    except OSError as e:
        raise UserError(place, f"cannot be removed ({e.strerror or e})", "make it writable") from e
    return True


def record(place: Path) -> Optional[dict[str, str]]:
    """The versions and folders that the toolchain in `place` was made from; None if there is no toolchain.

    UserError if a link in it is broken, since the toolkit or a wheel was removed.
    """
    try:
        facts = json.loads((place / RECORD).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise UserError(place / RECORD, "is damaged", "run `python tools/setup_cuda.py` again") from None
    for name in ("libcudart.so", *(f"lib{name}.so" for name in CUDNN_LIBRARIES)):
        if not (place / "lib64" / name).is_file():
            raise UserError(place / "lib64" / name, "is a broken link: CUDA or cuDNN was moved or removed",
                            "run `python tools/setup_cuda.py` again")
    return facts
