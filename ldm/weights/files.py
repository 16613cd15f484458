"""Weight files. Ours are safetensors with the config as metadata. Formats are detected by content."""
from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, Iterator, Optional

import numpy as np

from ldm.errors import UserError
from ldm.files import Name, open_regular, refuse_sources, replacing
from ldm.weights import foreign, safetensors_file
from ldm.weights.names import fit, short


class Entry:
    """A tensor of an opened file: its shape, the dtype that `read` returns, and `read` for its numbers."""
    __slots__ = ("shape", "dtype", "_path", "_name", "_kind", "_tensor")

    def __init__(self, path: Name, name: str, kind: str, tensor: Any) -> None:
        self._path, self._name, self._kind, self._tensor = path, name, kind, tensor
        self.shape = tuple(tensor.shape)
        floats = tensor.kind.startswith(("float", "bfloat"))
        self.dtype = np.dtype(np.float32) if floats else tensor.dtype.newbyteorder("=")

    def read(self) -> np.ndarray:
        """The array, contiguous and in native byte order. Raises UserError for NaN or infinite numbers."""
        with foreign.readable(self._path, self._kind):
            array = self._tensor.read()
            if self._tensor.kind == "bfloat16":
                array = (array.astype(np.uint32) << 16).view(np.float32)
            with np.errstate(over="ignore"):
                array = np.asarray(array, self.dtype, order="C")
            _refuse_unless_finite(self._path, self._name, array)
        return array


@contextlib.contextmanager
def opened(path: Name, container: str | None = None) -> Iterator[tuple[dict[str, Entry], dict | None]]:
    """Open a weight file of any supported format and yield (name -> Entry, config).

    Names, shapes and dtypes are read and checked at once; numbers are read one tensor at a time, while the
    file is open. config: the dict given to `save`, None in foreign files. container: see foreign.tensors. No
    code of the file is run. Raises UserError for a truncated or damaged file, another format, and a pickle
    that names more than tensors and containers.
    """
    with open_regular(path, "a file of weights") as file:
        with foreign.readable(path, "file"):
            head = file.read(9)
            file.seek(0)
        if not head:
            raise UserError(path, "is empty", foreign.KINDS)
        if safetensors_file.is_one(head):
            if container:
                raise UserError(path, f"has no '{short(container)}'",
                                "leave --container out: a safetensors file holds one set of weights")
            kind = "safetensors file"
            with foreign.readable(path, kind):
                tensors, config = safetensors_file.tensors(file, path)
        else:
            (kind, tensors), config = foreign.tensors(file, path, container), None
        with foreign.readable(path, kind):
            entries = {name: Entry(path, name, kind, tensor) for name, tensor in tensors.items()}
        del tensors
        yield entries, config


def read_state(path: Name, container: str | None = None) -> tuple[dict[str, np.ndarray], dict | None]:
    """(state, config) of a weight file of any supported format, see `opened`.

    state: name -> numpy array in native byte order, possibly read-only; floats are float32. Raises UserError
    for NaN or infinite numbers too.
    """
    with opened(path, container) as (entries, config):
        # Popped, so that the source of each tensor can be freed.
        return {name: entries.pop(name).read() for name in list(entries)}, config


def save(path: Name, state: dict[str, Any], config: dict | None = None, dtype: str | None = None) -> None:
    """Write `state` and `config` (a dict of plain values, or None) to `path`, atomically.

    state: name -> array, or an object with shape, dtype and `read`, such as Entry, read one at a time.

    Floats are written as float32, or as float16 with dtype="float16"; other types do not change. Raises
    UserError for a number that is not finite (in the written type) and for a path that cannot be written.
    """
    if dtype not in (None, "float16"):
        raise UserError(dtype, "is not a dtype for weights", "choose float16, or none for float32")
    tensors: dict[str, Any] = {name: value if hasattr(value, "read") else np.asarray(value)
                               for name, value in state.items()}
    kinds = {name: _written_as(tensor, dtype) for name, tensor in tensors.items()}
    header, order = safetensors_file.header(tensors, kinds, config)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        for name in order:
            array = tensors[name].read() if hasattr(tensors[name], "read") else tensors[name]
            with np.errstate(over="ignore"):                            # _refuse_unless_finite reports it
                array = np.ascontiguousarray(array, kinds[name])
            _refuse_unless_finite(path, name, array)
            file.write(array.data if array.size else b"")


