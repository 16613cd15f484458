"""Reading pickles without running anything in them: every name that a pickle may use stands in a list here.

A pickle is a program: it names functions and calls them. This reader gives it, for the few names that
tensors and containers need, objects of ours that only note what they were called with, and refuses the file
at any other name. Python's own classes reach the pickle in two cases only, OrderedDict and set, whose
constructors just collect; all others come as `Inert` objects without attributes, so that nothing done to
them outlives the file.

One class that is neither a tensor nor a container has a place in the list: Lightning's `ModelCheckpoint`,
which the published CompVis checkpoints name as the key of a dict. It too is inert here. Other checkpoints
that hold more than weights, such as a pickled module, are refused at the first such name. Where the source is
trusted, the program that wrote the file, run elsewhere, can save the state dict alone:
`torch.save({"state_dict": torch.load(F, weights_only=False)["state_dict"]}, G)`. That runs what F says; G
is readable here.
"""
import collections
import math
import pickle
import pickletools

import numpy as np

from ldm.errors import UserError
from ldm.weights import names

EXPANDED_LIMIT = 1 << 28        # bytes that a tensor which repeats its storage (torch's expand) may fill


class Inert:
    """What a pickle sees in the place of a name: to be called, at most, and never changed."""
    __slots__ = ("value", "_call")

    def __init__(self, value, call=None):
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments):
        if self._call is None:
            raise pickle.UnpicklingError(f"{self.value} is called")
        return self._call(*arguments)

    def __setattr__(self, name, value):
        raise pickle.UnpicklingError(f"{self.value} is changed")


class DType:
    """A numpy dtype as pickled: its letters, then, as state, its byte order."""
    __slots__ = ("letters", "order")

    def __init__(self, letters):
        self.letters, self.order = letters, "<"

    def __setstate__(self, state):
        self.order = state[1]

    def numpy(self):
        """The dtype; anything but numbers (text, records, objects) is a ValueError."""
        dtype = np.dtype(str(self.letters))
        if dtype.kind not in "fiub":
            raise ValueError(f"an array of {dtype} instead of numbers")
        return dtype.newbyteorder(">" if self.order == ">" else "<")


class Array:
    """A numpy array as pickled: empty first, then its state (version, shape, dtype, Fortran order, bytes)."""
    __slots__ = ("shape", "dtype", "fortran", "raw")

    def __init__(self, shape=(), dtype=None, fortran=False, raw=b""):
        self.shape, self.dtype, self.fortran, self.raw = shape, dtype, fortran, raw

    def __setstate__(self, state):
        self.shape, self.dtype, self.fortran, self.raw = state[-4:]

    def read(self):
        """(the array, a view of the pickle's bytes; the name of its dtype)."""
        dtype = self.dtype.numpy()
        array = np.frombuffer(self.raw, dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return array, dtype.name


class Storage:
    """The memory of torch tensors: what it is called in the file, how many bytes, and how they are had."""
    __slots__ = ("key", "dtype", "size", "read")

    def __init__(self, key, dtype, size, read):
        self.key, self.dtype, self.size, self.read = key, dtype, size, read


class Tensor:
    """A torch tensor: a storage and how to walk over it; nothing is read from the file before `read`."""
    __slots__ = ("storage", "dtype", "offset", "shape", "strides")

    def __init__(self, storage, dtype, offset, shape, strides):
        self.storage, self.dtype, self.offset = storage, dtype, offset
        self.shape, self.strides = shape, strides

    def read(self):
        """(the array; the name of its dtype). bfloat16 comes as the uint16 of its bits."""
        dtype = element(self.dtype)
        elements = self.storage.size // dtype.itemsize
        numbers = (self.offset, *self.shape, *self.strides)
        if any(type(n) is not int or n < 0 for n in numbers) or len(self.shape) != len(self.strides):
            raise ValueError("a tensor of impossible shape")
        size = math.prod(self.shape) * dtype.itemsize
        if size > max(self.storage.size, EXPANDED_LIMIT):
            raise ValueError(f"a tensor of {size} bytes in a storage of {self.storage.size}")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides))
        if 0 in self.shape:
            return np.zeros(self.shape, dtype), self.dtype
        if last >= elements:
            raise ValueError("a tensor that reaches beyond its storage")
        memory = np.frombuffer(self.storage.read(self.storage), dtype, elements)[self.offset:]
        strides = [step * dtype.itemsize for step in self.strides]
        array = np.lib.stride_tricks.as_strided(memory, self.shape, strides, writeable=False)
        if array.nbytes != self.storage.size:
            array = array.copy()                               # lets go of the rest of the storage
        return array, self.dtype


