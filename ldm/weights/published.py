"""The list of weight files that others published (published.yaml), and where each belongs in models/."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ldm import files
from ldm.documents import read_yaml
from ldm.errors import UserError

LIST = Path(__file__).with_name("published.yaml")
DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
HUB = "https://huggingface.co"
TOOL = "python tools/get_weights.py"


class Published(NamedTuple):
    """A file of weights as published. The fields are those of published.yaml."""
    name: str
    purpose: str
    file: str
    urls: list[str]
    page: str
    licence: str
    folder: str
    about: str = "size unknown"
    sha256: str = ""                    # the hash, its first digits, or ""
    bytes: int = 0                      # 0: unknown
    member: str = ""                    # the file to take out of a zip file
    convert: dict[str, str] = {}        # {"part", "config"}: what it is converted to; {}: used as published

    def place(self, models: files.Name) -> Path:
        """Where the weights lie in the models folder when they have been obtained."""
        name = f"{self.convert['part']}.safetensors" if self.convert else self.file
        return Path(models) / self.folder / name

    def addresses(self) -> list[str]:
        """The addresses to try, in order.

        $IIDM_WEIGHTS_MIRROR, a folder of such files on a web server, goes first. $HF_ENDPOINT takes the place
        of huggingface.co.
        """
        mirror, hub = os.environ.get("IIDM_WEIGHTS_MIRROR", ""), os.environ.get("HF_ENDPOINT", "")
        found = [f"{mirror.rstrip('/')}/{quote(self.file)}"] if mirror else []
        for url in self.urls:
            if url.startswith("drive:"):
                url = DRIVE.format(url[len("drive:"):])
            elif hub and url.startswith(HUB + "/"):
                url = hub.rstrip("/") + url[len(HUB):]
            found.append(url)
        for url in found:
            if not url.startswith(("https://", "http://")):
                raise UserError("IIDM_WEIGHTS_MIRROR" if mirror and url == found[0] else "HF_ENDPOINT",
                                f"gives the address {url}", "write an address that begins with https://")
        return found


def read() -> tuple[dict[str, Published], dict[str, list[str]]]:
    """({name: Published}, {name of a set: the names in it})."""
    tree: dict[str, Any] = read_yaml(LIST)
    return ({name: Published(name=name, **entry) for name, entry in tree["weights"].items()},
            tree.get("sets", {}))


def chosen(names: list[str]) -> list[Published]:
    """The entries of these names and sets, each once. UserError for an unknown name."""
    entries, sets = read()
    found: dict[str, Published] = {}
    for name in names:
        for one in sets.get(name, [name]):
            if one not in entries:
                raise UserError(name, "is not a name in the list of weights",
                                f"choose one of {', '.join([*sets, *entries])}")
            found[one] = entries[one]
    return list(found.values())


def how_to_get(name: str) -> str:
    """"`python tools/get_weights.py nima` (59 MB) gets it", for the message about a missing file."""
    entry = read()[0][name]
    return f"`{TOOL} {name}` ({entry.about}) gets it"
