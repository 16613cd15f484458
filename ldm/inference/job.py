"""A folder of masks as a job: what is to do, what stands, what failed; all but the pipeline's arithmetic."""
import logging
import os
import unicodedata
import zipfile
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from ldm import files, images, labels
from ldm.datasets import landscape
from ldm.errors import UserError
from ldm.inference.batch import Batch
from ldm.inference.pixels import NOT_FINITE
from ldm.inference.record import FOLDER, INPUTS, OTHERWISE, SAME, STATES, UNKNOWN, Hashes, Record, Writer

log = logging.getLogger(__name__)
ZIP = "result.zip"                                  # as `about`: results end in .jpg or .png
OVERVIEW_ROWS, OVERVIEW_SIZE = 12, (256, 192)


class Item(NamedTuple):
    mask: Path
    reference: Path
    result: Path
    reading: images.Reading = images.AS_IS

    def labels(self, size):
        return images.read_labels(self.mask, size, self.reading)

    def picture(self, size):
        """The reference."""
        return images.read_image(self.reference, size, self.reading.fit)


class Plan(NamedTuple):
    todo: list          # Items to make
    done: list          # Items whose results are there; run() moves them here from `todo`
    failures: list      # UserErrors
    writer: Optional[Writer] = None     # of the folder of results
    changed: int = 0    # those of `todo` whose results are there, but made from other inputs


def refuse_inputs(output, *inputs):
    """UserError where `output` is one of the folders or files `inputs` or holds one of them, also by links:
    results must never take the place of what they are made from."""
    place = resolved(output)
    for path in map(Path, filter(None, inputs)):
        if place in (resolved(path), *resolved(path).parents) or _same_file(output, path):
            raise UserError(output, f"is or holds {path}, which is read", "choose another --output")


def resolved(path):
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


def one_each(items):
    """(the items whose results have names of their own, a UserError for each other one). Names count as
    equal whatever their case or the form of their accents: some file systems do not tell them apart."""
    found, errors = {}, []
    for item in items:
        name = unicodedata.normalize("NFC", unicodedata.normalize("NFC", item.result.name).casefold())
        first = found.setdefault(name, item)
        if first is not item:
            errors.append(UserError(item.mask, f"would have the same result as {first.mask.name}",
                                    "rename one of them"))
    return list(found.values()), errors


def plan(masks, references, pairs, output, suffix, overwrite=False, count=None, record=None,
         reading=images.AS_IS):
    """Match masks with references and look what is in `output` already. -> Plan

    No usable mask is a UserError, and so are, without `overwrite`, pictures of other settings and pictures
    that `record` (a Record of `output`) does not know. count: the first so many pairs only. reading: how
    masks and references are read.
    """
    record = record or Record(output, {})
    pairs_file = pairs or next((p for p in (Path(masks).parent / "label_to_img.json",) if p.exists()), None)
    matched, failures = landscape.inference_pairs(masks, references,
                                                  pairs_file and landscape.read_pairs(pairs_file))
    items, twice = one_each([Item(m, r, Path(output) / f"{m.stem}.{suffix}", reading)
                             for m, r in matched[:count]])
    todo, found = [], {state: [] for state in STATES}
    others = record.others({item.result.name for item in items})
    for item in items:
        state, made_by = record.state(item)
        found[state].append(item)
        if state != SAME:
            todo.append(item)
        if state == OTHERWISE:
            others.add(made_by)
    if not overwrite:
        record.refuse(len(found[UNKNOWN]), others)
    return Plan(todo, found[SAME], failures + twice, record.writer, len(found[INPUTS]))


def check(plan, size):
    """Read every mask and reference that is to be used, and move what cannot be read to `plan.failures`."""
    usable = []
    for item in plan.todo:
        try:
            item.labels(size)
            item.picture(size)
            usable.append(item)
        except UserError as e:
            plan.failures.append(e)
    plan.todo[:] = usable


def batches(todo, size):
    """The items `todo` in lists of at most `size`."""
    return [todo[start:start + size] for start in range(0, len(todo), size)]


