"""All numbers of the contest from folders of images, in one pass and constant memory."""
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ldm import files, images
from ldm.datasets.landscape import inference_pairs, normal
from ldm.errors import UserError
from ldm.evaluation import weight_files
from ldm.evaluation.aesthetics import mean_score
from ldm.evaluation.fid import Moments, TooFew, cached_moments, frechet_distance
from ldm.evaluation.score import total_score
from ldm.evaluation.segmentation import MaskAccuracy
from ldm.evaluation.style import style_similarity
from ldm.labels import NAMES

log = logging.getLogger(__name__)
LEAST_SIDE = 16                 # pixels of a picture; the networks halve its sides up to five times


class Opened(NamedTuple):
    """A network and the file of its weights."""
    run: Any
    path: Path
    sha256: str


class Pair(NamedTuple):
    name: str                   # the mask's stem
    result: np.ndarray          # H x W x 3 uint8
    mask: np.ndarray            # H x W uint8
    reference: np.ndarray       # h x w x 3 uint8


def open_networks(paths, models="models"):
    """{"segformer", "nima", "inception": Opened, or None where no weights are found}; see weight_files.find.

    `paths` maps these names to files, or to None to look in the folder `models`.
    """
    found = {kind: weight_files.find(kind, paths.get(kind), models) for kind in weight_files.KINDS}
    if not any(found.values()):
        return found
    from ldm.evaluation import networks  # imports Jittor
    openers = {"segformer": networks.open_segmenter, "nima": networks.open_nima,
               "inception": networks.open_inception}
    return {kind: path and Opened(openers[kind](path), path, files.sha256(path, 64))
            for kind, path in found.items()}


def read_pair(mask, reference, results, reading=images.AS_IS, resized=None):
    """The Pair of the paths of a mask and a reference; `results` maps stems to paths. UserError where a file
    is missing, damaged, or of other proportions than its mask. A mask of another size is read at its
    result's, as the model saw it, and put into the list `resized`."""
    path = results.get(normal(mask.stem))
    if path is None:
        raise UserError(mask, "has no result", f"an image named {mask.stem} is needed")
    result, labels = read_picture(path), images.read_labels(mask, reading=reading)
    if result.shape[:2] != labels.shape:
        size, own = result.shape[1::-1], labels.shape[::-1]
        if reading.fit == "refuse" and not images.same_proportions(size, own):
            raise UserError(path, "is {}x{}".format(*size), "its mask is {}x{}".format(*own))
        labels = images.read_labels(mask, size, reading)
        if resized is not None:
            resized.append(mask)
    return Pair(mask.stem, result, labels, images.read_image(reference))


def read_picture(path):
    """A result or a real image H x W x 3 uint8, large enough for the networks; UserError where it is not."""
    picture = images.read_image(path)
    if min(picture.shape[:2]) < LEAST_SIDE:
        raise UserError(path, "is {1} x {0} pixels".format(*picture.shape),
                        f"{LEAST_SIDE} a side at least are needed")
    return picture


def batches(items, read, size, failures, shape):
    """Lists of at most `size` things read from `items`, equal in `shape` within a list. What cannot be read
    goes to `failures`, as text."""
    batch = []
    for item in items:
        try:
            thing = read(item)
        except UserError as e:
            failures.append(str(e))
            continue
        if batch and (len(batch) == size or shape(batch[0]) != shape(thing)):
            yield batch
            batch = []
        batch.append(thing)
    if batch:
        yield batch


class Evaluation:
    """Takes in batches of pairs and gives their numbers; constant memory, but for five numbers an image."""

    def __init__(self, networks, variant="contest_overflow"):
        self.networks, self.variant = networks, variant
        self.accuracy, self.moments = MaskAccuracy(), Moments()
        self.per_image = {}             # name -> {"M", "A", "S" in percent, None where no weights are}
        self._first, self._last, self._next_style = None, None, {}      # Pairs; name -> S with the next's

    def add(self, pairs):
        """Take in a list of pairs of equal size."""
        results = np.stack([pair.result for pair in pairs])
        segmenter, nima, inception = (self.networks[kind] for kind in ("segformer", "nima", "inception"))
        shares, scores = [None] * len(pairs), [None] * len(pairs)
        if segmenter:
            labels, features = segmenter.run.segment(results)
            shares = [100 * self.accuracy.add(label, pair.mask) for label, pair in zip(labels, pairs)]
        if nima:
            scores = [10 * float(score) for score in mean_score(nima.run(results))]
        if inception:
            features = inception.run(results)
        if inception or segmenter:
            self.moments.add(features)
        for pair, share, score in zip(pairs, shares, scores):
            similarity = 100 * style_similarity(pair.result, pair.reference, self.variant)
            self.per_image[pair.name] = {"M": share, "A": score, "S": similarity}
            self._first = self._first or pair
            if self._last:
                self._compare(self._last, pair)
            self._last = pair

    def _compare(self, pair, following):
        self._next_style[pair.name] = 100 * style_similarity(pair.result, following.reference, self.variant)

    def own_style(self):
        """Does a result have the style of its own reference? (% of results closer to it than to the next
        pair's, the first's for the last; mean S with the next pair's); None, None where there are no two
        pairs to compare."""
        if len(self.per_image) < 2:
            return None, None
        self._compare(self._last, self._first)
        closer = [self.per_image[name]["S"] > other for name, other in self._next_style.items()]
        return 100 * float(np.mean(closer)), float(np.mean(list(self._next_style.values())))

    def mean(self, name):
        """The mean over the images of a number of theirs, None where none has it."""
        values = [numbers[name] for numbers in self.per_image.values() if numbers[name] is not None]
        return float(np.mean(values)) if values else None

    def frechet(self, paths, cache, batch_size, progress):
        """(distance of the results from the images `paths`, failures). TooFew where either are not two."""
        mine = self.moments.result("results")
        opened = self.networks["inception"] or self.networks["segformer"]
        features = opened.run if self.networks["inception"] else opened.run.features

        def compute():
            moments, failures = Moments(), []
            bar = progress(paths, "training images")
            for batch in batches(bar, read_picture, batch_size, failures, np.shape):
                moments.add(features(np.stack(batch)))
            return *moments.result("training images"), failures

        mu, sigma, failures = cached_moments(cache, paths, opened.sha256, compute)
        return frechet_distance(*mine, mu, sigma), failures


