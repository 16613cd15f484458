"""Seconds for a picture and numbers of parameters, for a study's table."""
from __future__ import annotations

import json
import math
import os
import time
from typing import Sequence

from ldm import files, weights
from ldm.ablation.study import RowPlan, Study
from ldm.documents import read_json
from ldm.errors import UserError
from ldm.inference.batch import Batch
from ldm.inference.job import Item
from ldm.inference.makers import Maker
from ldm.inference.record import digest

FILE = "speed.json"
REPEATS = 2                     # measured passes, after one that may compile
BUFFERS = ("weight_u", "weight_v", "running_mean", "running_var", "num_batches_tracked")


def parameters(maker: Maker) -> int:
    """The numbers that training changes in all the networks that make a picture."""
    total = 0
    for path in maker.paths.values():
        with weights.opened(path) as (entries, _):
            total += sum(math.prod(entry.shape) for name, entry in entries.items()
                         if not name.endswith(BUFFERS))
    return total


def seconds(maker: Maker, item: Item, seed: int) -> float:
    """For one picture from arrays to the bytes of its file: the shortest of some passes."""
    pipeline = maker.load()
    regions = item.reference_labels(pipeline.latent_size)
    reference = item.picture(pipeline.size)
    batch = Batch(item.labels(pipeline.latent_size)[None], None if reference is None else reference[None],
                  [item.mask.stem], [seed], None if regions is None else regions[None])
    times = []
    for _ in range(1 + REPEATS):
        begin = time.perf_counter()
        pipeline.files(batch, "jpg")
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def _read(path):
    """The measurements in a file that `add` wrote."""
    known = read_json(path, "JSON of this program")
    whole = isinstance(known, dict) and all(isinstance(one, dict) and isinstance(one.get("seconds"), float)
                                            and isinstance(one.get("threads"), str) for one in known.values())
    if not whole:
        raise UserError(path, "does not hold the seconds that this program writes", "remove it")
    return known


def add(study: Study, plans: Sequence[RowPlan], table: Sequence[dict]) -> None:
    """Add "seconds" and "million parameters" to the numbers of the rows. A row that was measured in this
    folder with the same settings is not measured again."""
    path = study.output / FILE
    known = _read(path) if files.kind_of(path) else {}
    threads = os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))
    by_name = {row["name"]: row["numbers"] for row in table}
    for row, made_by, found, _ in plans:
        key = digest(made_by)
        if key not in known:
            one = seconds(row.maker, sorted(found.done)[0], study.seed)
            known[key] = {"seconds": one, "threads": threads}
            with files.replacing(path) as temporary:
                temporary.write_text(json.dumps(known, indent=1))
        measured = known[key]
        by_name[row.name]["seconds"] = {"value": measured["seconds"],
                                        "variant": f"one picture at a time, {measured['threads']} threads"}
        by_name[row.name]["million parameters"] = {"value": parameters(row.maker) / 1e6}
