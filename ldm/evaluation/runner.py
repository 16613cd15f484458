"""All metrics of the contest for folders of images, in constant memory."""
from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Optional, Protocol, Sequence

import numpy as np

from ldm import files, images
from ldm.datasets.landscape import inference_pairs, normal
from ldm.errors import UserError
from ldm.evaluation import pixels, weight_files
from ldm.evaluation.aesthetics import mean_score
from ldm.evaluation.fid import Moments, TooFew, cached_moments, frechet_distance
from ldm.evaluation.score import total_score
from ldm.evaluation.segmentation import MaskAccuracy
from ldm.evaluation.style import style_similarity
from ldm.labels import NAMES

log = logging.getLogger(__name__)
LEAST_SIDE = 16                 # pixels; the networks halve a picture's sides up to five times
Progress = Callable[[Iterable, str], Iterable]      # (iterable, what) -> the same items, with a progress bar


class ImageNetwork(Protocol):
    """A network of a metric."""
    name: str                   # its variant, for the report

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """N x H x W x 3 uint8 -> N x 10 probabilities (NIMA) or N x D features (Inception)."""


class Segmenter(Protocol):
    """The network of M and FD-seg."""
    name: str

    def segment(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """N x H x W x 3 uint8 -> (labels N x H x W, features N x D)."""

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """N x H x W x 3 uint8 -> features N x D."""


class Opened(NamedTuple):
    """A network (ImageNetwork or Segmenter), its weight file and the file's hash (None, "" in memory)."""
    run: Any
    path: Optional[Path] = None
    sha256: str = ""


Networks = Mapping[str, Optional[Opened]]           # "segformer", "nima", "inception"


class Pair(NamedTuple):
    """A result with the mask and the reference it was made from."""
    name: str                   # the mask's stem
    result: np.ndarray          # H x W x 3 uint8
    mask: np.ndarray            # H x W uint8
    reference: np.ndarray       # h x w x 3 uint8


def open_networks(paths: Mapping[str, Optional[files.Name]], models: files.Name = "models",
                  results: Optional[files.Name] = None) -> Networks:
    """{"segformer", "nima", "inception": Opened, or None if there are no weights}; see weight_files.find.

    paths: these names -> a file, or None to search the folder `models`. results: a folder of pictures; the
    segmenter is chosen for their size.
    """
    size = first_size(results) if results else None
    found = {kind: weight_files.find(kind, paths.get(kind), models, size) for kind in weight_files.KINDS}
    if size and (path := found["segformer"]) and (own := weight_files.size_of(path)) not in (None, size):
        log.warning("%s was trained on pictures of %d x %d, these have %d x %d: M and FD-seg say less", path,
                    *own, *size)
    if not any(found.values()):
        return dict.fromkeys(found)
    from ldm.evaluation import networks  # imports Jittor
    openers: dict[str, Callable[[Path], Any]] = {
        "segformer": networks.open_segmenter, "nima": networks.open_nima,
        "inception": networks.open_inception}
    return {kind: Opened(openers[kind](path), path, files.sha256(path, 64)) if path else None
            for kind, path in found.items()}


def first_size(folder: files.Name) -> Optional[tuple[int, int]]:
    """(width, height) of the first picture in a folder that can be read; None if there is none."""
    for path in images.list_images(folder):
        with contextlib.suppress(UserError):
            height, width = images.read_image(path).shape[:2]
            return width, height
    return None


def read_pair(mask: Path, reference: Path, results: Mapping[str, Path],
              reading: images.Reading = images.AS_IS, resized: Optional[list] = None) -> Pair:
    """Read a Pair from the paths of a mask and a reference; results: stem -> path.

    A mask of another size than its result is read at the result's size, as the model saw it, and appended to
    the list `resized`. Raises UserError if a file is missing or damaged, or if the aspect ratios differ.
    """
    path = results.get(normal(mask.stem))
    if path is None:
        raise UserError(mask, "has no result", f"add an image named {mask.stem}")
    result, labels = read_picture(path), images.read_labels(mask, reading=reading)
    if result.shape[:2] != labels.shape:
        size, own = result.shape[1::-1], labels.shape[::-1]
        if reading.fit == "refuse" and not images.same_proportions(size, own):
            raise UserError(path, "is {}x{}, but its mask is {}x{}".format(*size, *own),
                            "use the mask that it was made from")
        labels = images.read_labels(mask, size, reading)
        if resized is not None:
            resized.append(mask)
    return Pair(mask.stem, result, labels, images.read_image(reference))


def read_picture(path: Path) -> np.ndarray:
    """A result or a real image, H x W x 3 uint8. Raises UserError if it is too small for the networks."""
    picture = images.read_image(path)
    if min(picture.shape[:2]) < LEAST_SIDE:
        raise UserError(path, "is {1} x {0} pixels".format(*picture.shape),
                        f"give at least {LEAST_SIDE} pixels per side")
    return picture


def batches(items: Iterable, read: Callable[[Any], Any], size: int, failures: list[str],
            shape: Callable[[Any], Any]) -> Iterator[list]:
    """Read `items` in batches of up to `size` of equal `shape`. Errors are appended to `failures`."""
    batch: list[Any] = []
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
    """Computes the metrics of pairs that are added in batches. It keeps only five numbers per image."""

    def __init__(self, networks: Networks, variant: str = "contest_overflow") -> None:
        self.networks, self.variant = networks, variant
        self.accuracy, self.moments = MaskAccuracy(), Moments()
        self.per_image: dict[str, dict] = {}    # name -> {"M", "A", "S" in percent, or None without weights}
        self._first: Optional[Pair] = None
        self._last: Optional[Pair] = None
        self._next_style: dict[str, float] = {}     # name -> S with the next pair's reference

    def add(self, pairs: Sequence[Pair]) -> None:
        """Add pairs of equal size."""
        results = np.stack([pair.result for pair in pairs])
        segmenter, nima, inception = (self.networks[kind] for kind in ("segformer", "nima", "inception"))
        shares: list[Optional[float]] = [None] * len(pairs)
        scores: list[Optional[float]] = [None] * len(pairs)
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

    def own_style(self) -> tuple[Optional[float], Optional[float]]:
        """Whether results have the style of their own reference.

        Returns (percentage of results closer to their own reference than to the next pair's, mean S with the
        next pair's reference); the pair after the last is the first. (None, None) for less than two pairs.
        """
        if len(self.per_image) < 2:
            return None, None
        self._compare(self._last, self._first)
        closer = [self.per_image[name]["S"] > other for name, other in self._next_style.items()]
        return 100 * float(np.mean(closer)), float(np.mean(list(self._next_style.values())))

    def mean(self, name: str) -> Optional[float]:
        """The mean of a metric over the images; None if no image has it."""
        values = [numbers[name] for numbers in self.per_image.values() if numbers[name] is not None]
        return float(np.mean(values)) if values else None

    def frechet(self, paths: list[Path], cache: files.Name, batch_size: int,
                progress: Progress) -> tuple[float, list[str]]:
        """(distance of the results from the images `paths`, failures). Raises TooFew below two images."""
        mine = self.moments.result("results")
        opened: Any = self.networks["inception"] or self.networks["segformer"]
        features = opened.run if self.networks["inception"] else opened.run.features

        def compute():
            moments, failures = Moments(), []
            bar = progress(paths, "training images")
            for batch in batches(bar, read_picture, batch_size, failures, np.shape):
                moments.add(features(np.stack(batch)))
            return *moments.result("training images"), failures

        mu, sigma, failures = cached_moments(cache, paths, opened.sha256, compute)
        return frechet_distance(*mine, mu, sigma), failures


def results_by_stem(folder: files.Name) -> dict[str, Path]:
    """{stem: path} of the images in `folder`. Raises UserError for two files of one stem."""
    paths = images.list_images(folder)
    found = {normal(path.stem): path for path in paths}
    for path in paths:
        if (other := found[normal(path.stem)]) != path:
            raise UserError(path, f"has the name of {other.name}", "keep one result for each mask")
    return found


def evaluate(results: files.Name, masks: files.Name, references: files.Name, train_images: files.Name,
             networks: Networks, pairs: Optional[dict[str, str]] = None, variant: str = "contest_overflow",
             cache: files.Name = ".cache", batch_size: int = 8, models: files.Name = "models",
             progress: Progress = lambda items, what: items, count: Optional[int] = None,
             reading: images.Reading = images.AS_IS, truth: Optional[files.Name] = None) -> dict[str, Any]:
    """The report on a folder of results, as a dict of plain values.

    results, masks, references, train_images: folders; a result is called `<mask stem>.jpg` or `.png`.
    networks: from `open_networks`. pairs: {mask name: reference name} or None, see inference_pairs.
    cache: folder for the training images' statistics. progress: wraps an iterable, for a progress bar.
    count: use only the first pairs. reading: how masks are read, the same as when the results were made.
    truth: folder of the masks' own pictures, with the masks' names, for the number "sharp".

    An unusable file is listed in "failures", and its pair is left out of all metrics. Raises UserError if no
    metric can be computed.
    """
    stems, train_paths = results_by_stem(results), images.list_images(train_images)
    real = results_by_stem(truth) if truth else None
    matched, errors = inference_pairs(masks, references, pairs)
    matched = matched[:count]
    failures = [str(error) for error in errors]
    evaluation = Evaluation(networks, variant)
    resized: list[Path] = []

    def read(paths):
        return read_pair(*paths, stems, reading, resized)

    def frechet():
        return evaluation.frechet(train_paths, cache, batch_size, progress)

    bar = progress(matched, "results")
    for batch in batches(bar, read, batch_size, failures, lambda pair: pair.result.shape):
        evaluation.add(batch)
    if resized:
        log.warning("%d masks, such as %s, differ in size from their results; they are read at that size",
                    len(resized), resized[0])
    if not evaluation.per_image:
        raise UserError(results, f"none of its images can be evaluated ({failures[0]})", "fix the files")
    numbers = _numbers(evaluation, models, frechet, failures)
    share, other = evaluation.own_style()
    numbers["S-next"] = {"value": other, "variant": f"{variant}, with the next pair's reference"}
    numbers["own"] = {"value": share,
                      "variant": "% of results closer to their own reference than to the next pair's"}
    if real is not None:
        numbers["sharp"] = {"value": sharpness(list(evaluation.per_image), stems, real, failures),
                            "variant": "mean absolute Laplacian over the real picture's, mean over pairs"}
    return {"pairs": len(matched) + len(errors), "evaluated": len(evaluation.per_image), "numbers": numbers,
            "accuracy_per_class": dict(zip(NAMES, evaluation.accuracy.per_class())),
            "iou_per_class": dict(zip(NAMES, evaluation.accuracy.iou())),
            "confusion": evaluation.accuracy.confusion.tolist(), "per_image": evaluation.per_image,
            "failures": failures}


def sharpness(names: Iterable[str], results: Mapping[str, Path], real: Mapping[str, Path],
              failures: list[str]) -> Optional[float]:
    """The mean of pixels.sharpness of results over real pictures of the same stem, which are resized to the
    results' size. Errors are appended to `failures`; None if no name has a real picture."""
    ratios = []
    for name in names:
        try:
            if normal(name) not in real:
                raise UserError(name, "has no real picture", f"add an image named {name}")
            result = images.read_image(results[normal(name)])
            photograph = images.read_image(real[normal(name)], result.shape[1::-1])
            ratios.append(pixels.sharpness(result, photograph))
        except UserError as e:
            failures.append(str(e))
    return float(np.mean(ratios)) if ratios else None


def _numbers(evaluation, models, frechet, failures):
    """{"M", "A", "FID", perhaps "FD-seg", "S", "T"}: each with its value, variant, and weights or reason."""
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
