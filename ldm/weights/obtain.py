"""Turns an entry of the list of published weights into a file in models/: download, check, convert, note.

`origin.yaml` in each folder notes hash, size, address and date of each file. If nobody published a hash, a
later download is compared with that note.
"""
from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any, Iterator, Optional
from urllib.parse import urlsplit

import yaml

from ldm import config as configs
from ldm import files
from ldm.documents import read_yaml
from ldm.errors import UserError
from ldm.weights import download
from ldm.weights.files import check, convert, opened
from ldm.weights.published import TOOL, Published

ORIGIN = "origin.yaml"
PAGE = 2 ** 16                          # bytes in which a web page says what it is
PACKED = 20                             # largest ratio of a member's size to the zip file's size


def obtain(item: Published, models: files.Name, config_folder: files.Name,
           source: Optional[files.Name] = None, keep: bool = False,
           progress: download.Progress = lambda have, total: None) -> Path:
    """Put the weights `item` into the models folder, and return their path. Existing weights are kept.

    config_folder: holds the configs that `item.convert` names. source: a file that the user downloaded, used
    in place of a download; it is not moved. keep: keep the downloaded file after its conversion. Raises
    UserError if the file cannot be obtained or is another one; then nothing has been written under its name.
    """
    place = item.place(models)
    with files.locked(place.parent):
        if files.kind_of(place) == "file":
            verify(item, models)
            if source is not None:
                raise UserError(place, "is here already", "remove it to take another file")
            return place
        config, shapes = _wanted(item, config_folder)               # before hours of download
        if source is not None:
            _take(item, Path(source), str(source), place, config, shapes)
        else:
            part = place.with_name(f".{item.file}.part")
            url = download.download(item.addresses(), part, _expected(item), item.name, by_hand(item),
                                    progress)
            try:
                _take(item, part, url, place, config, shapes, keep)
            except _Unusable:
                download.forget(part)                               # else the next call would use it again
                raise
            download.forget(part)
        if config is not None:
            _write_config(Path(config_folder) / item.convert["config"], place.parent)
    return place


def by_hand(item: Published) -> str:
    """Instructions for the user if the download does not work."""
    return f"open {item.page} in a browser, save the file, and run `{TOOL} {item.name} --file FILE`"


class _Unusable(UserError):
    """The file is not the expected one."""


def _expected(item):
    return download.Expected(item.sha256, item.bytes)


def _wanted(item, config_folder):
    """(config, name -> shape) of the network that the weights are converted for; (None, None) for others."""
    if not item.convert:
        return None, None
    from ldm.networks.shapes import expected_shapes  # loads Jittor
    part = item.convert["part"]
    config = configs.load(Path(config_folder) / item.convert["config"], networks=(part,))
    return config, expected_shapes(config, part)


def _take(item, path, where, place, config, shapes, keep=False):
    """Check the file `path`, which came from `where`, and move it, or its conversion, to `place`."""
    own = path.parent == place.parent and path.name.startswith(".")        # a download
    what = f"the file from {urlsplit(where).hostname}" if own else str(path)
    with files.open_regular(path, "a file of weights") as file:
        what_page = download.page(file.read(PAGE))
    if fault := f"is {what_page}" if what_page else _expected(item).fault(path):
        raise _Unusable(item.name, f"{what} {fault}", by_hand(item))
    facts = {"sha256": files.sha256(path, 64), "bytes": path.stat().st_size, "from": where,
             "date": datetime.date.today().isoformat()}
    _compare(item, place.parent, facts)
    with _unpacked(item, path, place.parent, what) as weights_file:
        try:
            if shapes is None:
                with opened(weights_file):
                    pass
            else:
                check(weights_file, shapes)
                convert(weights_file, place, shapes, config)
        except UserError as e:
            if files.kind_of(place) is None and e.args[0] == weights_file:
                raise _Unusable(item.name, f"{what} {e.args[1]}", by_hand(item)) from None
            raise
    if shapes is not None:
        facts["weights_sha256"] = files.sha256(place, 64)
    _note(place.parent, item.file, facts)               # before the file gets its final name
    if shapes is None or keep and own:
        _put(path, place.with_name(item.file), move=own)


