"""Encoding a folder of pictures into a latent cache (latents.py)."""
from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterable, Protocol, Sequence

import numpy as np

from ldm import files, images
from ldm.backend import Var, jt
from ldm.datasets.landscape import PathPair
from ldm.datasets.latents import VERSION, add_shard, num_shards, read_index, shard_name
from ldm.datasets.reader import Reader
from ldm.errors import UserError
from ldm.images import Reading, Size, to_network

DECODING = ("decoder.", "post_quant_conv.", "quantize.")     # first parts of names of weights


class Encoder(Protocol):
    """The part of an autoencoder that a cache needs."""
    factor: int                 # sides of an image / sides of its latents

    def encode(self, x: Var) -> Var:
        """Images N x 3 x H x W in -1..1 -> latents N x C x H/factor x W/factor."""

    def state_dict(self) -> dict[str, Var]:
        """name -> weights."""


def fingerprint(autoencoder: Encoder) -> str:
    """A hash of the weights that encode, so that latents of another autoencoder are not used. Its codebook
    and decoder may change."""
    digest = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        if name.startswith(DECODING):
            continue
        digest.update(name.encode() + np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()[:16]


def hashes(pairs: Sequence[PathPair]) -> list[list[str]]:
    """[[name, hash of the image file, hash of the label map file]]."""
    with ThreadPoolExecutor() as pool:                      # hashing lets other threads run
        return [[picture.name, *found] for (picture, _), found in
                zip(pairs, pool.map(lambda pair: [files.sha256(path) for path in pair], pairs))]


def index_of(folder: Path, pairs: Sequence[PathPair], autoencoder: Encoder, size: Size, shard_size: int,
             reading: Reading = images.AS_IS) -> dict[str, Any]:
    """The index of the cache in `folder`, or a new one. Raises UserError if it was made from other inputs."""
    colors = [[list(row) for row in reading.mask_colors]] if reading.mask_colors else []
    fresh = {"version": VERSION, "autoencoder": fingerprint(autoencoder), "image_size": list(size),
             "shard_size": shard_size, "shards": {}, "pictures": hashes(pairs),
             "reading": [list(reading.ignore), reading.fit, *colors]}
    index = read_index(folder) or fresh
    for key, what in (("autoencoder", "another autoencoder"), ("image_size", "another image size"),
                      ("pictures", "other pictures"),
                      ("reading", "another --ignore, --fit or --mask-colors")):
        if index[key] != fresh[key]:
            raise UserError(folder, f"holds latents of {what}{_first_other(index, fresh, key)}",
                            f"choose another folder, or remove {folder} to encode again")
    return index


def _first_other(index, fresh, key):
    """The first picture that differs, in words; "" if `key` is not about pictures."""
    pairs = zip(index[key], fresh[key]) if key == "pictures" else ()
    return next((f" ({new[0]} has changed)" for old, new in pairs if old != new), "")


def batches_to_do(folder: Path, index: dict[str, Any], batch: int) -> list[tuple[int, int, int]]:
    """[(shard, first, end)]: the pictures of each batch still to encode. No batch spans two shards."""
    todo = []
    for k in range(num_shards(index)):
        end = min((k + 1) * index["shard_size"], len(index["pictures"]))
        if shard_name(k) not in index["shards"] or not (folder / shard_name(k)).exists():
            todo += [(k, first, min(first + batch, end))
                     for first in range(k * index["shard_size"], end, batch)]
    return todo


def encode(autoencoder: Encoder, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images N x 3 x H x W and label maps N x h x w -> N records."""
    both = np.stack([x, x[..., ::-1]], axis=1).reshape(-1, *x.shape[1:])
    with jt.no_grad():
        z = autoencoder.encode(jt.array(both)).numpy()
    z = z.reshape(len(x), 2, *z.shape[1:])
    records = np.empty(len(x), [("latents", "<f4", z.shape[1:]), ("labels", "u1", labels.shape[1:])])
    records["latents"], records["labels"] = z, labels
    return records


def build(pairs: Sequence[PathPair], autoencoder: Encoder, size: Size, folder: files.Name,
          shard_size: int = 256, batch: int = 4,
          progress: Callable[[Iterable], Iterable] = lambda iterable: iterable,
          reading: Reading = images.AS_IS) -> None:
    """Encode those of `pairs` that are not yet in the cache in `folder`, `batch` pictures at a time.

    size: (width, height) of the pictures. progress: wraps the batches, for a progress bar. reading: how
    files are read. Raises UserError if the cache was made from other pictures, another autoencoder or
    another reading. Memory holds one shard at a time.
    """
    folder = Path(folder)
    if any(side % autoencoder.factor for side in size):
        raise UserError("image_size", f"is {size[0]} x {size[1]}",
                        f"choose multiples of {autoencoder.factor}")
    inputs = folder, pairs, autoencoder, size, shard_size, reading
    if not batches_to_do(folder, index_of(*inputs), batch):
        return
    with files.locked(folder):                               # another tool may fill the same cache
        _fill(pairs, autoencoder, size, folder, index_of(*inputs), batch, progress, reading)


def _fill(pairs, autoencoder, size, folder, index, batch, progress, reading):
    """Encode the missing batches of the cache in `folder`, which is locked."""
    small = tuple(side // autoencoder.factor for side in size)
    todo = batches_to_do(folder, index, batch)

    def read(k):
        part = pairs[slice(*todo[k][1:])]
        return (np.stack([to_network(images.read_image(p, size, reading.fit)) for p, _ in part]),
                np.stack([images.read_labels(q, small, reading) for _, q in part]))

    records = []
    with Reader(read, len(todo)) as read_ahead:
        for k in progress(range(len(todo))):
            records.append(encode(autoencoder, *read_ahead(k)))
            if k + 1 == len(todo) or todo[k + 1][0] != todo[k][0]:
                add_shard(folder, index, shard_name(todo[k][0]), np.concatenate(records))
                records = []
