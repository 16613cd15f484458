"""The latent cache: every training picture encoded once, straight and flipped, with its label map.

A cache is a folder of shards, shard-00000.npy and so on, and an index.json. A shard is an array of records:
latents 2 x C x h x w float32, straight and flipped, and labels h x w uint8. The index says of which pictures
and which autoencoder they are, and lists the shards that stand, with their hashes. A shard is written first,
then the index: a kill costs one shard, which is made again under the same name, so nothing is there twice.
"""
import json
from pathlib import Path

import numpy as np

from ldm import files
from ldm.errors import UserError

VERSION = 2
KEYS = {"autoencoder", "image_size", "pictures", "shard_size", "shards"}


def shard_name(k):
    return f"shard-{k:05d}.npy"


def num_shards(index):
    return -(-len(index["pictures"]) // index["shard_size"])


def read_index(folder):
    """The index of a cache, or None where there is no cache yet."""
    path = Path(folder) / "index.json"
    if not path.exists():
        return None
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise UserError(path, f"cannot be read ({e})", "remove its folder, a latent cache")
    if not isinstance(index, dict) or index.get("version") != VERSION or not KEYS <= index.keys():
        raise UserError(path, "is no index of a latent cache of today's form", "remove its folder")
    return index


def is_whole(folder):
    """Whether the cache in `folder` has all its shards. Whose latents they are, `encoding.build` compares."""
    index = read_index(folder)
    return index is not None and len(index["shards"]) == num_shards(index)


def add_shard(folder, index, name, records):
    """Write a shard, then the index that lists it."""
    with files.replacing(folder / name) as temporary:
        np.save(temporary, records)
        index["shards"][name] = files.sha256(temporary)
    with files.replacing(folder / "index.json") as temporary:
        temporary.write_text(json.dumps(index))


def open_shard(path, expected):
    """The records of a shard, memory-mapped; one that has not the expected hash is a UserError."""
    found = files.sha256(path)
    if found != expected:
        raise UserError(path, f"is damaged (its hash is {found}, the index says {expected})",
                        "remove it, and tools/encode_latents.py makes it again")
    return np.load(path, mmap_mode="r")


class Latents:
    """A cache opened for training, each shard compared with its hash. It is memory-mapped: its size does not
    matter."""

    def __init__(self, folder):
        folder = Path(folder)
        if not is_whole(folder):
            raise UserError(folder, "is no whole latent cache", "tools/encode_latents.py makes it or goes on")
        index = read_index(folder)
        self.count, self.shard_size = len(index["pictures"]), index["shard_size"]
        self.shards = [open_shard(folder / name, index["shards"][name])
                       for name in map(shard_name, range(num_shards(index)))]

    def __len__(self):
        return self.count

    def read(self, indices, flips):
        """-> (z N x C x h x w float32, labels N x h x w uint8), each straight or flipped."""
        records = [self.shards[i // self.shard_size][i % self.shard_size] for i in indices]
        z = np.stack([record["latents"][int(f)] for record, f in zip(records, flips)])
        labels = np.stack([r["labels"][:, ::-1] if f else r["labels"] for r, f in zip(records, flips)])
        return z, labels
