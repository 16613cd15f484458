"""What made each result, so that no picture is taken for another: OUTPUT/about/results.jsonl.

A result's identity is a hash of all that decides about its pixels: the settings, the weights, the model's
config, precision and seed (together `made_by`), its name (which has the seed where a job has several), and
the bytes of its mask and reference. The file has a line for each set of settings, and a line for each result
with its identity and the hash of its picture.
That line is written before the picture takes its name: a kill between the two leaves a line without its
picture, never a picture without its line. A picture counts as made if a line of its name has its hash.

No result can be called `about`: their names end in .jpg or .png.
"""
from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from ldm import __version__, files
from ldm import config as configs
from ldm.errors import UserError
from ldm.images import AS_IS, Reading, Size
from ldm.inference.rounds import Settings
from ldm.weights.agreement import SECTIONS, differing

FOLDER, RESULTS, HASHES = "about", "results.jsonl", "hashes.jsonl"
EARLIER = "inference.yaml"          # of version 0.1.0, which recorded settings but no results
VERSION = 1                         # of the pixels; raise it if the same inputs give other pixels
SETTLED = 50_000_000                # ns; a file changed later may change again with equal attributes

STATES = NONE, SAME, INPUTS, OTHERWISE, UNKNOWN = "none", "same", "inputs", "otherwise", "unknown"


