"""Label maps for photographs, by a published segmenter, in the contest's form.

In the output folder: train_resized/imgs and /labels, labels.csv (a line a photograph: what was decided, and
why), dataset.yaml (what made it) and overview.jpg. A folder that was begun is continued.
"""
from __future__ import annotations

import csv
import io
import re
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple, Optional, Sequence

import cv2
import numpy as np
import yaml

from ldm import files, images
from ldm.datasets.landscape import by_stem
from ldm.documents import read_yaml
from ldm.errors import UserError
from ldm.labels import NAMES, colorize

SPECK = 0.0005              # connected regions below this share of the picture are replaced
INDOOR = 0.1                # largest share of indoor things in a landscape
DOUBTFUL = 0.3              # largest share of doubtful pixels in a usable label map
GREY = 3.0                  # mean difference of the colour channels (of 255) below which a photograph is grey
ALIKE = 3                   # copies of a photograph differ in at most so many bits of the hash
LABELLED, UNREADABLE = "labelled", "unreadable"        # decisions; the third is "refused"
TABLE, CARD, OVERVIEW = "labels.csv", "dataset.yaml", "overview.jpg"
COLUMNS = ("name", "decision", "why", "sha256", "hash", "mean_probability", "doubtful", "indoor", *NAMES)
ROWS, SHOWN = 12, (256, 192)            # of the overview: how many, and their size
Progress = Callable[[Iterable, int], Iterable]


class Options(NamedTuple):
    """size: (width, height) of what is written. fit: "refuse" or "crop", see images.Reading. least: the
    probability below which a pixel is doubtful. mirrored: see Segmenter.label."""
    size: tuple[int, int]
    fit: str = "crop"
    least: float = 0.5
    mirrored: bool = False


class Refused(Exception):
    """A photograph that is left out, and why."""


def without_specks(labels: np.ndarray, share: float = SPECK) -> np.ndarray:
    """Label map H x W uint8 without small regions: a connected region below `share` of the picture gets the
    most common label of its border. Such regions are flags, lamp posts and birds."""
    least, result = share * labels.size, labels.copy()
    for value in np.unique(labels):
        mask = (labels == value).astype(np.uint8)
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for k in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] < least) + 1:
            x, y, width, height = stats[k, :4]
            box = np.s_[max(0, y - 1):y + height + 1, max(0, x - 1):x + width + 1]
            piece = (pieces[box] == k).astype(np.uint8)
            border = labels[box][(cv2.dilate(piece, np.ones((3, 3), np.uint8)) > 0) & (piece == 0)]
            if border.size:
                result[box][piece > 0] = np.bincount(border).argmax()
    return result


def difference_hash(picture: np.ndarray) -> int:
    """64 bits that photographs share with their resized or recompressed copies."""
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int("".join("1" if bit else "0" for bit in (small[:, 1:] > small[:, :-1]).ravel()), 2)


def is_grey(picture: np.ndarray) -> bool:
    """Whether a photograph has no colours."""
    return float((picture.max(2).astype(int) - picture.min(2)).mean()) < GREY


def _is_whole(row: dict[Any, Any]) -> bool:
    """Whether a line of the table is as it was written: a kill cuts lines, a spreadsheet changes numbers."""
    if tuple(row) != COLUMNS or None in row.values():
        return False
    return row["decision"] != LABELLED or bool(re.fullmatch("[0-9a-f]{16}", row["hash"]))


