"""A folder of masks as a job: what is to do, what stands, what failed; all but the pipeline's arithmetic."""
import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ldm import config as configs
from ldm import files, images, labels
from ldm.datasets import landscape
from ldm.errors import UserError
from ldm.inference.pixels import NOT_FINITE

log = logging.getLogger(__name__)
OVERVIEW_ROWS, OVERVIEW_SIZE = 12, (256, 192)
RECORD = "inference.yaml"


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
    done: list          # Items whose results stand; run() moves them here from `todo`
    failures: list      # UserErrors


def plan(masks, references, pairs, output, suffix, overwrite=False, count=None,
         reading=images.AS_IS):
    """Match masks with references and look what stands in `output`. No usable mask is a UserError.
    `count`: the first so many pairs only. `reading`: how masks and references are read."""
    pairs_file = pairs or next((p for p in (Path(masks).parent / "label_to_img.json",) if p.exists()), None)
    matched, failures = landscape.inference_pairs(masks, references,
                                                  pairs_file and landscape.read_pairs(pairs_file))
    items = [Item(m, r, Path(output) / f"{m.stem}.{suffix}", reading) for m, r in matched[:count]]
    done = [] if overwrite else [item for item in items if item.result.exists()]
    return Plan([item for item in items if item not in done], done, failures)


def check(plan, size):
    """Read every mask and reference that is to be used, and move what cannot be read to `plan.failures`."""
    for item in list(plan.todo):
        try:
            item.labels(size)
            item.picture(size)
        except UserError as e:
            plan.todo.remove(item)
            plan.failures.append(e)


def record(output, settings, model, seed, overwrite=False, unet=None, precision="fp32"):
    """Write beside the results what makes them: settings, seed, weights -> that. Results of other settings
    must not be mixed with these, unless all are made anew. `unet`: see Pipeline.load."""
    model = Path(model)
    made_by = {"model": model.name, "seed": seed, "precision": precision, **settings._asdict(),
               "weights": {"unet": files.sha256(unet or model / "unet.safetensors"),
                           "autoencoder": files.sha256(model / "autoencoder.safetensors")}}
    path = Path(output) / RECORD
    if path.exists() and not overwrite:
        standing = {"precision": "fp32", **configs.read_yaml(path)}      # which records of 0.1 do not say
        differing = sorted(k for k in made_by.keys() | standing.keys() if made_by.get(k) != standing.get(k))
        if differing:
            raise UserError(output, f"holds results made otherwise ({', '.join(differing)})",
                            "another --output is needed, or --overwrite")
    configs.save(path, made_by)
    return made_by


def batches(todo, size):
    """The items `todo` in lists of at most `size`."""
    return [todo[start:start + size] for start in range(0, len(todo), size)]


def run(plan, pipeline, seed, batch_size, on_step=lambda steps: None):
    """Make `plan.todo`, batch by batch; yields how many items each batch dealt with. What cannot be read is
    added to `plan.failures`, and the others are made all the same. `on_step` is as in `make`."""
    make_parts = Halving(partial(make, pipeline=pipeline, seed=seed))
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
                results = self.make(part, on_step=lambda n: (steps.append(n), on_step(n)))
            except MemoryError as e:
                if len(part) == 1:
                    raise UserError(part[0].mask, "does not fit into the device's memory",
                                    "a GPU of more memory is needed, or --precision fp16 or bf16")
                on_step(-sum(steps))                    # they are run again
                self.size = len(part) // 2
                log.warning("%s do not fit into the device's memory; trying %d", e, self.size)
                continue
            made += results[0]
            failures += results[1]
            batch = batch[len(part):]
        return made, failures


def make(batch, pipeline, seed, on_step=lambda steps: None):
    """Make and write a batch -> (the items made, UserErrors of those that cannot be read).

    `on_step(n)` is called after each step of n images, and with all the steps of an image that is left out:
    together they are the rounds' steps for each item.
    """
    inputs, failures = [], []
    for item in batch:
        try:
            inputs.append((item, item.labels(pipeline.latent_size),
                           item.picture(pipeline.size)))
        except UserError as e:
            failures.append(e)
            on_step(sum(r.start for r in pipeline.rounds))
    if not inputs:
        return [], failures
    items, masks, references = zip(*inputs)
    results = pipeline.files(np.stack(masks), np.stack(references), [item.mask.stem for item in items], seed,
                             lambda: on_step(len(items)), suffix=items[0].result.suffix[1:])
    made = []
    for item, data in zip(items, results):
        if data is None:
            failures.append(UserError(item.mask, *NOT_FINITE))
            continue
        with files.replacing(item.result) as temporary:
            temporary.write_bytes(data)
        made.append(item)
    return made, failures


def overview(plan, output):
    """Write overview.jpg: mask in colours, reference, result, row by row, of the first results -> path."""
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
    path = Path(output) / "overview.jpg"
    images.write_image(path, images.grid(rows, headings))
    return path