def digest(tree: Any) -> str:
    """A hash of a tree of plain values; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:32]


def read_lines(path: Path) -> list[dict]:
    """The JSON objects in a file, one per line; [] if there is no file. Incomplete lines, which a killed job
    or a full disk leaves, are ignored: the job then makes those results again."""
    if files.kind_of(path) is None:
        return []
    with files.open_regular(path) as file:
        lines = file.read().decode("utf-8", "replace").split("\n")
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [line for line in found if isinstance(line, dict)]


def append_lines(path: Path, lines: list[dict], through: bool = False) -> None:
    """Append objects to a file, in one write; `through`: wait until they are on the disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.appending(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            if through:
                os.fsync(file.fileno())
    except OSError as e:
        raise UserError(path, f"cannot be written ({e.strerror or e})",
                        "choose a writable folder with free space") from e


class Inputs(NamedTuple):
    """Hashes of the inputs of one result."""
    mask: str
    reference: str


class Hashes:
    """Hashes of files, kept with the files' attributes, so that only changed files are read again.

    The attributes are size, time of the last change (mtime), time of the last change of anything (ctime) and
    inode. A file that is restored with its old size and mtime has another ctime or inode.
    """

    def __init__(self, known: dict | None = None) -> None:
        self.known = known or {}                        # {absolute path: (its attributes, see `seen`; hash)}
        self.fresh: list[dict] = []

    @classmethod
    def read(cls, output: files.Name) -> Hashes:
        """The hashes in the record of a folder of results."""
        lines = read_lines(Path(output) / FOLDER / HASHES)
        return cls({line["file"]: (line.get("seen"), line["sha256"]) for line in lines
                    if isinstance(line.get("file"), str) and isinstance(line.get("sha256"), str)})

    def inputs(self, item: Any) -> Inputs:
        """Hashes of an item's inputs; "" if it has no reference."""
        reference = "" if item.reference is None else self.of(item.reference)
        if item.reference_map:                  # one hash of both, so that lines keep their form
            reference = digest([reference, self.of(item.reference_map)])
        return Inputs(self.of(item.mask), reference)

    def of(self, path: files.Name) -> str:
        """The hash of a file's bytes; UserError if it cannot be read."""
        name = os.path.abspath(path)
        before = seen(name)
        known = self.known.get(name)
        if known and known[0] == before and before:
            return known[1]
        sha256 = files.sha256(path, 32)
        if before == seen(name) and before and time.time_ns() - max(before[1:3]) > SETTLED:
            self.note(name, before, sha256)
        return sha256

    def remember(self, path: files.Name, sha256: str) -> None:
        """Note the hash of a file that was just written."""
        name = os.path.abspath(path)
        self.note(name, seen(name), sha256)

    def note(self, name: str, at: list | None, sha256: str) -> None:
        self.known[name] = at, sha256
        self.fresh.append({"file": name, "seen": at, "sha256": sha256})

    def save(self, output: files.Name) -> None:
        """Append the new hashes to the record of a folder of results."""
        if self.fresh:
            append_lines(Path(output) / FOLDER / HASHES, self.fresh)
            self.fresh = []


def seen(path: files.Name) -> list | None:
    """The attributes of a file that change with its bytes; None if they cannot be read."""
    try:
        s = os.stat(path)
    except (OSError, ValueError):
        return None
    return [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev]


def made_by(settings: Settings, model: files.Name, seed: int | None, precision: str = "fp32",
            unet: files.Name | None = None, reading: Reading = AS_IS, hashes: Hashes | None = None,
            size: Size | None = None) -> dict[str, Any]:
    """Everything that decides about a job's results, except their names and inputs, as plain values.

    model: its folder. seed: None if each result's name contains its seed. unet, size: see Pipeline.load.
    reading: how inputs are read.
    """
    sha256 = hashes.of if hashes else lambda path: files.sha256(path, 32)
    config = configs.load(Path(model) / "config.yaml")
    return json.loads(json.dumps({
        "version": VERSION, "seed": seed, "precision": precision, **settings.identity(), **reading.tree(),
        "weights": {"unet": sha256(unet or Path(model) / "unet.safetensors"),
                    "autoencoder": sha256(Path(model) / "autoencoder.safetensors")},
        "model": {**{key: config[key] for key in SECTIONS["unet"]},
                  "image_size": list(size or config["image_size"])}}))


class Writer:
    """Writes results, and a line of the record for each. It can be pickled, so that each process of a job has
    one.

    name: of the record's file. Parts of a job on several machines use separate files: on a network disk,
    lines that two machines append to one file can be lost.
    """

    def __init__(self, output: Path, made_by_id: str, name: str = RESULTS) -> None:
        self.output, self.id, self.name = Path(output), made_by_id, name

    def identity(self, result: Path, inputs: Inputs) -> str:
        return digest([self.id, result.name, *inputs])

    def write(self, result: Path, data: bytes, inputs: Inputs, hashes: Hashes) -> None:
        """Write the picture `data` as `result`; its line of the record is written first."""
        sha256 = hashlib.sha256(data).hexdigest()[:32]
        with files.replacing(result) as temporary:
            temporary.write_bytes(data)
            append_lines(self.output / FOLDER / self.name,
                         [{"result": result.name, "identity": self.identity(result, inputs),
                           "made_by": self.id, **inputs._asdict(), "sha256": sha256,
                           "version": __version__}], through=True)
        hashes.remember(result, sha256)
        hashes.save(self.output)


class Record:
    """The record of a folder, used by a job whose results are made by `made_by`.

    part: (I, N) if the job makes the I-th of N parts only.
    """

    def __init__(self, output: files.Name, made_by: dict, hashes: Hashes | None = None,
                 part: tuple[int, int] | None = None) -> None:
        self.output, self.made_by = Path(output), made_by
        name = "results-{}-of-{}.jsonl".format(*part) if part else RESULTS
        self.writer = Writer(self.output, digest(made_by), name)
        self.hashes = hashes or Hashes.read(output)
        self.settings: dict[str, dict] = {}         # {id: made_by}
        self.results: dict[str, dict] = {}          # {name: {sha256: (identity, id)}}
        for line in self._lines():
            if isinstance(line.get("settings"), dict):
                self.settings[str(line.get("id"))] = line["settings"]
            elif "result" in line and all(isinstance(value, str) for value in line.values()):
                made = self.results.setdefault(line["result"], {})
                made[line.get("sha256")] = line.get("identity"), line.get("made_by")

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The lines of all files of the record, in the order of time within each."""
        for path in sorted((self.output / FOLDER).glob("results*.jsonl")):
            yield from read_lines(path)

    def state(self, item: Any) -> tuple[str, str | None]:
        """(the state of an item's result, the id of the settings that made it).

        States: none: no file; same: this job would make the same; inputs: made with these settings from
        another mask or reference; otherwise: made with other settings; unknown: not in the record.
        """
        if files.kind_of(item.result) is None:
            return NONE, None
        made = self.results.get(item.result.name, {}).get(self.hashes.of(item.result))
        if made is None:
            return UNKNOWN, None
        identity, settings = made
        if settings != self.writer.id:
            return OTHERWISE, settings
        try:
            inputs = self.hashes.inputs(item)
        except UserError:                           # the error comes when they are read
            return INPUTS, settings
        return (SAME if identity == self.writer.identity(item.result, inputs) else INPUTS), settings

    def others(self, names: set[str]) -> set[str]:
        """Ids of the other settings whose results are in the folder under other names than `names`."""
        found = set()
        for name in self.results.keys() - names:
            if "/" not in name and files.kind_of(self.output / name) == "file":
                made = self.results[name].get(self.hashes.of(self.output / name))
                if made and made[1] != self.writer.id:
                    found.add(made[1])
        return found

    def refuse(self, unknown: int, others: set[str]) -> None:
        """UserError if this job would replace pictures of other settings, or be mixed with them."""
        remedy = "choose another --output, or remove them (infer.py --overwrite replaces them)"
        if unknown and not self.settings and files.kind_of(self.output / EARLIER) == "file":
            raise UserError(self.output, f"holds {unknown} results of an earlier version, which did not keep "
                            "what each was made from", remedy)
        if unknown:
            raise UserError(self.output, f"holds {unknown} pictures under the names of results, but this "
                            "program's record does not know them", remedy)
        if others:
            keys = sorted({key for other in others for key in differing(self.settings.get(other, {}),
                                                                        self.made_by)})
            raise UserError(self.output, f"holds results made otherwise ({', '.join(keys)})", remedy)

    def start(self) -> None:
        """Write the settings, if they are new, and the new hashes to the record."""
        path = self.output / FOLDER / self.writer.name
        if path.parent.is_symlink():
            raise UserError(path.parent, "is a link, which could lead anywhere", "remove it")
        files.check_writable(path.parent)
        end_line(path)
        if self.writer.id not in self.settings:
            append_lines(path, [{"id": self.writer.id, "settings": self.made_by}], through=True)
        self.hashes.save(self.output)


def end_line(path: Path) -> None:
    """Complete a last line that a killed job left unfinished, so that the next one starts on a new line."""
    if files.kind_of(path) == "file" and path.stat().st_size:
        with files.open_regular(path) as file:
            file.seek(-1, os.SEEK_END)
            whole = file.read() == b"\n"
        if not whole:
            append_lines(path, [{}])