class Folder:
    """The output folder: its table of decisions, and its record of settings."""

    def __init__(self, folder: files.Name, made_by: dict[str, Any]) -> None:
        self.root, self.made_by = Path(folder), made_by
        self.pictures, self.maps = self.root / "train_resized/imgs", self.root / "train_resized/labels"
        card = self.root / CARD
        if files.kind_of(card) is not None and (then := read_yaml(card)) != made_by:
            keys = sorted(key for key in {*then, *made_by} if then.get(key) != made_by.get(key))
            raise UserError(folder, f"holds label maps that were made with other {', '.join(keys)}",
                            "use the same options or choose another --output")
        self.rows = self._read()

    def _read(self):
        path = self.root / TABLE
        if files.kind_of(path) is None:
            return {}
        with files.open_regular(path) as file:
            text = io.StringIO(file.read().decode("utf-8", "surrogateescape"))
        try:
            return {row["name"]: row for row in csv.DictReader(text) if _is_whole(row)}
        except csv.Error as e:
            raise UserError(path, f"cannot be read as CSV ({e})", "remove it to label again") from None

    def start(self) -> None:
        """Create the folders, write the settings, and remove an unfinished last line of the table. Call it
        with the folder locked."""
        self.rows = self._read()
        for folder in (self.pictures, self.maps):
            files.check_writable(folder)
        with files.replacing(self.root / CARD) as temporary:
            temporary.write_text(yaml.safe_dump(self.made_by, sort_keys=False))
        self._write(self.rows.values())

    def _write(self, rows):
        with files.replacing(self.root / TABLE) as temporary:
            with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)

    def places(self, path: Path) -> tuple[Path, Path]:
        """The paths of a photograph and of its label map."""
        return self.pictures / f"{path.stem}.jpg", self.maps / f"{path.stem}.png"

    def is_done(self, path: Path) -> bool:
        """Whether this photograph, unchanged, was left out, or was labelled and both files exist."""
        row = self.rows.get(path.name)
        if row is None or row["sha256"] != files.sha256(path):
            return False
        return row["decision"] != LABELLED or all(files.kind_of(p) == "file" for p in self.places(path))

    def add(self, row: dict[str, Any]) -> None:
        """Append a line to the table. Call it after writing the files that the line names."""
        again = row["name"] in self.rows
        self.rows[row["name"]] = {key: str(row.get(key, "")) for key in COLUMNS}
        if again:                                       # its photograph has changed
            return self._write(self.rows.values())
        with files.appending(self.root / TABLE) as file:
            csv.DictWriter(file, COLUMNS).writerow(self.rows[row["name"]])

    def hashes(self, names: Iterable[str]) -> dict[str, int]:
        """name -> difference hash of the labelled photographs among `names`."""
        return {name: int(row["hash"], 16) for name in names
                if (row := self.rows.get(name)) and row["decision"] == LABELLED}


def photographs(folder: files.Name) -> list[Path]:
    """The photographs in a folder. UserError if two have one stem: their label maps would have one name."""
    paths = images.list_images(folder)
    _, faults = by_stem(paths)
    if faults:
        raise UserError(folder, f"{len(faults)} photographs share names: {faults[0]}", "rename them", faults)
    return paths


def run(paths: Sequence[Path], folder: Folder, segmenter: Any, options: Options,
        progress: Progress = lambda items, total: items) -> list[str]:
    """Label all `paths` that are not done. Returns the errors of those that cannot be, see `unreadable` too.

    segmenter: a networks.Segmenter with a mapping.
    """
    errors: list[str] = []
    with files.locked(folder.root):
        folder.start()
        known = folder.hashes(path.name for path in paths)
        for path in progress(paths, len(paths)):
            try:
                if not folder.is_done(path):
                    _label(path, folder, segmenter, options, known)
            except UserError as e:
                errors.append(str(e))
        overview(paths, folder, options)
    return errors


def label_map(segmenter: Any, read: Callable[[Sequence[int], str], np.ndarray],
              options: Options) -> tuple[np.ndarray, np.ndarray, float]:
    """The label map of a photograph: (labels h x w uint8, their probabilities h x w, share of indoor things).

    segmenter: see `run`. read(size, fit): returns the photograph, as images.read_image does.
    """
    scale = max(1.0, segmenter.side / min(options.size))
    seen = read([round(side * scale) for side in options.size], options.fit)
    labels, sure, indoor = segmenter.label(seen, options.size, options.mirrored)
    return without_specks(labels), sure, indoor


