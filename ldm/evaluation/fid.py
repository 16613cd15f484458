"""Fréchet distance between Gaussians fitted to features, exact where a covariance is singular."""
import hashlib
import io
import os
from pathlib import Path

import numpy as np

from ldm.errors import UserError
from ldm.files import kind_of, open_regular, replacing


class TooFew(UserError):
    """Fewer than two images, which have no covariance."""


def _factor(sigma):
    """F with F F^T = sigma, a column for every eigenvalue that is not rounding noise."""
    values, vectors = np.linalg.eigh(sigma)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def frechet_distance(mu1, sigma1, mu2, sigma2):
    """|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)), in the units of the features squared.

    The square roots of the eigenvalues of sigma1 sigma2 are the singular values of F1^T F2 with F F^T =
    sigma. These are exact to rounding whatever the rank, while a matrix square root loses half of the digits,
    and may turn complex, where a covariance is singular (as all are with fewer images than features).
    Rounding below zero is cut off. ValueError where shapes differ or a value is not finite.
    """
    mu1, sigma1, mu2, sigma2 = (np.asarray(x, np.float64) for x in (mu1, sigma1, mu2, sigma2))
    if mu1.shape != mu2.shape or not sigma1.shape == sigma2.shape == mu1.shape * 2:
        raise ValueError(f"moments of shapes {mu1.shape} {sigma1.shape} and {mu2.shape} {sigma2.shape}")
    if not all(np.isfinite(x).all() for x in (mu1, sigma1, mu2, sigma2)):
        raise ValueError("moments that are not finite")
    overlap = np.linalg.svd(_factor(sigma1).T @ _factor(sigma2), compute_uv=False).sum()
    return max(0.0, float((mu1 - mu2) @ (mu1 - mu2) + np.trace(sigma1) + np.trace(sigma2) - 2 * overlap))


class Moments:
    """Mean and covariance of features that arrive in batches: float64, constant memory."""

    def __init__(self):
        self.count = 0

    def add(self, features):
        """Take in N x D features."""
        features = np.asarray(features, np.float64)
        if self.count == 0:             # sums are of differences to here, so that they lose no digits
            self._origin = features.mean(0)
            self._sum = np.zeros(features.shape[1])
            self._products = np.zeros((features.shape[1],) * 2)
        centred = features - self._origin
        self.count += len(features)
        self._sum += centred.sum(0)
        self._products += centred.T @ centred

    def result(self, what):
        """(D mean, D x D covariance with divisor count - 1); TooFew, about `what`, of less than two
        images."""
        if self.count < 2:
            raise TooFew(what, f"a covariance cannot be had from {self.count} image(s)",
                            "two at least are needed")
        covariance = (self._products - np.outer(self._sum, self._sum) / self.count) / (self.count - 1)
        return self._origin + self._sum / self.count, covariance


def files_hash(paths):
    """sha256 of a list of files: names, sizes and times of change, in order."""
    return hashlib.sha256(os.fsencode("".join(map(_line, map(Path, paths))))).hexdigest()


def _line(path):
    try:
        status = path.stat()
    except OSError:                     # a link that leads nowhere: a failure when it is read
        return f"{path.name}\0absent\n"
    return f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n"


def cached_moments(cache, paths, network_hash, compute):
    """(mean, covariance, failures) of `paths`, read from the folder `cache` or `compute()`d and written
    there.

    The file's name holds the hash of the list of files and of the network's weights, so that statistics of
    other images or of another network are never taken for these. `failures` says what was wrong with the
    images left out. UserError where the file is damaged.
    """
    files = files_hash(paths)
    path = Path(cache) / f"moments-{files[:16]}-{network_hash[:16]}.npz"
    if kind_of(path) is not None:
        stored = read_moments(path)
        if (stored["files"], stored["network"]) == (files, network_hash):
            return stored["mu"], stored["sigma"], stored["failures"].tolist()
    mu, sigma, failures = compute()
    made = io.BytesIO()                 # in memory first: on a full disk numpy's writer leaves a traceback
    np.savez(made, mu=mu, sigma=sigma, files=files, network=network_hash,
             failures=np.array(failures, dtype=str))
    with replacing(path) as temporary:
        temporary.write_bytes(made.getvalue())
    return mu, sigma, failures


def read_moments(path):
    """The arrays of a file that `cached_moments` wrote; UserError for anything else."""
    with open_regular(path) as file:
        try:
            with np.load(file) as stored:
                arrays = {name: stored[name] for name in ("mu", "sigma", "files", "network", "failures")}
        except Exception as e:          # a damaged zip raises anything
            raise UserError(path, f"is no file of statistics ({e or type(e).__name__})",
                            "delete it to have them computed again") from None
    mu, sigma, failures = (arrays[name] for name in ("mu", "sigma", "failures"))
    numbers = mu.dtype == sigma.dtype == np.float64 and mu.ndim == 1 and sigma.shape == mu.shape * 2
    if not numbers or failures.ndim != 1 or failures.dtype.kind != "U":
        raise UserError(path, "holds statistics of another form", "delete it to have them computed again")
    return arrays
