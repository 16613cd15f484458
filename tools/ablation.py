"""The paper's Table 2 on a folder of held-out pairs: the method grown part by part, made and evaluated.

Writes OUTPUT/ablation.md, .html, .json and .jpg. Pictures that stand already are not made again.
"""
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import cli
import reading
import yaml
from tqdm import tqdm

from ldm import config as configs
from ldm import files, images, labels
from ldm.ablation import report
from ldm.ablation.rows import rows as table_rows
from ldm.datasets.landscape import contest_folder, read_pairs
from ldm.diffusion import Schedule
from ldm.errors import UserError
from ldm.evaluation import runner
from ldm.inference import job, record, rounds
from ldm.platform import runtime

ROOT = Path(__file__).resolve().parents[1]
SHUFFLED = "shuffled"   # folder of the last row's results under other masks' names
SHOWN = 8               # pairs whose pictures are in the report


def parse(argv):
    parser = cli.Parser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--model", default=ROOT / "models/demo", type=Path, metavar="DIR",
        help="model folder; its unet.safetensors are the averaged weights")
    add("--checkpoint", type=Path, metavar="FILE",
        help="weights of one checkpoint, for the rows above the ensemble (MODEL/checkpoint.safetensors)")
    add("--rounds", default=ROOT / "configs/infer/entry.yaml", type=Path, metavar="FILE",
        help="the whole method; the rows above leave parts of it out")
    add("--data", required=True, type=Path, metavar="DIR",
        help="what make_landscapes.py --split test writes: masks, imgs, label_to_img.json and, for the row "
             "of the real images, truth")
    add("--train-images", required=True, type=Path, metavar="DIR",
        help="images of the model's size that the Fréchet distance compares with")
    add("--count", default=100, type=int, metavar="N", help="the first N pairs of the data")
    add("--output", default=ROOT / "results/ablation", type=Path, metavar="DIR", help="folder to write to")
    add("--seed", default=0, type=int, help="of the noise, the same for every row")
    add("--batch-size", default=1, type=int, help="images at a time")
    add("--models", metavar="DIR", default=Path(os.path.relpath(ROOT / "models")), type=Path,
        help="where metrics' weights are")
    reading.add_options(parser)
    args = parser.parse_args(argv)
    args.command = ["python", "tools/ablation.py", *(sys.argv[1:] if argv is None else argv)]
    args.reading = reading.of(args)
    for option, least in (("count", 2), ("seed", 0), ("batch_size", 1)):
        if getattr(args, option) < least:
            name = option.replace("_", "-")
            parser.error(f"--{name}: is {getattr(args, option)}, {least} or more is needed")
    args.checkpoint = args.checkpoint or args.model / "checkpoint.safetensors"
    if not args.checkpoint.is_file():
        raise UserError(args.checkpoint, "is no file",
                        "weights of one of the averaged checkpoints are needed")
    return args


def make(args, row, plan, steps):
    """Make what is missing of one row, under a bar of steps."""
    from ldm.inference import Pipeline
    pipeline = Pipeline.load(args.model, row.settings, unet_of(args, row))
    with tqdm(total=len(plan.todo) * steps, unit="step", desc=row.name, dynamic_ncols=True) as bar:
        for _ in job.run(plan, pipeline, args.seed, args.batch_size, on_step=bar.update):
            pass


def unet_of(args, row):
    return None if row.averaged else args.checkpoint


def generate(args, rows, schedule, masks, pairs):
    """All rows' pictures -> {row's name: what made it}; a pair that cannot be made stops the comparison."""
    made_by, plans = {}, {}
    for row in rows:
        folder = args.output / row.name
        made_by[row.name] = record.made_by(row.settings, args.model, args.seed, unet=unet_of(args, row),
                                           reading=args.reading)
        of_row = record.Record(folder, made_by[row.name])
        plans[row.name] = job.plan(masks, args.data / "imgs", pairs, folder, "jpg", count=args.count,
                                   record=of_row, reading=args.reading)
        of_row.start()
    steps = {row.name: row.settings.steps(schedule) for row in rows}
    todo = sum(len(plans[name].todo) * steps[name] for name in plans)
    print(f"{len(rows)} rows of {args.count} pairs, {todo} network steps to go", flush=True)
    for row in rows:
        plan = plans[row.name]
        if len(plan.todo + plan.done) < args.count:
            raise UserError(args.data, f"holds {len(plan.todo + plan.done)} usable pairs",
                            f"--count {args.count} are needed; {'; '.join(map(str, plan.failures[:1]))}")
        if plan.todo:
            make(args, row, plan, steps[row.name])
        if plan.failures:
            raise plan.failures[0]
    return made_by, [(item.mask, item.reference) for item in sorted(plan.done)]


