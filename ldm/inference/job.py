"""A job on a folder of masks: which results are missing, made, or failed. Needs no Jittor."""
from __future__ import annotations

import itertools
import logging
import os
import unicodedata
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Optional, Protocol, Sequence, cast

import numpy as np

from ldm import files, images, labels
from ldm.datasets import landscape
from ldm.errors import UserError
from ldm.files import Name
from ldm.images import Size
from ldm.inference.batch import Batch
from ldm.inference.pixels import NOT_FINITE
from ldm.inference.record import (
    FOLDER,
    INPUTS,
    NONE,
    OTHERWISE,
    SAME,
    STATES,
    UNKNOWN,
    Hashes,
    Record,
    Writer,
)

log = logging.getLogger(__name__)
LONGEST_NAME = 255                                  # bytes, in Linux' file systems
ZIP = "result.zip"                                  # as `about`: results end in .jpg or .png
OVERVIEW_ROWS, OVERVIEW_SIZE, OVERVIEW_SEEDS = 12, 256, 6     # masks; a picture's longer side; results a mask

OnStep = Callable[[int], Any]                       # is called with the number of steps that were made


class Item(NamedTuple):
    """A result to make. reference: None for one from noise. seed: of the noise, with the mask's name."""

    mask: Path
    reference: Optional[Path]
    result: Path
    reading: images.Reading = images.AS_IS
    seed: int = 0
    reference_map: Optional[Path] = None        # of the reference, for models that read it

    def labels(self, size: Size) -> np.ndarray:
        """The mask, h x w uint8."""
        return images.read_labels(self.mask, size, self.reading)

    def picture(self, size: Size) -> Optional[np.ndarray]:
        """The reference, H x W x 3 uint8; None without one."""
        return None if self.reference is None else images.read_image(self.reference, size, self.reading.fit)

    def reference_labels(self, size: Size) -> Optional[np.ndarray]:
        """The label map of the reference, h x w uint8; None if the model does not read it."""
        return (None if self.reference_map is None
                else images.read_labels(self.reference_map, size, self.reading))


class Plan(NamedTuple):
    """The work of a job. changed: those of `todo` whose results exist, but were made from other inputs."""

    todo: list[Item]
    done: list[Item]                    # their results exist; run() moves them here from `todo`
    failures: list[UserError]
    writer: Optional[Writer] = None     # of the folder of results
    changed: int = 0


class Maker(Protocol):
    """The part of a Pipeline that a job needs."""

    size: Sequence[int]                 # width, height of pictures
    latent_size: Sequence[int]
    step_count: int

    def files(self, batch: Batch, suffix: str, on_step: Callable[[], None]) -> Sequence[Optional[bytes]]:
        """See Pipeline.files."""


def refuse_inputs(output: Name, *inputs: Optional[Name]) -> None:
    """UserError if `output` is one of the folders or files `inputs` or contains one of them, also through
    links: results must never replace their inputs."""
    place = resolved(output)
    for path in [Path(name) for name in inputs if name]:
        if place in (resolved(path), *resolved(path).parents) or _same_file(output, path):
            raise UserError(output, f"is or contains {path}, which is read", "choose another --output")