def _written_as(array, dtype):
    return np.dtype(dtype or "float32" if array.dtype.kind == "f" else array.dtype).newbyteorder("<")


def _refuse_unless_finite(path, name, array):
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        raise UserError(path, f"{bad} of {array.size} numbers of '{short(name)}' are NaN or infinite",
                        f"give weights that are finite in {array.dtype.name}")


def _shapes(network):
    """name -> shape of a network; a dict of shapes is returned unchanged."""
    if isinstance(network, dict):
        return network
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


Agrees = Callable[[Optional[dict]], None]      # raises a UserError for the config in a file


def anything(config: dict | None) -> None:
    """Any config will do."""


def check(path: Name, network: Any, container: str | None = None, agrees: Agrees = anything) -> dict | None:
    """Check names and shapes as `load` does, without reading the numbers. Returns the file's config.

    network: as in `fill`, or a dict name -> shape. agrees: as in `load`. Raises the errors of `load`,
    except for numbers that are not finite.
    """
    with opened(path, container) as (entries, config):
        agrees(config)
        fit(entries, _shapes(network), path)
    return config


def load(path: Name, network: Any, container: str | None = None,
         taken: Callable[[Any], None] = lambda value: None, agrees: Agrees = anything) -> dict | None:
    """Load the weights in `path` into `network`, one tensor at a time. Returns the file's config, None for
    foreign files.

    taken: is called with each of the network's values as soon as it has its numbers, to make it smaller, say.
    agrees: see agreement.with_config; it is called first, as a key says more than the shapes that follow.
    """
    with opened(path, container) as (entries, config):
        agrees(config)
        fitted, _ = fit(entries, _shapes(network), path)
        del entries
        _take(network, fitted, taken)
    return config


def fill(network: Any, state: dict[str, np.ndarray], subject: Name) -> None:
    """Load `state` (name -> array) into `network`, strictly. subject: the file or option that errors name.

    network: an object whose `load_state_dict(name -> array)` changes the values that `state_dict()` gives.
    Names are matched by names.fit. UserError if tensors are missing, extra or have another shape; the network
    is then unchanged.
    """
    fitted, _ = fit(state, _shapes(network), subject)
    _take(network, fitted)


def _take(network: Any, fitted: dict, taken: Callable[[Any], None] = lambda value: None) -> None:
    """Give a network the tensors in `fitted` (name -> array or Entry), which is emptied."""
    values = network.state_dict()
    for name in list(fitted):
        tensor = fitted.pop(name)
        array = tensor.read() if hasattr(tensor, "read") else tensor
        network.load_state_dict({name: array})
        if not np.array_equal(np.asarray(values[name]), array):   # Jittor only logs what it could not set
            raise RuntimeError(f"the network did not take over '{name}'")
        taken(values[name])


def convert(source: Name, target: Name, expected_shapes: dict | None = None, config: dict | None = None,
            dtype: str | None = None, container: str | None = None) -> tuple[dict[str, Entry], list[str]]:
    """Convert `source`, of any supported format, to our format in `target`, one tensor at a time.

    expected_shapes: name -> shape of the network; the weights must match it, as in `load`, and get its names.
    config: written as metadata (default: the source's own). Returns (name -> Entry, the names left out).
    """
    refuse_sources(target, [source])
    with opened(source, container) as (entries, found):
        left_out: list[str] = []
        if expected_shapes is not None:
            entries, left_out = fit(entries, expected_shapes, source)
        save(target, entries, found if config is None else config, dtype)
    return entries, left_out


def summary(state: dict[str, Any]) -> str:
    """"660 tensors, 501,540,358 parameters"; `state`: name -> anything with a shape."""
    return f"{len(state)} tensors, {sum(math.prod(array.shape) for array in state.values()):,} parameters"
