"""Filling a latent cache (latents.py) with what an autoencoder makes of a folder of pictures."""
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ldm import files, images
from ldm.backend import jt
from ldm.datasets.latents import VERSION, add_shard, num_shards, read_index, shard_name
from ldm.datasets.reader import Reader
from ldm.errors import UserError
from ldm.images import to_network


def fingerprint(autoencoder):
    """A hash of the autoencoder's weights: latents of another one must not be used."""
    digest = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()[:16]


def hashes(pairs):
    """[[name, hash of the picture's file, hash of its label map's]]."""
    with ThreadPoolExecutor() as pool:                      # hashing lets other threads run
        return [[picture.name, *found] for (picture, _), found in
                zip(pairs, pool.map(lambda pair: [files.sha256(path) for path in pair], pairs))]


def index_of(folder, pairs, autoencoder, size, shard_size, reading=images.AS_IS):
    """The index of the cache in `folder`, or a new one; a cache of anything else is a UserError."""
    fresh = {"version": VERSION, "autoencoder": fingerprint(autoencoder), "image_size": list(size),
             "shard_size": shard_size, "shards": {}, "pictures": hashes(pairs),
             "reading": [list(reading.ignore), reading.fit]}
    index = read_index(folder) or fresh
    for key, what in (("autoencoder", "another autoencoder"), ("image_size", "another image size"),
                      ("pictures", "other pictures"), ("reading", "another --ignore or --fit")):
        if index[key] != fresh[key]:
            raise UserError(folder, f"holds latents of {what}{_first_other(index, fresh, key)}",
                            f"remove the folder {folder} to make them again, or give another one")
    return index


def _first_other(index, fresh, key):
    """Which picture differs first, in words; nothing where it is not the pictures."""
    pairs = zip(index[key], fresh[key]) if key == "pictures" else ()
    return next((f" ({new[0]} has changed)" for old, new in pairs if old != new), "")


def batches_to_do(folder, index, batch):
    """[(shard, first, end)]: the pictures of each batch still to be encoded. None spans two shards."""
    todo = []
    for k in range(num_shards(index)):
        end = min((k + 1) * index["shard_size"], len(index["pictures"]))
        if shard_name(k) not in index["shards"] or not (folder / shard_name(k)).exists():
            todo += [(k, first, min(first + batch, end))
                     for first in range(k * index["shard_size"], end, batch)]
    return todo


def encode(autoencoder, x, labels):
    """Images N x 3 x H x W and label maps N x h x w -> N records."""
    both = np.stack([x, x[..., ::-1]], axis=1).reshape(-1, *x.shape[1:])
    with jt.no_grad():
        z = autoencoder.encode(jt.array(both)).numpy()
    z = z.reshape(len(x), 2, *z.shape[1:])
    records = np.empty(len(x), [("latents", "<f4", z.shape[1:]), ("labels", "u1", labels.shape[1:])])
    records["latents"], records["labels"] = z, labels
    return records


def build(pairs, autoencoder, size, folder, shard_size=256, batch=4, progress=lambda iterable: iterable,
          reading=images.AS_IS):
    """Encode what of `pairs` the cache in `folder` does not hold yet, `batch` pictures at a time.

    size: (width, height) of the pictures; `progress` wraps the batches to show them; `reading`: how files
    are read. A cache of other pictures, another autoencoder or another reading is a UserError. Memory holds
    one shard at a time.
    """
    folder = Path(folder)
    if any(side % autoencoder.factor for side in size):
        raise UserError("image_size", f"is {size[0]} x {size[1]}",
                        f"multiples of {autoencoder.factor} are needed")
    asked = folder, pairs, autoencoder, size, shard_size, reading
    if not batches_to_do(folder, index_of(*asked), batch):
        return
    with files.locked(folder):                               # another tool may fill the same cache
        _fill(pairs, autoencoder, size, folder, index_of(*asked), batch, progress, reading)


def _fill(pairs, autoencoder, size, folder, index, batch, progress, reading):
    """Encode what the cache in `folder` with this `index` does not hold; nobody else writes there."""
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
