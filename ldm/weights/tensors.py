"""Tensors of foreign files before their numbers are read: the position of the numbers, and how to read them.

The content of a file may be malicious, so each number is checked when an object is made from it.
"""
from __future__ import annotations

import math
from typing import Any, BinaryIO, Callable, Sequence

import numpy as np

MOST = 1 << 62                                  # elements or bytes; more do not fit into 64 bits


def checked_sizes(values: Any, what: str = "shape") -> tuple[int, ...]:
    """`values` as a tuple, if it is a sequence of few whole numbers >= 0, else a ValueError."""
    if not isinstance(values, (tuple, list)) or len(values) > 64:
        raise ValueError(f"an invalid {what}")
    if any(type(n) is not int or not 0 <= n < MOST for n in values):
        raise ValueError(f"an impossible {what}")
    if what == "shape" and math.prod(values) >= MOST:
        raise ValueError("a shape of impossible size")
    return tuple(values)


class Blob:
    """Bytes that stay in the file until `read`."""
    __slots__ = ("_file", "_begin", "size")

    def __init__(self, file: BinaryIO, begin: int, size: int) -> None:
        self._file, self._begin, self.size = file, begin, size

    def read(self) -> bytes:
        """The bytes."""
        self._file.seek(self._begin)
        return self._file.read(self.size)


class DType:
    """A numpy dtype of a pickle: its letters, then, as its state, its byte order."""
    __slots__ = ("letters", "order")

    def __init__(self, letters: str) -> None:
        if type(letters) is not str or len(letters) > 16:
            raise ValueError("an invalid dtype")
        self.letters, self.order = letters, "<"

    def set_state(self, state: Sequence) -> None:
        """Set the state that a pickle contains after the object."""
        self.order = state[1]

    def numpy(self) -> np.dtype:
        """The dtype; anything but numbers (text, records, objects) is a ValueError."""
        dtype = np.dtype(self.letters)
        if dtype.kind not in "fiub":
            raise ValueError(f"an array of {dtype} instead of numbers")
        return dtype.newbyteorder(">" if self.order == ">" else "<")


class Array:
    """A numpy array of a pickle: empty at first; its state (version, shape, dtype, Fortran order, bytes)
    follows."""
    __slots__ = ("shape", "_dtype", "_fortran", "_raw")

    def __init__(self, shape: Any = (), dtype: Any = None, fortran: bool = False, raw: Any = b"") -> None:
        self.set_state((shape, dtype, fortran, raw))

    def set_state(self, state: Sequence) -> None:
        """Set the state that a pickle contains after the object."""
        shape, self._dtype, self._fortran, self._raw = state[-4:]
        self.shape = checked_sizes(shape)

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype; ValueError if the pickle contains none."""
        if not isinstance(self._dtype, DType):
            raise ValueError("an array without a dtype")
        return self._dtype.numpy()

    @property
    def kind(self) -> str:
        """The dtype's name."""
        return self.dtype.name

    def read(self) -> np.ndarray:
        """The array, possibly a view of the pickle's bytes."""
        raw = self._raw.read() if isinstance(self._raw, Blob) else self._raw
        if not isinstance(raw, (bytes, bytearray)):
            raise ValueError("an array without bytes")
        return np.frombuffer(raw, self.dtype).reshape(self.shape, order="F" if self._fortran else "C")


class Storage:
    """The memory of torch tensors: its key in the file, its dtype, its size in bytes, and a function that
    reads it."""
    __slots__ = ("key", "dtype", "size", "read")

    def __init__(self, key: str | int, dtype: str, size: int, read: Callable[[Storage], bytes]) -> None:
        self.key, self.dtype, self.size, self.read = key, dtype, size, read


class Tensor:
    """A torch tensor: a storage, an offset and strides. Its numbers are read by `read` only."""
    __slots__ = ("storage", "kind", "offset", "shape", "strides")

    def __init__(self, storage: Storage, kind: str, offset: int, shape: Sequence[int],
                 strides: Sequence[int]) -> None:
        if not isinstance(storage, Storage):
            raise ValueError("a tensor without a storage")
        self.storage, self.kind = storage, kind
        self.shape, self.strides = checked_sizes(shape), checked_sizes(strides, "stride")
        self.offset, = checked_sizes((offset,), "place")
        if len(self.shape) != len(self.strides):
            raise ValueError("a tensor of impossible shape")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides))
        if math.prod(self.shape) and last >= storage.size // self.dtype.itemsize:
            raise ValueError("a tensor that reaches beyond its storage")

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype of an element as stored."""
        return element(self.kind)

    def read(self) -> np.ndarray:
        """The array; bfloat16 comes as the uint16 of its bits."""
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        memory = np.frombuffer(self.storage.read(self.storage), self.dtype,
                               self.storage.size // self.dtype.itemsize)[self.offset:]
        strides = [step * self.dtype.itemsize for step in self.strides]
        array = np.lib.stride_tricks.as_strided(memory, self.shape, strides, writeable=False)
        if array.nbytes != self.storage.size:
            array = array.copy()                               # a copy, so that the storage can be freed
        return array


def element(name: str) -> np.dtype:
    """The little-endian numpy dtype that holds one element of the torch dtype `name`."""
    return np.dtype("uint16" if name == "bfloat16" else name).newbyteorder("<")


def stored_bytes(tensor: Array | Tensor) -> int:
    """How many bytes all elements of `tensor` have."""
    return math.prod(tensor.shape) * tensor.dtype.itemsize
