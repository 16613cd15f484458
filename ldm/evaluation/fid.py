"""Fréchet distance between Gaussians fitted to features, exact for singular covariances too."""
from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Callable, Iterable, Tuple

import numpy as np

from ldm.errors import UserError
from ldm.files import Name, kind_of, open_regular, replacing

MeanCovariance = Tuple[np.ndarray, np.ndarray]          # D, D x D


class TooFew(UserError):
    """Fewer than two images: they have no covariance."""


def _factor(sigma):
    """F with F F^T = sigma; one column for each eigenvalue above rounding errors."""
    values, vectors = np.linalg.eigh(sigma)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)), in squared units of the features.

    The square roots of the eigenvalues of sigma1 sigma2 are the singular values of F1^T F2 with F F^T =
    sigma. They are exact up to rounding for any rank. A matrix square root loses half of the digits, and may
    become complex, if a covariance is singular (as with fewer images than features). Negative rounding errors
    become 0. Raises ValueError if shapes differ or a value is not finite.
    """
    mu1, sigma1, mu2, sigma2 = (np.asarray(x, np.float64) for x in (mu1, sigma1, mu2, sigma2))
    if mu1.shape != mu2.shape or not sigma1.shape == sigma2.shape == mu1.shape * 2:
        raise ValueError(f"moments of shapes {mu1.shape} {sigma1.shape} and {mu2.shape} {sigma2.shape}")
    if not all(np.isfinite(x).all() for x in (mu1, sigma1, mu2, sigma2)):
        raise ValueError("moments that are not finite")
    overlap = np.linalg.svd(_factor(sigma1).T @ _factor(sigma2), compute_uv=False).sum()
    return max(0.0, float((mu1 - mu2) @ (mu1 - mu2) + np.trace(sigma1) + np.trace(sigma2) - 2 * overlap))


class Moments:
    """Mean and covariance of features that are added in batches, in float64 and constant memory."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, features: np.ndarray) -> None:
        """Add N x D features."""
        features = np.asarray(features, np.float64)
        if self.count == 0:             # an origin near the mean keeps the precision of the sums
            self._origin = features.mean(0)
            self._sum = np.zeros(features.shape[1])
            self._products = np.zeros((features.shape[1],) * 2)
        centred = features - self._origin
        self.count += len(features)
        self._sum += centred.sum(0)
        self._products += centred.T @ centred

    def result(self, what: str) -> MeanCovariance:
        """(mean, covariance with divisor count - 1). Raises TooFew about `what` for less than two images."""
        if self.count < 2:
            raise TooFew(what, f"{self.count} image(s) have no covariance", "give two or more")
        covariance = (self._products - np.outer(self._sum, self._sum) / self.count) / (self.count - 1)
        return self._origin + self._sum / self.count, covariance


def files_hash(paths: Iterable[Name]) -> str:
    """SHA-256 of a list of files: names, sizes and modification times, in order."""
    return hashlib.sha256(os.fsencode("".join(map(_line, map(Path, paths))))).hexdigest()


def _line(path):
    try:
        status = path.stat()
    except OSError:                     # a broken link: reading it will fail
        return f"{path.name}\0absent\n"
    return f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n"


def cached_moments(cache: Name, paths: list[Path], network_hash: str,
                   compute: Callable[[], Tuple[np.ndarray, np.ndarray, list[str]]],
                   ) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(mean, covariance, failures) of the images `paths`, from the folder `cache` or from `compute()`.

    The file name contains hashes of the list of files and of the network's weights, so that other statistics
    are never used by mistake. failures: the faults of images that were left out. Raises UserError if the
    cached file is damaged.
    """
    files = files_hash(paths)
    path = Path(cache) / f"moments-{files[:16]}-{network_hash[:16]}.npz"
    if kind_of(path) is not None:
        stored = read_moments(path)
        if (stored["files"], stored["network"]) == (files, network_hash):
            return stored["mu"], stored["sigma"], stored["failures"].tolist()
    mu, sigma, failures = compute()
    buffer = io.BytesIO()               # in memory first: on a full disk numpy's writer leaves a traceback
    np.savez(buffer, mu=mu, sigma=sigma, files=files, network=network_hash,
             failures=np.array(failures, dtype=str))
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return mu, sigma, failures


def read_moments(path: Name) -> dict[str, np.ndarray]:
    """The arrays of a file that `cached_moments` wrote. Raises UserError for other files."""
    with open_regular(path) as file:
        try:
            with np.load(file) as stored:
                arrays = {name: stored[name] for name in ("mu", "sigma", "files", "network", "failures")}
        except Exception as e:          # a damaged zip raises anything
            raise UserError(path, f"is not a statistics file ({e or type(e).__name__})",
                            "delete it; it is computed again") from None
    mu, sigma, failures = (arrays[name] for name in ("mu", "sigma", "failures"))
    numbers = mu.dtype == sigma.dtype == np.float64 and mu.ndim == 1 and sigma.shape == mu.shape * 2
    if not numbers or failures.ndim != 1 or failures.dtype.kind != "U":
        raise UserError(path, "holds statistics of another form", "delete it; they are computed again")
    return arrays