def shuffle(args, pairs):
    """The last row's results, each under the next mask's name: what is right by chance."""
    folder = args.output / SHUFFLED
    for (mask, _), (following, _) in zip(pairs, pairs[1:] + pairs[:1]):
        with files.replacing(folder / f"{following.stem}.jpg") as temporary:
            shutil.copyfile(args.output / "ensemble" / f"{mask.stem}.jpg", temporary)
    return folder


def evaluate(args, rows, masks, pairs_file, pairs):
    """Each row's numbers, the real images' and those of shuffled results."""
    folders = [(row.name, row.title, args.output / row.name) for row in rows]
    folders.append((SHUFFLED, "results of other masks", shuffle(args, pairs)))
    if (args.data / "truth").is_dir():
        folders.append(("real", "the real images", args.data / "truth"))
    networks = runner.open_networks({"segformer": None, "nima": None, "inception": None}, args.models)
    table = []
    for name, title, folder in folders:
        got = runner.evaluate(folder, masks, args.data / "imgs", args.train_images, networks,
                              read_pairs(pairs_file) if pairs_file else None, cache=args.output / "cache",
                              zoo=args.models, count=args.count, reading=args.reading,
                              progress=lambda items, what: tqdm(items, desc=f"{name}: {what}", disable=None))
        if got["failures"]:
            raise UserError(folder, got["failures"][0], "every pair must have its result in every row")
        table.append({"name": name, "title": title, "numbers": got["numbers"]})
    return table


def gallery(args, rows, pairs, size):
    """Headings and rows of pictures: mask, reference, each row's result, the real image."""
    folders = [args.output / row.name for row in rows]
    headings = ["mask", "reference", *(row.title for row in rows)]
    if (args.data / "truth").is_dir():
        folders, headings = folders + [args.data / "truth"], headings + ["the real image"]
    return headings, [[labels.colorize(images.read_labels(mask, size, args.reading)),
                       images.read_image(reference, size, args.reading.fit),
                       *(images.read_image(folder / f"{mask.stem}.jpg", size) for folder in folders)]
                      for mask, reference in pairs[:SHOWN]]


def write(args, table, made_by, pictures):
    command = shlex.join(args.command)
    plain = json.loads(json.dumps(made_by))         # YAML would write what rows share as anchors
    settings = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None)
    intro = f"{args.count} held-out pairs. Made by: {command}"
    headings, lines = pictures
    images.write_image(args.output / "ablation.jpg", images.grid(lines, headings))
    texts = {"md": f"    {command}\n\n{report.markdown(table)}\n![rows of pictures](ablation.jpg)\n\n"
                   + "".join(f"* {line}\n" for line in report.notes(table)),
             "html": report.page("Ablation", intro, table, headings, lines, settings),
             "json": json.dumps({"command": command, "rows": table, "made_by": made_by}, indent=1)}
    for suffix, text in texts.items():
        with files.replacing(args.output / f"ablation.{suffix}") as temporary:
            temporary.write_text(text, "utf-8", "backslashreplace")


def main(argv=None):
    args = parse(argv)
    settings = rounds.load(args.rounds)
    config = configs.load(args.model / "config.yaml", networks=("unet", "autoencoder"))
    schedule = Schedule.named(config["schedule"])
    rows = table_rows(settings, schedule)
    masks, pairs_file = contest_folder(args.data)
    job.refuse_inputs(args.output, masks, args.data / "imgs", args.data / "truth", args.train_images)
    for folder in (*(row.name for row in rows), SHUFFLED):
        files.check_writable(args.output / folder)
    images.list_images(args.train_images)
    compiled = runtime.notice_compile(f"inference {config['unet']} {config['autoencoder']}",
                                      "First use of this model here: its operators are compiled now, "
                                      "1 to 3 minutes on two cores, once ...")
    made_by, pairs = generate(args, rows, schedule, masks, pairs_file)
    compiled()
    table = evaluate(args, rows, masks, pairs_file, pairs)
    write(args, table, made_by, gallery(args, rows, pairs, config["image_size"]))
    print(report.markdown(table) + f"the report is {args.output / 'ablation.html'}")


if __name__ == "__main__":
    cli.run(main)
