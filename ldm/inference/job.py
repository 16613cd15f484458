"""A folder of masks as a job: what is to do, what stands, what failed; all but the pipeline's arithmetic."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ldm import config as configs
from ldm import files, images, labels
from ldm.datasets import landscape
from ldm.errors import UserError

OVERVIEW_ROWS, OVERVIEW_SIZE = 12, (256, 192)
RECORD = "inference.yaml"


class Item(NamedTuple):
    mask: Path
    reference: Path
    result: Path


class Plan(NamedTuple):
    todo: list          # Items to make
    done: list          # Items whose results stand; run() moves them here from `todo`
    failures: list      # UserErrors


def plan(masks, references, pairs, output, suffix, overwrite=False):
    """Match masks with references and look what stands in `output`. No usable mask is a UserError."""
    pairs_file = pairs or next((p for p in (Path(masks).parent / "label_to_img.json",) if p.exists()), None)
    matched, failures = landscape.inference_pairs(masks, references,
                                                  pairs_file and landscape.read_pairs(pairs_file))
    items = [Item(m, r, Path(output) / f"{m.stem}.{suffix}") for m, r in matched]
    done = [] if overwrite else [item for item in items if item.result.exists()]
    return Plan([item for item in items if item not in done], done, failures)


def check(plan, size):
    """Read every mask and reference that is to be used, and move what cannot be read to `plan.failures`."""
    for item in list(plan.todo):
        try:
            images.read_labels(item.mask)
            images.read_image(item.reference, size)
        except UserError as e:
            plan.todo.remove(item)
            plan.failures.append(e)


def record(output, settings, model, seed, overwrite=False):
    """Write beside the results what makes them: settings, seed, weights. Results of other settings must not
    be mixed with these, unless all are made anew."""
    model = Path(model)
    made_by = {"model": model.name, "seed": seed, **settings._asdict(),
               "weights": {name: files.sha256(model / f"{name}.safetensors")
                           for name in ("unet", "autoencoder")}}
    path = Path(output) / RECORD
    if path.exists() and not overwrite:
        standing = configs.read_yaml(path)
        differing = sorted(k for k in made_by.keys() | standing.keys() if made_by.get(k) != standing.get(k))
        if differing:
            raise UserError(output, f"holds results made otherwise ({', '.join(differing)})",
                            "another --output is needed, or --overwrite")
    configs.save(path, made_by)


def run(plan, pipeline, seed, batch_size, on_step=lambda images: None):
    """Make `plan.todo`, batch by batch; yields how many items each batch dealt with. What cannot
    be read is added to `plan.failures`, and the others are made all the same. `on_step(n)` is
    called after a step of n images."""
    for start in range(0, len(plan.todo), batch_size):
        batch, inputs = plan.todo[start:start + batch_size], []
        for item in batch:
            try:
                inputs.append((item, images.read_labels(item.mask, pipeline.latent_size),
                               images.read_image(item.reference, pipeline.size)))
            except UserError as e:
                plan.failures.append(e)
        if inputs:
            items, masks, references = zip(*inputs)
            results = pipeline(np.stack(masks), np.stack(references), [i.mask.stem for i in items], seed,
                               lambda: on_step(len(items)))
            for item, picture in zip(items, results):
                images.write_image(item.result, picture)
                plan.done.append(item)
        yield len(batch)


def overview(plan, output):
    """Write overview.jpg: mask in colours, reference, result, row by row, of the first results -> path."""
    rows = []
    for item in sorted(plan.done)[:OVERVIEW_ROWS]:
        try:
            mask = labels.colorize(images.read_labels(item.mask, OVERVIEW_SIZE))
            rows.append([mask, images.read_image(item.reference, OVERVIEW_SIZE),
                         images.read_image(item.result, OVERVIEW_SIZE)])
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