def resolved(path: Name) -> Path:
    """The absolute path without links; UserError if it has none, as with links in a circle."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as e:        # RuntimeError: links in a circle, up to 3.12
        raise UserError(path, f"cannot be used ({getattr(e, 'strerror', None) or e})",
                        "give another path") from e


def _same_file(one, other):
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def one_each(items: Sequence[Item]) -> tuple[list[Item], list[UserError]]:
    """(the items whose results can have names of their own, a UserError for each other one).

    Names count as equal whatever their case or the form of their accents, as in some file systems.
    """
    found: dict[str, Item] = {}
    errors = []
    for item in items:
        name = unicodedata.normalize("NFC", unicodedata.normalize("NFC", item.result.name).casefold())
        if len(os.fsencode(item.result.name)) > LONGEST_NAME:
            errors.append(UserError(item.mask, f"gives its result a name of more than {LONGEST_NAME} bytes",
                                    "use a shorter name"))
        elif found.setdefault(name, item) is not item:
            errors.append(UserError(item.mask, f"would have the same result as {found[name].mask.name}",
                                    "rename one of them"))
    return list(found.values()), errors


def with_reference_maps(items: Sequence[Item], folder: Name) -> tuple[list[Item], list[UserError]]:
    """(the items with the label maps of their references, files of the same names in `folder`; a UserError
    for each item whose reference has none)."""
    maps, _ = landscape.by_stem(images.list_images(folder, images.MAP_SUFFIXES))
    found, errors = [], []
    for item in items:
        path = item.reference and maps.get(landscape.normal(item.reference.stem))
        if path:
            found.append(item._replace(reference_map=path))
        else:
            errors.append(UserError(item.reference or item.mask, f"has no label map in {folder}",
                                    "add one of the same name"))
    return found, errors


def plan(masks: Name, references: Optional[Name], pairs: Optional[Name], output: Name, suffix: str,
         overwrite: bool = False, count: Optional[int] = None, record: Optional[Record] = None,
         reading: images.Reading = images.AS_IS, seed: int = 0,
         seeds: Optional[Sequence[int]] = None, part: tuple[int, int] = (1, 1),
         reference_maps: Optional[Name] = None) -> Plan:
    """Match masks with references and look for results in `output`.

    references: a folder or file; None: pictures from noise, without references. count: the first so many
    pairs only. record: of `output`. seeds: instead of `seed`, several for each mask, whose results are called
    MASK_seedN. part: (I, N) takes every N-th result of the whole list, from the I-th on; the first part
    reports the masks that no part can use. reference_maps: the folder of the references' label maps, for
    models that read them. Raises UserError if no mask can be used and, without `overwrite`, for pictures of
    other settings and pictures that the record does not know.
    """
    record = record or Record(output, {})
    if references is None:
        matched, failures = _masks_alone(masks)
    else:
        beside = Path(masks).parent / "label_to_img.json"
        if pairs is None and files.kind_of(references) != "file" and beside.exists():
            pairs = beside                          # one photograph for all masks needs no pairs
        named = landscape.read_pairs(pairs) if pairs else None
        matched, failures = landscape.inference_pairs(masks, references, named)
    items, twice = one_each([Item(mask, reference, Path(output) / f"{name}.{suffix}", reading, number)
                             for mask, reference in matched[:count]
                             for name, number in _names(mask.stem, seed, seeds)])
    if reference_maps is not None:
        items, without = with_reference_maps(items, reference_maps)
        failures = failures + without
    items, failures = items[part[0] - 1::part[1]], failures + twice if part[0] == 1 else []
    todo: list[Item] = []
    found: dict[str, list[Item]] = {state: [] for state in STATES}
    others = record.others({item.result.name for item in items})
    for item in items:
        state, made_by = record.state(item)
        found[state].append(item)
        if state != SAME:
            todo.append(item)
        if state not in (NONE, SAME):
            _refuse_linked_inputs(item)
        if state == OTHERWISE and made_by:
            others.add(made_by)
    if not overwrite:
        record.refuse(len(found[UNKNOWN]), others)
    return Plan(todo, found[SAME], failures, record.writer, len(found[INPUTS]))


def _refuse_linked_inputs(item):
    """UserError if an input is a link to the very picture that the result would replace."""
    place = os.path.join(os.path.realpath(item.result.parent), item.result.name)
    for path in (item.mask, item.reference, item.reference_map):
        if path and os.path.realpath(path) == place:
            raise UserError(item.result, f"is read as {path}", "choose another --output")


def _masks_alone(masks):
    paths, failures = landscape.split_maps(masks)
    found, _ = landscape.by_stem(paths)
    failures += [UserError(path, f"has the name of {found[landscape.normal(path.stem)].name}", "rename one")
                 for path in paths if found[landscape.normal(path.stem)] != path]
    if not found:
        raise failures[0] if failures else UserError(masks, "holds no label map", "give a folder of PNGs")
    return [(path, None) for path in found.values()], failures


def _names(stem, seed, seeds):
    """[(a result's name without suffix, its seed)] of a mask."""
    return [(stem, seed)] if seeds is None else [(f"{stem}_seed{number}", number) for number in seeds]


def check(plan: Plan, size: Size) -> None:
    """Read every mask and reference that will be used, and move what cannot be read to `plan.failures`."""
    known: dict[Any, Optional[UserError]] = {}
    for item in plan.todo:
        if item[:2] not in known:
            known[item[:2]] = _fault(item, size)
    faults = [known[item[:2]] for item in plan.todo]
    plan.failures.extend(fault for fault in faults if fault)
    plan.todo[:] = [item for item, fault in zip(plan.todo, faults) if not fault]


def _fault(item, size):
    try:
        item.labels(size)
        item.picture(size)
        item.reference_labels(size)
    except UserError as e:
        return e
    return None


def batches(todo: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in lists of at most `size`."""
    return [todo[start:start + size] for start in range(0, len(todo), size)]


def run(plan: Plan, pipeline: Maker, batch_size: int, on_step: OnStep = lambda steps: None) -> Iterator[int]:
    """Make `plan.todo`, batch by batch; yields the number of items of each batch.

    What cannot be read is added to `plan.failures`, and the others are made. on_step: see `make`.
    """
    make_parts = BatchSplitter(partial(make, pipeline=pipeline, writer=cast(Writer, plan.writer)))
    for batch in batches(plan.todo, batch_size):
        made, failures = make_parts(batch, on_step=on_step)
        plan.done.extend(made)
        plan.failures.extend(failures)
        yield len(batch)


class Counted:
    """A callback `on_step` that sums its calls."""

    def __init__(self, on_step: OnStep) -> None:
        self.on_step, self.steps = on_step, 0

    def __call__(self, steps: int) -> None:
        self.steps += steps
        self.on_step(steps)


class BatchSplitter:
    """Calls `make(batch, on_step=...)`. If the device's memory is not enough, it halves the size of the
    parts, from then on."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        self.size: Optional[int] = None                 # None: whole batches

    def __call__(self, batch: Sequence[Item], on_step: OnStep) -> tuple[list, list]:
        made: list = []
        failures: list = []
        while batch:
            part, counted = batch[:self.size], Counted(on_step)
            try:
                results = self.make(part, on_step=counted)
            except MemoryError as e:
                if len(part) == 1:
                    raise UserError(part[0].mask, "does not fit into the device's memory",
                                    "use a GPU with more memory, or --precision fp16 or bf16") from None
                on_step(-counted.steps)                 # they will be made again
                self.size = len(part) // 2
                log.warning("%s do not fit into the device's memory; trying %d", e, self.size)
                continue
            made += results[0]
            failures += results[1]
            batch = batch[len(part):]
        return made, failures


def make(batch: Sequence[Item], pipeline: Maker, writer: Writer,
         on_step: OnStep = lambda steps: None) -> tuple[list[Item], list[UserError]]:
    """Make and write a batch -> (the items made, UserErrors of those that cannot be read).

    writer: writes results and their lines in the record of their folder. `on_step(n)` is called after each
    step of n images, and with all the steps of an image that is left out: together they are the rounds' steps
    for each item.
    """
    inputs: list[Any] = []
    failures: list[UserError] = []
    hashes = Hashes()
    for item in batch:
        try:
            of_bytes = hashes.inputs(item)      # before they are read: the next job sees a later change
            inputs.append((item, of_bytes, item.labels(pipeline.latent_size), item.picture(pipeline.size),
                           item.reference_labels(pipeline.latent_size)))
        except UserError as e:
            failures.append(e)
            on_step(pipeline.step_count)
    if not inputs:
        return [], failures
    items, hashed, masks, references, regions = zip(*inputs)
    arrays = Batch(np.stack(masks), None if references[0] is None else np.stack(references),
                   [item.mask.stem for item in items], [item.seed for item in items],
                   None if regions[0] is None else np.stack(regions))
    results = pipeline.files(arrays, items[0].result.suffix[1:], lambda: on_step(len(items)))
    made = []
    for item, data, of_inputs in zip(items, results, hashed):
        if data is None:
            failures.append(UserError(item.mask, *NOT_FINITE))
            continue
        writer.write(item.result, data, of_inputs, hashes)
        made.append(item)
    return made, failures


def check_zip_names(plan: Plan) -> None:
    """UserError if a result of the job has a name that no zip file can hold: one that is not valid UTF-8."""
    for item in plan.todo + plan.done:
        try:
            item.result.name.encode()
        except UnicodeEncodeError:
            raise UserError(item.mask, "has a name that no zip file can hold",
                            "rename it, or leave out --zip") from None


def pack(plan: Plan, output: Name) -> Path:
    """Write result.zip, with the results and nothing else, sorted by name -> path. UserError if an image of
    the job is missing."""
    check_zip_names(plan)
    path = Path(output) / ZIP
    if plan.failures:
        raise UserError(path, f"is not written: {len(plan.failures)} images are missing", "fix them first")
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for item in sorted(plan.done, key=lambda item: item.result):
            info = zipfile.ZipInfo(item.result.name)            # dated 1980: equal results, equal bytes
            info.external_attr = 0o644 << 16
            archive.writestr(info, item.result.read_bytes())
    return path


def overview(plan: Plan, output: Name) -> Optional[Path]:
    """Write about/overview.jpg. Returns its path, or None if there is nothing to show.

    It has a row for each of the first masks: the mask in colours, its reference, its results.
    """
    done = sorted(plan.done, key=lambda item: (item.mask, item.seed))
    by_mask = itertools.groupby(done, key=lambda item: item.mask)
    groups = [list(group)[:OVERVIEW_SEEDS] for _, group in by_mask]
    rows = [row for row in map(_row, groups[:OVERVIEW_ROWS]) if row]
    if not rows:
        return None
    items = max(groups[:OVERVIEW_ROWS], key=len)
    headings = ["mask"] + (["style reference"] if items[0].reference else [])
    headings += ["result"] if len(items) == 1 else [f"seed {item.seed}" for item in items]
    if len(rows) > 3 and len(headings) <= 3:    # two of them side by side: a screen is wider than high
        rows, headings = [sum(rows[i:i + 2], []) for i in range(0, len(rows), 2)], headings * 2
    path = Path(output) / FOLDER / "overview.jpg"
    images.write_image(path, images.grid(rows, headings))
    return path


def _row(items):
    """The pictures of one mask; [] if the mask or its reference was deleted meanwhile."""
    try:
        results = [images.read_image(item.result) for item in items]
        size = results[0].shape[1::-1]
        mask, reference = labels.colorize(items[0].labels(size)), items[0].picture(size)
    except UserError:
        return []
    small = [max(1, round(side * OVERVIEW_SIZE / max(size))) for side in size]
    pictures = ([] if reference is None else [reference]) + results
    return [images.resize(mask, small, smooth=False), *(images.resize(x, small) for x in pictures)]
