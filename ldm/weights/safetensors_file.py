"""Safetensors files, ours and those of other programs: eight bytes with the header's length, a JSON header
(name -> dtype, shape, place), and the numbers.

They are read and written here, tensor by tensor, since the library's numpy side holds everything twice and
knows no bfloat16. A file is refused where the library refuses it: tensors lie one behind the other, none on
another, and fill the file.
"""
from __future__ import annotations

import json
import math
from typing import BinaryIO

import numpy as np

from ldm.errors import UserError
from ldm.files import Name
from ldm.weights.names import short
from ldm.weights.tensors import checked_sizes, element

FORMAT, VERSION = "iidm", 1
HEADER_LIMIT = 10_000_000               # bytes; as JSON it takes some twenty times as much in memory
DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool",
          "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
          "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"}
CODES = {name: code for code, name in DTYPES.items()}


class Stored:
    """A tensor of a safetensors file, which is read when it is wanted."""
    __slots__ = ("_file", "_begin", "kind", "shape")

    def __init__(self, file: BinaryIO, begin: int, kind: str, shape: tuple) -> None:
        self._file, self._begin, self.kind, self.shape = file, begin, kind, shape

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype of an element as stored."""
        return element(self.kind)

    def read(self) -> np.ndarray:
        """The array; bfloat16 comes as the uint16 of its bits."""
        self._file.seek(self._begin)
        count = math.prod(self.shape)
        if not count:
            return np.zeros(self.shape, self.dtype)
        return np.fromfile(self._file, self.dtype, count).reshape(self.shape)


def is_one(head: bytes) -> bool:
    """Whether a file whose first 9 bytes are `head` is one of safetensors."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= HEADER_LIMIT


def tensors(file: BinaryIO, path: Name) -> tuple[dict[str, Stored], dict | None]:
    """(name -> tensor, config of a file of ours or None). ValueError where the file is damaged."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if 8 + length > size:
        raise ValueError(f"{size} bytes, but a header of {length}")
    header = json.loads(file.read(length), object_pairs_hook=_without_repetition)
    config = _config(header.pop("__metadata__", {}), path)
    found, places = {}, []
    for name, entry in header.items():
        if type(entry["dtype"]) is not str or entry["dtype"] not in DTYPES:
            raise UserError(path, f"'{short(name)}' is of type {short(entry['dtype'])}",
                            f"give tensors of {', '.join(DTYPES)}")
        kind, shape = DTYPES[entry["dtype"]], checked_sizes(entry["shape"])
        begin, end = checked_sizes(entry["data_offsets"], "place")
        inside = begin <= end <= size - 8 - length
        if not inside or end - begin != math.prod(shape) * element(kind).itemsize:
            raise ValueError(f"'{short(name)}' lies outside of the file or is of another size than its shape")
        places.append((begin, end, name))
        found[name] = Stored(file, 8 + length + begin, kind, shape)
    _refuse_overlaps(sorted(places), size - 8 - length)
    if not found:
        raise UserError(path, "holds no tensors", "give a file of weights")
    return found, config


def _without_repetition(pairs):
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a name that occurs twice")
    return tree


def _refuse_overlaps(places, size):
    last = 0
    for begin, end, name in places:
        if begin != last:
            raise ValueError(f"'{short(name)}' does not begin where the one before it ends")
        last = end
    if places and last != size:
        raise ValueError(f"{size - last} bytes that belong to no tensor")


def _config(metadata, path):
    """The config in the metadata of a file of ours, None in others."""
    if metadata.get("format") != FORMAT:
        return None
    if int(metadata["version"]) > VERSION:
        raise UserError(path, f"is of version {short(metadata['version'])} of the format",
                        f"update this program; it reads versions up to {VERSION}")
    config = json.loads(metadata["config"]) if "config" in metadata else None
    if not isinstance(config, (dict, type(None))):
        raise ValueError("a config that is not a mapping")
    return config


def header(tensors: dict, kinds: dict, config: dict | None) -> tuple[bytes, list]:
    """(the bytes before the numbers, the names in the order in which their numbers follow) of a file of ours.

    tensors: name -> anything with a shape; kinds: name -> numpy dtype to write.
    """
    order = sorted(tensors, key=lambda name: -kinds[name].itemsize)     # stable; keeps every tensor aligned
    metadata = {"format": FORMAT, "version": str(VERSION)}
    if config is not None:
        metadata["config"] = json.dumps(config)
    tree = {"__metadata__": metadata} | dict.fromkeys(tensors)          # keeps the state's order for readers
    end = 0
    for name in order:
        begin, end = end, end + math.prod(tensors[name].shape) * kinds[name].itemsize
        tree[name] = {"dtype": CODES[kinds[name].name], "shape": list(tensors[name].shape),
                      "data_offsets": [begin, end]}
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, order
