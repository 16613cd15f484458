"""The toolchain folder: one home, as Jittor expects of CUDA, made of links into the real ones and of shims.

A folder is described by its plan, {path below it: `Path` that a link points to, or text of a file}; what
is on disk is compared with that, so that making it twice changes nothing.
"""
import contextlib
import json
import os
import re
import shutil
from pathlib import Path

from ldm.errors import UserError
from ldm.platform.cuda import shims
from ldm.platform.cuda.toolkit import CUDNN_LIBRARIES, dotted, include_folders, library_folders

RECORD = "setup.json"


def folder(cache):
    """Where the toolchain is below Jittor's cache folder."""
    return Path(cache) / "iidm" / "cuda"


# ---- the plan ----------------------------------------------------------------------------------------------

def _first_of_each_name(folders, pattern):
    """{name: file} of the folders' entries; where two have a name, the earlier folder's counts."""
    found = {}
    for place in folders:
        for entry in sorted(place.glob(pattern)):
            found.setdefault(entry.name, entry)
    return found


def _without_version(libraries):
    """{libX.so: file} for each libX.so.1.2; of several versions the shortest name, which is the soname's."""
    names = {}
    for name in sorted(libraries, key=lambda n: (len(n), n)):
        names.setdefault(re.sub(r"\.so\..*", ".so", name), libraries[name])
    return names


def plan(toolkit, cudnn, jittor_version):
    """What the folder must hold for this CUDA and this cuDNN."""
    headers = _first_of_each_name([*include_folders(toolkit), cudnn.include], "*")
    libraries = _first_of_each_name([*library_folders(toolkit), cudnn.library], "lib*.so*")
    for name in _first_of_each_name([cudnn.library], "libcudnn*.so*"):
        libraries[name] = cudnn.library / name          # of that cuDNN, whatever else lies about
    libraries.update(_without_version(libraries))
    libraries |= _first_of_each_name(library_folders(toolkit), "libcuda*.a")    # nvcc links some of these
    tree = {f"include/{name}": path for name, path in headers.items()}
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

def read(place):
    """The plan that the folder `place` amounts to; {} if there is none."""
    tree = {}
    for directory, folders, names in os.walk(place):
        for path in (Path(directory, name) for name in [*names, *folders]):
            if path.is_symlink():
                tree[str(path.relative_to(place))] = Path(os.readlink(path))
            elif path.is_file():
                tree[str(path.relative_to(place))] = path.read_text(errors="replace")
    return tree


def write(tree, place):
    """Make the folder `place` what `tree` says, whole or not at all. -> False if it was that already."""
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


def remove(place):
    """-> False if there was none."""
    if not place.is_dir():
        return False
    try:
        shutil.rmtree(place)
    except OSError as e:
        raise UserError(place, f"cannot be removed ({e.strerror or e})", "make it writable") from e
    return True


def record(place):
    """What the toolchain in `place` was made of, a dict of strings; None if there is none.

    A link in it that leads nowhere any more (the toolkit or a wheel was removed) is a UserError.
    """
    try:
        facts = json.loads((place / RECORD).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise UserError(place / RECORD, "is damaged", "run `python tools/setup_cuda.py` again") from None
    for name in ("libcudart.so", *(f"lib{name}.so" for name in CUDNN_LIBRARIES)):
        if not (place / "lib64" / name).is_file():
            raise UserError(place / "lib64" / name, "leads nowhere: CUDA or cuDNN was moved or removed",
                            "run `python tools/setup_cuda.py` again")
    return facts
