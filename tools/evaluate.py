"""The contest's numbers M, A, FID, S and T of a folder of results.

Each is printed with its variant and the hash of the weights it was had with. The contest's own segmenter,
aesthetic network and histogram are not public: compare these numbers with each other, not with its leader
board.
"""
import json
import os
from pathlib import Path

import cli
import reading
from tqdm import tqdm

from ldm.datasets.landscape import read_pairs
from ldm.evaluation import runner
from ldm.evaluation.style import VARIANTS
from ldm.platform import runtime

ROOT = Path(__file__).resolve().parents[1]


def arguments(argv):
    parser = cli.Parser(prog="evaluate.py", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--results", metavar="DIR", required=True, help="images named as their masks")
    add("--masks", metavar="DIR", required=True, help="label maps")
    add("--references", metavar="DIR", required=True, help="images that give the style")
    add("--train-images", metavar="DIR", required=True, help="images that FID compares the results with")
    add("--pairs", metavar="FILE", help="JSON {mask name: reference name}; without it names are equal")
    add("--segformer", metavar="FILE", help="weights of a SegFormer of the 29 classes, for M")
    add("--nima", metavar="FILE", help="weights of a NIMA, for A")
    add("--inception", metavar="FILE", help="weights of the FID's Inception")
    add("--models", metavar="DIR", default=Path(os.path.relpath(ROOT / "models")), type=Path,
        help="where weights that are not given are looked for")
    add("--style", choices=list(VARIANTS), default="contest_overflow", help="histogram of S")
    add("--cache", metavar="DIR", default=str(Path.home() / ".cache" / "iidm"),
        help="for the statistics of the training images")
    add("--batch-size", metavar="N", type=int, default=8, help="images at once")
    add("--json", action="store_true", help="print all as JSON, with the numbers by image and by class")
    reading.add_options(parser)
    options = parser.parse_args(argv)
    if options.batch_size < 1:
        parser.error(f"--batch-size: {options.batch_size} images, 1 or more are needed")
    return options


def lines(report):
    """The numbers as lines of text, then how well the segmenter finds each class."""
    for name, entry in report["numbers"].items():
        value = "n/a" if entry["value"] is None else f"{entry['value']:.4f}"
        weights = f"{entry['weights']} sha256 {entry['sha256'][:12]}" if "sha256" in entry else None
        words = filter(None, (entry.get("variant"), weights, entry.get("why")))
        yield f"{name:7}{value:>9}  {'; '.join(words)}"
    yield from class_line("M by class", report["accuracy_per_class"])
    yield from class_line("IoU by class", report["iou_per_class"])


def class_line(title, shares):
    """One line for {class: percent or None}, none where all are None."""
    shares = {name: share for name, share in shares.items() if share is not None}
    if shares:
        words = ", ".join(f"{name} {share:.1f}" for name, share in shares.items())
        yield f"{title}: mean {sum(shares.values()) / len(shares):.1f}; {words}"


def main(argv=None):
    options = arguments(argv)
    pairs = read_pairs(options.pairs) if options.pairs else None
    weights = {kind: getattr(options, kind) for kind in ("segformer", "nima", "inception")}
    networks = runner.open_networks(weights, options.models)
    names = [opened.run.name for opened in networks.values() if opened]
    text = "First use of these networks: compiling their operators, up to a minute each, once ..."
    done = runtime.notice_compile(f"evaluation {names}", text) if names else None
    report = runner.evaluate(
        options.results, options.masks, options.references, options.train_images, networks, pairs=pairs,
        variant=options.style, cache=options.cache, batch_size=options.batch_size, models=options.models,
        reading=reading.of(options),
        progress=lambda items, what: tqdm(items, desc=what, unit="image", disable=None))
    if done:
        done()
    print(json.dumps(report, indent=1) if options.json else "\n".join(lines(report)), flush=True)
    return cli.report(report["failures"], f"{{}} failed, {report['evaluated']} of {report['pairs']} pairs "
                                          "are in the numbers")


if __name__ == "__main__":
    cli.run(main)