def doubts(sure: np.ndarray, indoor: float, options: Options) -> str:
    """The reason why a label map (see `label_map`) cannot be used; "" if it can."""
    doubtful = float((sure < options.least).mean())
    if indoor > INDOOR:
        return f"is not a landscape: {indoor:.0%} of it are indoor things"
    if doubtful > DOUBTFUL:
        return f"cannot be labelled with certainty: {doubtful:.0%} of it are doubtful"
    return ""


def _label(path, folder, segmenter, options, known):
    """Label one photograph, or reject it, and write the result. known: hashes of the accepted photographs."""
    row: dict[str, Any] = {"name": path.name, "sha256": files.sha256(path)}
    try:
        picture = images.read_image(path)
    except UserError as e:
        return folder.add({**row, "decision": UNREADABLE, "why": e.args[1]})
    try:
        _refuse_picture(picture, options)
        row["hash"] = f"{difference_hash(picture):016x}"
        twin = next((name for name, bits in known.items() if name != path.name
                     and bin(bits ^ int(row["hash"], 16)).count("1") <= ALIKE), None)
        if twin:
            raise Refused(f"looks like {twin}")
        labels, sure, indoor = label_map(segmenter, partial(images.read_image, path), options)
        row |= {"mean_probability": f"{sure.mean():.3f}", "doubtful": f"{(sure < options.least).mean():.3f}",
                "indoor": f"{indoor:.3f}",
                **{name: f"{(labels == k).mean():.4f}" for k, name in enumerate(NAMES)}}
        if why := doubts(sure, indoor, options):
            raise Refused(why)
        target, labels_target = folder.places(path)
        images.write_image(labels_target, labels)
        images.write_image(target, images.read_image(path, options.size, options.fit))
        known[path.name] = int(row["hash"], 16)
        folder.add({**row, "decision": LABELLED})
    except Refused as e:
        folder.add({**row, "decision": "refused", "why": str(e)})


def _refuse_picture(picture, options):
    height, width = picture.shape[:2]
    if width < options.size[0] or height < options.size[1]:
        raise Refused(f"is {width} x {height}, smaller than {options.size[0]} x {options.size[1]}")
    if options.fit == "refuse" and not images.same_proportions((width, height), options.size):
        raise Refused(f"is {width} x {height}, other proportions than {options.size[0]} x {options.size[1]}")
    if is_grey(picture):
        raise Refused("has no colours")


def refused(paths: Sequence[Path], folder: Folder) -> list[str]:
    """A line for each of the photographs that were left out."""
    rows = (folder.rows.get(path.name) for path in paths)
    return [f"{row['name']}: {row['why']}" for row in rows
            if row and row["decision"] not in (LABELLED, UNREADABLE)]


def unreadable(paths: Sequence[Path], folder: Folder) -> list[UserError]:
    """An error for each of the photographs that cannot be decoded."""
    rows = ((path, folder.rows.get(path.name)) for path in paths)
    return [UserError(path, row["why"], "replace or remove it") for path, row in rows
            if row and row["decision"] == UNREADABLE]


def count(paths: Sequence[Path], folder: Folder) -> int:
    """How many of the photographs have label maps."""
    rows = (folder.rows.get(path.name) for path in paths)
    return sum(bool(row and row["decision"] == LABELLED) for row in rows)


def overview(paths: Sequence[Path], folder: Folder, options: Options) -> Optional[Path]:
    """Write overview.jpg: photographs and their label maps in colours, the first of them."""
    rows: list[list[np.ndarray]] = []
    for path in paths:
        target, labels_target = folder.places(path)
        if len(rows) < ROWS and folder.rows.get(path.name, {}).get("decision") == LABELLED:
            colours = colorize(images.read_labels(labels_target))
            rows.append([images.resize(images.read_image(target), SHOWN),
                         images.resize(colours, SHOWN, smooth=False)])
    if rows:
        images.write_image(folder.root / OVERVIEW, images.grid(rows, ["photograph", "label map"]))
    return folder.root / OVERVIEW if rows else None