def element(name):
    """The little-endian numpy dtype that holds one element of the torch dtype `name`."""
    return np.dtype("uint16" if name == "bfloat16" else name).newbyteorder("<")


def _tensor(storage, offset, shape, strides, _requires_grad=False, _hooks=None, metadata=None):
    if metadata:
        raise ValueError("a tensor with its sign or conjugate pending")
    return Tensor(storage, storage.dtype, offset, shape, strides)


def _tensor_of_dtype(storage, offset, shape, strides, _requires_grad, _hooks, dtype, metadata=None):
    tensor = _tensor(storage, offset, shape, strides, metadata=metadata)
    tensor.dtype = dtype.value
    return tensor


def _scalar(dtype, raw):
    return np.frombuffer(raw, dtype.numpy())[0].item()


def _from_buffer(raw, dtype, shape, order):
    return Array(shape, dtype, order == "F", raw)


def _encode(text, encoding):
    if encoding != "latin1":                           # how protocol 2 writes bytes; it has no other use
        raise ValueError(f"a text in {encoding}")
    return text.encode("latin1")


def _allowed():
    """(module, name) -> what a pickle gets for it."""
    table = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("builtins", "set"): set, ("__builtin__", "set"): set,
        ("_codecs", "encode"): Inert("_codecs.encode", _encode),
        ("numpy", "ndarray"): Inert("numpy.ndarray"),
        ("numpy", "dtype"): Inert("numpy.dtype", lambda letters, *_: DType(letters)),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"): Inert("ModelCheckpoint"),
        ("torch", "Size"): Inert("torch.Size", tuple),
        ("torch", "device"): Inert("torch.device", lambda *place: place),
        ("torch.storage", "UntypedStorage"): Inert("uint8"),
        ("torch._utils", "_rebuild_tensor"): Inert("_rebuild_tensor", _tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Inert("_rebuild_tensor_v2", _tensor),
        ("torch._utils", "_rebuild_tensor_v3"): Inert("_rebuild_tensor_v3", _tensor_of_dtype),
        ("torch._utils", "_rebuild_parameter"): Inert("_rebuild_parameter", lambda tensor, *_: tensor),
    }
    for module in names.NUMPY_MODULES:
        table[f"{module}.multiarray", "_reconstruct"] = Inert("_reconstruct", lambda *_: Array())
        table[f"{module}.multiarray", "scalar"] = Inert("scalar", _scalar)
        table[f"{module}.numeric", "_frombuffer"] = Inert("_frombuffer", _from_buffer)
    table.update({("torch", name): Inert(name) for name in names.DTYPES})
    table.update({(module, name): Inert(dtype) for name, dtype in names.STORAGES.items()
                  for module in ("torch", "torch.cuda")})
    table.update({name: Inert("jittor.Var", lambda array: array) for name in names.VARS})
    return table


def load(file, subject, storage=None):
    """The tree of the pickle that begins where `file` stands; leaves `file` at its end.

    subject: what errors name; storage(dtype name, key, elements): makes the `Storage` that a torch file
    refers to.
    """
    begin = file.tell()
    _refuse_impossible(file)
    file.seek(begin)
    return _Unpickler(file, subject, storage).load()


def _refuse_impossible(file):
    """Walk through a pickle's operations: all must be there, with no memo entry beyond their number.

    Python's own reader makes room for whatever length or entry a damaged file claims, which can be all the
    memory.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if operation.name.endswith("PUT") and argument > count:
            raise ValueError(f"entry {argument} at its operation {count}")


class _Unpickler(pickle.Unpickler):
    _allowed = _allowed()

    def __init__(self, file, subject, storage):
        super().__init__(file)
        self._subject, self._storage = subject, storage

    def find_class(self, module, name):
        """What stands for `module.name` here; a name outside the list is a UserError that gives it."""
        if (module, name) not in self._allowed:
            text = f"{module}.{name}"
            raise UserError(self._subject, f"names {text if text.isprintable() else ascii(text)}",
                            "only tensors and containers are read, no other names, since they could run code")
        return self._allowed[module, name]

    def persistent_load(self, identity):
        """The storage of ("storage", kind, key, place, elements[, view]), torch's only kind of reference."""
        if self._storage is None or type(identity) is not tuple or identity[0] != "storage":
            raise pickle.UnpicklingError("a reference out of the file")
        _, kind, key, _, elements, *view = identity
        if any(view):
            raise ValueError("a storage within a storage, as torch wrote before 0.4")
        return self._storage(kind.value, key, elements)