def results_by_stem(folder):
    """{stem: path} of the images in `folder`; two of one stem are a UserError: either could be meant."""
    paths = images.list_images(folder)
    found = {normal(path.stem): path for path in paths}
    for path in paths:
        if (other := found[normal(path.stem)]) != path:
            raise UserError(path, f"is there as {other.name} too", "one result a mask is needed")
    return found


def evaluate(results, masks, references, train_images, networks, pairs=None, variant="contest_overflow",
             cache=".cache", batch_size=8, models="models", progress=lambda items, what: items, count=None,
             reading=images.AS_IS):
    """The report on a folder of results, as a dict of plain values.

    results, masks, references, train_images: folders; a result is called `<mask stem>.jpg` or `.png`.
    networks: of `open_networks`. pairs: {mask name: reference name} or None, see inference_pairs. cache:
    folder for the training images' statistics. progress: wraps an iterable, for a bar. count: the first so
    many pairs only. reading: how the masks are read, as it was when the results were made. A file that cannot
    be used goes to "failures" and leaves its pair out of every number; what makes all numbers impossible is
    a UserError.
    """
    stems, train_paths = results_by_stem(results), images.list_images(train_images)
    matched, errors = inference_pairs(masks, references, pairs)
    matched = matched[:count]
    failures = [str(error) for error in errors]
    evaluation, resized = Evaluation(networks, variant), []

    def read(paths):
        return read_pair(*paths, stems, reading, resized)

    def frechet():
        return evaluation.frechet(train_paths, cache, batch_size, progress)

    bar = progress(matched, "results")
    for batch in batches(bar, read, batch_size, failures, lambda pair: pair.result.shape):
        evaluation.add(batch)
    if resized:
        log.warning("%d masks, such as %s, are of another size than their results: read at the results' size",
                    len(resized), resized[0])
    if not evaluation.per_image:
        raise UserError(results, f"none of its images can be evaluated; {failures[0]}")
    numbers = _numbers(evaluation, models, frechet, failures)
    share, other = evaluation.own_style()
    numbers["S-next"] = {"value": other, "variant": f"{variant}, with the next pair's reference"}
    numbers["own"] = {"value": share,
                      "variant": "% of results closer to their own reference than to the next pair's"}
    return {"pairs": len(matched) + len(errors), "evaluated": len(evaluation.per_image), "numbers": numbers,
            "accuracy_per_class": dict(zip(NAMES, evaluation.accuracy.per_class())),
            "iou_per_class": dict(zip(NAMES, evaluation.accuracy.iou())),
            "confusion": evaluation.accuracy.confusion.tolist(), "per_image": evaluation.per_image,
            "failures": failures}


def _numbers(evaluation, models, frechet, failures):
    """{"M", "A", "FID", perhaps "FD-seg", "S", "T"}: each a value, what it is, and the weights or why not."""
    networks = evaluation.networks
    numbers = {"M": _entry(networks, "segformer", models, evaluation.accuracy.mean(), "mean over images"),
               "A": _entry(networks, "nima", models, evaluation.mean("A"), "10 x mean score"),
               "FID": _entry(networks, "inception", models, None, "")}
    if networks["inception"] or networks["segformer"]:
        name, kind = ("FID", "inception") if networks["inception"] else ("FD-seg", "segformer")
        distance, why = None, None
        try:
            distance, bad = frechet()
            failures += bad
        except TooFew as e:
            why = str(e)
        numbers[name] = _entry(networks, kind, models, distance, "features, against the training images", why)
    numbers["S"] = {"value": evaluation.mean("S"), "variant": f"{evaluation.variant}, mean over pairs"}
    values = {name: numbers[name]["value"] for name in ("M", "A", "FID", "S")}
    numbers["T"] = {"value": total_score(**values), "variant": "Eq. 8, FID capped at 100"}
    if numbers["T"]["value"] is None:
        numbers["T"]["why"] = "needs " + ", ".join(name for name, value in values.items() if value is None)
    return numbers


def _entry(networks, kind, models, value, variant, why=None):
    opened = networks[kind]
    if opened is None:
        return {"value": None, "why": weight_files.missing(kind, models)}
    entry = {"value": value, "variant": f"{opened.run.name}, {variant}", "weights": str(opened.path),
             "sha256": opened.sha256}
    return entry if why is None else entry | {"why": why}