def run(plan, pipeline, seed, batch_size, on_step=lambda steps: None):
    """Make `plan.todo`, batch by batch; yields how many items each batch dealt with. What cannot be read is
    added to `plan.failures`, and the others are made all the same. `on_step` is as in `make`."""
    make_parts = Halving(partial(make, pipeline=pipeline, seed=seed, writer=plan.writer))
    for batch in batches(plan.todo, batch_size):
        made, failures = make_parts(batch, on_step=on_step)
        plan.done.extend(made)
        plan.failures.extend(failures)
        yield len(batch)


class Halving:
    """`make(batch, on_step=...)` in parts: whenever the device's memory does not hold so many images, in
    parts of half as many, from then on."""

    def __init__(self, make):
        self.make, self.size = make, None               # None: whole batches

    def __call__(self, batch, on_step):
        made, failures = [], []
        while batch:
            part, steps = batch[:self.size], []
            try:
                results = self.make(part, on_step=lambda n, steps=steps: (steps.append(n), on_step(n)))
            except MemoryError as e:
                if len(part) == 1:
                    raise UserError(part[0].mask, "does not fit into the device's memory",
                                    "a GPU of more memory is needed, or --precision fp16 or bf16") from e
                on_step(-sum(steps))                    # they are run again
                self.size = len(part) // 2
                log.warning("%s do not fit into the device's memory; trying %d", e, self.size)
                continue
            made += results[0]
            failures += results[1]
            batch = batch[len(part):]
        return made, failures


def make(batch, pipeline, seed, writer, on_step=lambda steps: None):
    """Make and write a batch -> (the items made, UserErrors of those that cannot be read).

    writer: what writes results and their lines in the record of their folder.
    `on_step(n)` is called after each step of n images, and with all the steps of an image that is left out:
    together they are the rounds' steps for each item.
    """
    inputs, failures, hashes = [], [], Hashes()
    for item in batch:
        try:
            of_bytes = hashes.inputs(item)      # before they are read: the next job sees a later change
            inputs.append((item, of_bytes, item.labels(pipeline.latent_size), item.picture(pipeline.size)))
        except UserError as e:
            failures.append(e)
            on_step(pipeline.step_count)
    if not inputs:
        return [], failures
    items, of_bytes, masks, references = zip(*inputs)
    results = pipeline.files(Batch(np.stack(masks), np.stack(references), [item.mask.stem for item in items],
                                   [seed] * len(items)),
                             items[0].result.suffix[1:], lambda: on_step(len(items)))
    made = []
    for item, data, hashed in zip(items, results, of_bytes):
        if data is None:
            failures.append(UserError(item.mask, *NOT_FINITE))
            continue
        writer.write(item.result, data, hashed, hashes)
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


def pack(plan, output):
    """Write result.zip, which holds the results and nothing else, sorted by name -> path. UserError if an
    image of the job is missing."""
    check_zip_names(plan)
    path = Path(output) / ZIP
    if plan.failures:
        raise UserError(path, f"is not written: {len(plan.failures)} images are missing", "mend them first")
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for item in sorted(plan.done):
            info = zipfile.ZipInfo(item.result.name)            # dated 1980: equal results, equal bytes
            info.external_attr = 0o644 << 16
            archive.writestr(info, item.result.read_bytes())
    return path


def overview(plan, output):
    """Write about/overview.jpg: mask in colours, reference, result, row by row, of the first results -> path.
    """
    rows = []
    for item in sorted(plan.done)[:OVERVIEW_ROWS]:
        try:
            result = images.read_image(item.result)
            mask = labels.colorize(item.labels(result.shape[1::-1]))
            rows.append([images.resize(mask, OVERVIEW_SIZE, smooth=False),
                         images.resize(item.picture(result.shape[1::-1]), OVERVIEW_SIZE),
                         images.resize(result, OVERVIEW_SIZE)])
        except UserError:                   # a mask or reference that is gone since; the result itself stands
            continue
    if not rows:
        return None
    headings = ["mask", "style reference", "result"]
    if len(rows) > 3:                       # two triples side by side: a screen is wider than high
        rows, headings = [sum(rows[i:i + 2], []) for i in range(0, len(rows), 2)], headings * 2
    path = Path(output) / FOLDER / "overview.jpg"
    images.write_image(path, images.grid(rows, headings))
    return path
