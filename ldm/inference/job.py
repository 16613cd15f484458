"""A folder of masks as a job: what is to do, what stands already, what failed. Everything but the pipeline's arithmetic."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ldm import images, labels
from ldm import config as configs
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
    """Match masks with references and look what stands in `output`. Without one usable mask it is a UserError."""
    pairs_file = pairs or next((p for p in (Path(masks).parent / "label_to_img.json",) if p.exists()), None)
    matched, failures = landscape.inference_pairs(masks, references, pairs_file and landscape.read_pairs(pairs_file))
    items = [Item(m, r, Path(output) / f"{m.stem}.{suffix}") for m, r in matched]
    done = [] if overwrite else [item for item in items if item.result.exists()]
    return Plan([item for item in items if item not in done], done, failures)


def record(output, settings, model, rounds, seed):
    """Write beside the results what makes them. Results of other settings must not be mixed with these."""
    made_by = {"model": str(model), "rounds_file": str(rounds), "seed": seed, **settings._asdict()}
    path = Path(output) / RECORD
    if path.exists():
        standing = configs.read_yaml(path)
        differing = sorted(k for k in made_by.keys() | standing.keys() if made_by.get(k) != standing.get(k))
        if differing:
            raise UserError(output, f"holds results of other settings ({', '.join(differing)})",
                            "another --output is needed, or --overwrite")
    configs.save(path, made_by)


def run(plan, pipeline, seed, batch_size, on_step=lambda: None):
    """Make `plan.todo`, batch by batch; yields how many items each batch dealt with. What cannot be read is added to
    `plan.failures`, and the others are made all the same."""
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
            results = pipeline(np.stack(masks), np.stack(references), [i.mask.stem for i in items], seed, on_step)
            for item, picture in zip(items, results):
                images.write_image(item.result, picture)
                plan.done.append(item)
        yield len(batch)


def overview(plan, output):
    """Write overview.jpg: mask in colours, reference and result, row by row, of the first results. -> its path."""
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
    path = Path(output) / "overview.jpg"
    images.write_image(path, images.grid(rows, ["mask", "style reference", "result"]))
    return path
