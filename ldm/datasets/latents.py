"""The latent cache: every training picture encoded once, straight and flipped, with its label map.

A cache is a folder with shards (shard-00000.npy, ...) and an index.json. A shard is an array of records:
latents 2 x C x h x w float32 (straight and flipped) and labels h x w uint8. The index holds the names and
hashes of the pictures and of the autoencoder, and the hashes of the finished shards. A shard is written
before the index. After a kill at most one shard is encoded again, under the same name.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np

from ldm import files
from ldm.documents import read_json, short
from ldm.errors import UserError

VERSION = 4                 # in version 3 the hash was of the whole autoencoder, not of its encoder
# The keys of an index, and a check for each.
KEYS = {
    "autoencoder": lambda v: isinstance(v, str),
    "image_size": lambda v: isinstance(v, list) and len(v) == 2 and all(map(_is_number, v)),
    "pictures": lambda v: isinstance(v, list) and v and all(map(_is_picture, v)),
    "shard_size": lambda v: _is_number(v) and v > 0,
    "reading": lambda v: isinstance(v, list) and len(v) in (2, 3),
    "shards": lambda v: isinstance(v, dict) and all(isinstance(x, str) for x in v.values()),
}


def shard_name(k: int) -> str:
    return f"shard-{k:05d}.npy"


def num_shards(index: dict[str, Any]) -> int:
    return -(-len(index["pictures"]) // index["shard_size"])


def read_index(folder: files.Name) -> Optional[dict[str, Any]]:
    """The index of a cache, or None if there is no cache. Raises UserError if it is damaged."""
    path = Path(folder) / "index.json"
    if files.kind_of(path) is None:
        return None
    index = read_json(path, f"the cache's own index, or remove {folder} to make the cache again")
    if not isinstance(index, dict) or index.get("version") != VERSION:
        raise UserError(path, "is not the index of a latent cache of this version",
                        f"remove the folder {folder} to make it again")
    wrong = [key for key, is_right in KEYS.items() if key not in index or not is_right(index[key])]
    if wrong:
        raise UserError(path, f"is damaged: {wrong[0]} is {short(index.get(wrong[0]))}",
                        f"remove the folder {folder} to make it again")
    return index


def _is_number(value):
    return type(value) is int and 0 <= value < 2 ** 63


def _is_picture(entry):
    return isinstance(entry, list) and len(entry) == 3 and all(isinstance(word, str) for word in entry)


def is_whole(folder: files.Name) -> bool:
    """Whether the cache in `folder` has all its shards. (`encoding.build` compares its inputs.)"""
    index = read_index(folder)
    return index is not None and all(shard_name(k) in index["shards"] for k in range(num_shards(index)))


def add_shard(folder: Path, index: dict[str, Any], name: str, records: np.ndarray) -> None:
    """Write a shard, then the index that lists it."""
    with files.replacing(folder / name) as temporary:
        np.save(temporary, records)
        index["shards"][name] = files.sha256(temporary)
    with files.replacing(folder / "index.json") as temporary:
        temporary.write_text(json.dumps(index))


def open_shard(path: Path, expected: str, count: int) -> np.ndarray:
    """The `count` records of a shard, memory-mapped. Raises UserError for another hash or another form."""
    found = files.sha256(path)
    if found != expected:
        raise UserError(path, f"is damaged (its hash is {found}, the index says {expected})",
                        "remove it and run tools/encode_latents.py again")
    try:
        records = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as e:
        raise UserError(path, f"is damaged ({e})", "remove the cache's folder to make it again") from None
    if records.ndim != 1 or records.dtype.names != ("latents", "labels") or len(records) != count:
        raise UserError(path, f"does not hold {count} records", "remove the cache's folder to make it again")
    return records


class Latents:
    """A complete cache, opened for training. Shards are checked by their hashes and memory-mapped."""

    def __init__(self, folder: files.Name) -> None:
        folder = Path(folder)
        index = read_index(folder)
        if index is None or not is_whole(folder):
            raise UserError(folder, "is not a complete latent cache",
                            "run tools/encode_latents.py to make or complete it")
        self.count, self.shard_size = len(index["pictures"]), index["shard_size"]
        self.shards = []
        for k in range(num_shards(index)):
            count = min(self.shard_size, self.count - k * self.shard_size)
            self.shards.append(open_shard(folder / shard_name(k), index["shards"][shard_name(k)], count))

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int], flips: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
        """(z N x C x h x w float32, labels N x h x w uint8), each straight or flipped."""
        records = [self.shards[i // self.shard_size][i % self.shard_size] for i in indices]
        z = np.stack([record["latents"][int(f)] for record, f in zip(records, flips)])
        labels = np.stack([r["labels"][:, ::-1] if f else r["labels"] for r, f in zip(records, flips)])
        return z, labels