def _put(path, place, move):
    if move:
        os.replace(path, place)
        return
    with files.replacing(place) as temporary:
        shutil.copyfile(path, temporary)


@contextlib.contextmanager
def _unpacked(item: Published, path: Path, folder: Path, what: str) -> Iterator[Path]:
    """The file of weights: `path` itself or, if it is a zip file with the member `item.member`, that member.
    what: `path`, for messages."""
    target = folder / f".{item.member}.unpacked"
    if not item.member or not zipfile.is_zipfile(path) or not _unpack(item, path, target, what):
        yield path
        return
    try:
        yield target
    finally:
        target.unlink(missing_ok=True)


def _unpack(item: Published, path: Path, target: Path, what: str) -> bool:
    """Write the member of a zip file to `target`; False if it has no such member."""
    try:
        with zipfile.ZipFile(path) as archive:
            if item.member not in archive.namelist():
                return False
            info = archive.getinfo(item.member)
            if info.file_size > PACKED * path.stat().st_size:
                raise _Unusable(item.name, f"{what} holds {item.member} of {info.file_size:,} bytes",
                                by_hand(item))
            with archive.open(info) as packed, files.replacing(target) as temporary:
                with open(temporary, "wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
    except UserError:
        raise
    except Exception as e:          # zipfile and its decompressors raise anything; also for a password
        raise _Unusable(item.name, f"{what} is damaged ({' '.join(str(e).split()) or type(e).__name__})",
                        by_hand(item)) from None
    return True


def _write_config(source, folder):
    target = folder / "config.yaml"
    if files.kind_of(target) is None:
        with files.replacing(target) as temporary:
            shutil.copyfile(source, temporary)


# ---- what was taken ----------------------------------------------------------------------------------------

def origin(folder: files.Name) -> dict[str, Any]:
    """{file name as published: {"sha256", "bytes", "from", "date"}} of the files taken into `folder`."""
    path = Path(folder) / ORIGIN
    return read_yaml(path) if files.kind_of(path) == "file" else {}


def _note(folder, name, facts):
    notes = {**origin(folder), name: facts}
    with files.replacing(folder / ORIGIN) as temporary:
        temporary.write_text(yaml.safe_dump(notes, sort_keys=True))


def _compare(item, folder, facts):
    """UserError if an earlier file of this name had other content. A full hash in the list makes this
    unnecessary."""
    earlier = origin(folder).get(item.file)
    if isinstance(earlier, dict) and len(item.sha256) < 64 and earlier.get("sha256") != facts["sha256"]:
        raise _Unusable(item.name, f"differs from the file that was taken on {earlier.get('date')} "
                        f"(sha256 {facts['sha256'][:12]}..., then {str(earlier.get('sha256'))[:12]}...)",
                        f"if the new one is right, remove {folder / ORIGIN}")


def verify(item: Published, models: files.Name) -> bool:
    """Compare the weights in the models folder with the list and with the note of their origin.

    Returns whether there was anything to compare with. Raises UserError if they differ.
    """
    place = item.place(models)
    noted = origin(place.parent).get(item.file)
    noted = noted if isinstance(noted, dict) else {}
    remedy = f"remove it, then `{TOOL} {item.name}` gets it again"
    if not item.convert and (fault := _expected(item).fault(place)):
        raise UserError(place, fault, remedy)
    wanted = noted.get("weights_sha256" if item.convert else "sha256")
    if wanted and files.sha256(place, 64) != wanted:
        raise UserError(place, "has changed since it was obtained", remedy)
    return bool(wanted or not item.convert and item.sha256)


def host(facts: dict[str, Any]) -> str:
    """The source of a file, for messages."""
    return urlsplit(str(facts.get("from"))).hostname or str(facts.get("from"))
