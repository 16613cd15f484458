"""A study: makes the pictures of each row of a table, measures them, and writes the report.

A study's folder holds a folder of results for each row, one of shuffled results, and the report.
"""
from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple, Optional, Sequence

import yaml

from ldm import files, images, labels
from ldm.ablation import report
from ldm.datasets.landscape import read_pairs
from ldm.errors import UserError
from ldm.evaluation import runner
from ldm.inference import job, record
from ldm.inference.makers import Maker

SHUFFLED = "shuffled"   # folder of the last row's results, each under another mask's name
SHOWN = 8               # pairs whose pictures are in the report

Pair = tuple[Path, Path]                    # a mask and its reference
Gallery = tuple[list[str], list[list[Any]]]     # headings, and rows of H x W x 3 uint8 pictures


class Row(NamedTuple):
    """A row of the table. name: its folder of results. title: as the paper prints it."""

    name: str
    title: str
    maker: Maker


@dataclass(frozen=True)
class Study:
    """The rows to compare, and their inputs and outputs.

    name: of the report's files, and its title. references, truth: folders of images; `truth` holds the real
    image of each mask and may be missing. reference_maps: the folder of the references' label maps, for rows
    that read them. pairs_file: the reference of each mask; without it they have the same names. count: the
    number of pairs. weights: the models folder with the weights of the metrics. command: the command line,
    for the report.
    """

    name: str
    rows: Sequence[Row]
    masks: Path
    references: Path
    truth: Path
    pairs_file: Optional[Path]
    train_images: Path
    count: int
    seed: int
    batch_size: int
    reading: images.Reading
    weights: Path
    output: Path
    command: Sequence[str]
    reference_maps: Optional[Path] = None


class RowPlan(NamedTuple):
    """The work for one row. made_by: what decides about its pictures. steps: of the network, in all."""

    row: Row
    made_by: dict
    plan: job.Plan
    steps: int


def plan(study: Study) -> list[RowPlan]:
    """The missing work of each row. UserError if a row's folder holds other results."""
    plans = []
    for row in study.rows:
        folder = study.output / row.name
        made_by = row.maker.made_by(study.seed, study.reading)
        maps = study.reference_maps if row.maker.reads_reference_maps else None
        of_row = record.Record(folder, made_by)
        found = job.plan(study.masks, study.references, study.pairs_file, folder, "jpg", count=study.count,
                         record=of_row, reading=study.reading, seed=study.seed, reference_maps=maps)
        of_row.start()
        plans.append(RowPlan(row, made_by, found, len(found.todo) * row.maker.steps))
    return plans


def generate(study: Study, plans: Sequence[RowPlan], bar: Callable[..., Any]) -> list[Pair]:
    """Make all missing pictures of all rows, and return the pairs. UserError for a pair that cannot be made.

    bar(total, desc): a context manager of a progress bar over a row's steps, as tqdm is.
    """
    for row, _, found, steps in plans:
        usable = len(found.todo) + len(found.done)
        if usable < study.count:
            first = "".join(f" ({failure})" for failure in found.failures[:1])
            raise UserError(study.masks, f"holds {usable} usable pairs for --count {study.count}{first}",
                            "correct the pair or lower --count" if first else "lower --count")
        if found.todo:
            _make(study, row, found, bar(total=steps, desc=row.name))
        if found.failures:
            raise found.failures[0]
    return [(item.mask, item.reference) for item in sorted(plans[-1].plan.done) if item.reference]


def _make(study, row, found, bar):
    pipeline = row.maker.load()
    with bar as shown:
        for _ in job.run(found, pipeline, study.batch_size, on_step=shown.update):
            pass


def shuffle(study: Study, pairs: Sequence[Pair]) -> Path:
    """Copy each of the last row's results to the next mask's name, to measure chance. Returns the folder."""
    folder = study.output / SHUFFLED
    for (mask, _), (following, _) in zip(pairs, [*pairs[1:], pairs[0]]):
        with files.replacing(folder / f"{following.stem}.jpg") as temporary:
            shutil.copyfile(study.output / study.rows[-1].name / f"{mask.stem}.jpg", temporary)
    return folder


def _with_name(progress, name: str):
    return lambda items, what: progress(items, f"{name}: {what}")


def evaluate(study: Study, pairs: Sequence[Pair],
             progress: Callable[[Iterable, str], Iterable]) -> list[dict]:
    """The numbers of each row, of shuffled results and, if there are any, of the real images, as `report`
    takes them. progress(items, what) shows how far it is."""
    folders = [(row.name, row.title, study.output / row.name) for row in study.rows]
    folders.append((SHUFFLED, "results of other masks", shuffle(study, pairs)))
    if study.truth.is_dir():
        folders.append(("real", "the real images", study.truth))
    networks = runner.open_networks({}, study.weights, folders[0][2])
    named = read_pairs(study.pairs_file) if study.pairs_file else None
    table = []
    for name, title, folder in folders:
        found = runner.evaluate(folder, study.masks, study.references, study.train_images, networks, named,
                                cache=study.output / "cache", models=study.weights, count=study.count,
                                reading=study.reading,
                                progress=_with_name(progress, name))
        if found["failures"]:
            raise UserError(folder, f"cannot be compared ({found['failures'][0]})",
                            "remove the folder and run the same command again")
        table.append({"name": name, "title": title, "numbers": found["numbers"]})
    return table


def gallery(study: Study, pairs: Sequence[Pair], size: Sequence[int]) -> Gallery:
    """Headings and rows of pictures: mask, reference, each row's result, the real image."""
    folders = [study.output / row.name for row in study.rows]
    headings = ["mask", "reference", *(row.title for row in study.rows)]
    if study.truth.is_dir():
        folders, headings = [*folders, study.truth], [*headings, "the real image"]
    return headings, [[labels.colorize(images.read_labels(mask, size, study.reading)),
                       images.read_image(reference, size, study.reading.fit),
                       *(images.read_image(folder / f"{mask.stem}.jpg", size) for folder in folders)]
                      for mask, reference in pairs[:SHOWN]]


def write(study: Study, table: Sequence[dict], plans: Sequence[RowPlan], pictures: Gallery) -> None:
    """Write NAME.md, .html, .json and .jpg to the study's folder."""
    command, output, name = shlex.join(study.command), study.output, study.name
    made_by = {row.name: made_by for row, made_by, _, _ in plans}
    plain = json.loads(json.dumps(made_by))         # YAML would write what rows share as anchors
    settings = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None)
    intro = f"{study.count} held-out pairs. Made by: {command}"
    headings, lines = pictures
    images.write_image(output / f"{name}.jpg", images.grid(lines, headings))
    texts = {"md": f"    {command}\n\n{report.markdown(table)}\n![rows of pictures]({name}.jpg)\n\n"
                   + "".join(f"* {line}\n" for line in report.notes(table)),
             "html": report.page(name.capitalize(), intro, table, headings, lines, settings),
             "json": json.dumps({"command": command, "rows": table, "made_by": made_by}, indent=1)}
    for suffix, text in texts.items():
        with files.replacing(output / f"{name}.{suffix}") as temporary:
            temporary.write_text(text, "utf-8", "backslashreplace")
