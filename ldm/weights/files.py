"""Weights in files: own ones are safetensors with the config in the metadata; all are told by content.

A safetensors file is eight bytes with the header's length, a JSON header (name -> dtype, shape, place), and
the numbers. It is read and written here, tensor by tensor, since the library's numpy side holds everything
twice and knows no bfloat16.
"""
import json
import math

import numpy as np

from ldm.errors import UserError
from ldm.files import replacing
from ldm.weights import foreign
from ldm.weights.names import fit

FORMAT, VERSION = "iidm", 1
HEADER_LIMIT = 100_000_000                                  # bytes, as the safetensors library has it
DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool",
          "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
          "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"}
CODES = {name: code for code, name in DTYPES.items()}


def save(path, state, config=None, dtype=None):
    """Write `state` (name -> array) and `config` (a dict of plain values, or None) to `path`, atomically.

    Floating numbers are written as float32 or, with dtype="float16", in half the space; others as they are. A
    tensor that is not finite, or not so in float16, is a UserError, and so is a path that cannot be written.
    """
    if dtype not in (None, "float16"):
        raise UserError(dtype, "is no type for weights", "float16 or none (float32)")
    arrays = {name: np.asarray(array) for name, array in state.items()}
    kinds = {name: _written_as(array, dtype) for name, array in arrays.items()}
    order = sorted(arrays, key=lambda name: -kinds[name].itemsize)      # stable; keeps every tensor aligned
    metadata = {"format": FORMAT, "version": str(VERSION)}
    if config is not None:
        metadata["config"] = json.dumps(config)
    header = {"__metadata__": metadata} | dict.fromkeys(arrays)         # keeps the state's order for readers
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].size * kinds[name].itemsize
        header[name] = {"dtype": CODES[kinds[name].name], "shape": list(arrays[name].shape),
                        "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            with np.errstate(over="ignore"):                            # told by _refuse_unless_finite
                array = np.ascontiguousarray(arrays[name], kinds[name])
            _refuse_unless_finite(path, name, array)
            file.write(array.data if array.size else b"")


def _written_as(array, dtype):
    return np.dtype(dtype or "float32" if array.dtype.kind == "f" else array.dtype).newbyteorder("<")


def _refuse_unless_finite(path, name, array):
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        raise UserError(path, f"{bad} of {array.size} numbers of '{name}' are NaN or infinite",
                        f"finite {array.dtype.name} numbers are needed")


def read_state(path, container=None):
    """(state, config) of any readable file of weights, told by its content, whatever its name.

    state: name -> numpy array in native order, possibly read-only, floating numbers as float32; config: the
    dict that `save` was given, None in foreign files. container: see foreign.read. No code of the file is
    run. A file that is truncated, damaged or of another kind, a pickle that names more than tensors and
    containers, and a tensor with NaN or infinite numbers are each a UserError.
    """
    with foreign.readable(path, "file"):
        with open(path, "rb") as file:
            head = file.read(9)
    if not head:
        raise UserError(path, "is empty", foreign.KINDS)
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= HEADER_LIMIT:
        if container:
            raise UserError(path, f"has no '{container}'", "a safetensors file holds one set of weights")
        with foreign.readable(path, "safetensors file"):
            return _read_safetensors(path)
    tensors = foreign.read(path, container)
    return {name: _native(path, name, array, dtype) for name, array, dtype in tensors}, None


def _native(path, name, array, dtype):
    """`array` contiguous, in native order, floats as float32 and finite; bfloat16 comes by its bits."""
    if dtype == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    kind = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):
        array = np.asarray(array, kind, order="C")
    _refuse_unless_finite(path, name, array)
    return array


def _read_safetensors(path):
    """(state, config) of a safetensors file of ours or of another program."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            raise ValueError(f"{size} bytes, but a header of {length}")
        header = json.loads(file.read(length))
        config = _config(header.pop("__metadata__", {}), path)
        state = {}
        for name, entry in header.items():
            if entry["dtype"] not in DTYPES:
                raise UserError(path, f"'{name}' is of type {entry['dtype']}",
                                f"one of {', '.join(DTYPES)} is needed")
            dtype = DTYPES[entry["dtype"]]
            element = foreign.element(dtype)
            begin, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            inside = 0 <= begin <= end <= size - 8 - length
            if not inside or end - begin != math.prod(shape) * element.itemsize:
                raise ValueError(f"'{name}' lies outside of the file or is of another size than its shape")
            file.seek(8 + length + begin)
            array = np.fromfile(file, element, math.prod(shape)).reshape(shape)
            state[name] = _native(path, name, array, dtype)
    if not state:
        raise UserError(path, "holds no tensors", "a file of weights is needed")
    return state, config


def _config(metadata, path):
    """The config in the metadata of a file of ours, None in others."""
    if metadata.get("format") != FORMAT:
        return None
    if int(metadata["version"]) > VERSION:
        raise UserError(path, f"is of version {metadata['version']} of the format",
                        f"up to {VERSION} is read here")
    return json.loads(metadata["config"]) if "config" in metadata else None


def load(path, network, container=None):
    """Fill `network` with the weights in `path`; returns the config kept with them, None in foreign files."""
    state, config = read_state(path, container)
    fill(network, state, path)
    return config


def fill(network, state, subject):
    """Put `state` (name -> array, from what an error calls `subject`) into `network`, strictly.

    network: anything with `state_dict()` (name -> something with a shape) and `load_state_dict(dict of
    arrays)`. Names are matched as names.fit says; missing, extra and misshapen tensors stop the load before
    anything changes.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    fitted, _ = fit(state, shapes, subject)
    network.load_state_dict(fitted)
    for name, value in network.state_dict().items():        # Jittor's loader only logs what it could not set
        if not np.array_equal(np.asarray(value), fitted[name]):
            raise RuntimeError(f"the network did not take over '{name}'")


def convert(source, target, expected_shapes=None, config=None, dtype=None, container=None):
    """Read `source`, of any readable kind, and write it to `target` in our format.

    expected_shapes: name -> shape of the network it is for, whose names it then gets, strictly, as in
    `load`. config: what to keep with it, by default the source's own. Returns (the state, the names left
    out).
    """
    state, found = read_state(source, container)
    left_out = []
    if expected_shapes is not None:
        state, left_out = fit(state, expected_shapes, source)
    save(target, state, found if config is None else config, dtype)
    return state, left_out


def summary(state):
    """"660 tensors, 501,540,358 parameters"."""
    return f"{len(state)} tensors, {sum(array.size for array in state.values()):,} parameters"
