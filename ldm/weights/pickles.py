"""Reads pickles without running anything in them: every name that a pickle may use is in a list here.

A pickle is a program for a small machine with a stack: it makes containers, names functions and calls them.
This module is such a machine that can do only what weights need. A name outside the list ends the reading.
For each name in the list there is a function here, which makes an object of `tensors` or a plain value.

Python's own reader is not used, since a small file can make it use any amount of time and memory: a dict
whose key is a tuple of tuples of tuples, a copy of a copy. Here each operation has a price, and the total may
be little more than the length of the file.

One class in the list is neither a tensor nor a container: Lightning's `ModelCheckpoint`, which the published
CompVis checkpoints use as the key of a dict. Here it does nothing. Other checkpoints with more than weights,
such as a pickled module, are refused at the first such name. If you trust the source, you can save only the
state dict, in a Python with torch: `torch.save({"state_dict": torch.load(F,
weights_only=False)["state_dict"]}, G)`. That runs the code in F; G can be read here.
"""
from __future__ import annotations

import collections
import pickletools
from typing import Any, BinaryIO, Callable

import numpy as np

from ldm.errors import UserError
from ldm.files import Name
from ldm.weights import names
from ldm.weights.tensors import Array, Blob, DType, Storage, Tensor

FREE_BYTES = 32 << 20           # memory that a pickle of any size may take for objects that are no bytes
OBJECT, CONTAINER = 64, 256     # what one takes of that: more than CPython's own sizes
KEY_LENGTH = 1000               # letters of a key or name
LEFT_IN_FILE = 1024             # bytes from which on a bytes object is not read with the pickle


class Inert:
    """What a pickle gets in place of a name: an object that it can call at most, never change."""
    __slots__ = ("value", "call")

    def __init__(self, value: str, call: Callable | None = None) -> None:
        self.value, self.call = value, call


def _tensor(storage, offset, shape, strides, _requires_grad=False, _hooks=None, metadata=None, dtype=None):
    if metadata:
        raise ValueError("a tensor with its sign or conjugate pending")
    return Tensor(storage, dtype or storage.dtype, offset, shape, strides)


def _tensor_of_dtype(storage, offset, shape, strides, _requires_grad, _hooks, dtype, metadata=None):
    if not isinstance(dtype, Inert) or dtype.value not in names.DTYPES:
        raise ValueError("a tensor without a dtype")
    return _tensor(storage, offset, shape, strides, metadata=metadata, dtype=dtype.value)


def _scalar(dtype, raw):
    return np.frombuffer(raw, dtype.numpy())[0].item()


def _from_buffer(raw, dtype, shape, order):
    return Array(shape, dtype, order == "F", raw)


def _size(shape=()):
    if not isinstance(shape, (tuple, list)) or len(shape) > 64:
        raise ValueError("an invalid torch.Size")
    return tuple(shape)


ORDERED_DICT, SET = Inert("collections.OrderedDict"), Inert("set")
ENCODE = Inert("_codecs.encode")


def _allowed():
    """{(module, name): what a pickle gets for it}."""
    table = {
        ("collections", "OrderedDict"): ORDERED_DICT,
        ("builtins", "set"): SET, ("__builtin__", "set"): SET,
        ("_codecs", "encode"): ENCODE,
        ("numpy", "ndarray"): Inert("numpy.ndarray"),
        ("numpy", "dtype"): Inert("numpy.dtype", lambda letters, *_: DType(letters)),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"): Inert("ModelCheckpoint"),
        ("torch", "Size"): Inert("torch.Size", _size),
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


ALLOWED = _allowed()


def load(file: BinaryIO, subject: Name,
         storage: Callable[[str, str | int, int], Storage] | None = None) -> Any:
    """The tree of the pickle that begins where `file` is; leaves `file` at its end.

    Long bytes are left in the file, which must stay open until they are read. subject: what errors name;
    storage(dtype name, key, elements): makes the `Storage` that a torch file refers to. ValueError where the
    pickle is damaged, or wants more than its length warrants.
    """
    return _Machine(file, subject, storage).run()


class _Bounded:
    """A file that returns at most the bytes that it has left, whatever length a pickle asks for."""

    def __init__(self, file):
        self._file, self.readline = file, file.readline         # no `tell`: genops would ask all the time
        place = file.tell()
        self.size = file.seek(0, 2)
        file.seek(place)

    def read(self, count):
        if count > self.size - self._file.tell():
            raise ValueError("it ends too early")
        return self._file.read(count)


def _key(value):
    """`value`, if it may be the key of a dict or a member of a set. Only types with fast comparison are
    allowed: tuples can be nested, and long numbers can be chosen so that all have the same hash."""
    if isinstance(value, (str, bytes)):
        if len(value) > KEY_LENGTH:
            raise ValueError(f"a key of {len(value)} letters")
    elif type(value) is int:
        if abs(value) >= 1 << 31:
            raise ValueError("a number of more than 31 bits as a key")
    elif value is not None and not isinstance(value, (bool, Inert)):
        raise ValueError(f"a {type(value).__name__.lower()} as a key")
    return value


class _Machine:
    """The reader of one pickle. `_PLAIN`, `_SPECIAL`: operation -> its price and its method, or None if it
    only pushes its argument."""

    def __init__(self, file, subject, storage):
        self._file, self._subject, self._storage = file, subject, storage
        self._source = _Bounded(file)
        self._left = FREE_BYTES + self._source.size
        self._stack, self._marks, self._memo = [], [], {}

    def run(self):
        push = self._stack.append
        for operation, argument, _ in pickletools.genops(self._source):
            price, act = _OPERATIONS.get(operation.name, (0, _Machine._unknown))
            self._pay(price)
            if act is None:
                push(argument)
            else:
                act(self, argument)
        return self._stack.pop()

    def _pay(self, price):
        self._left -= price
        if self._left < 0:
            raise ValueError("it makes more objects than its length warrants")

    def _unknown(self, _):
        raise ValueError("an operation that weights do not need")

    def _nothing(self, _):
        pass

    # ---- values and containers

    def _bytes(self, raw):
        size = len(raw)
        self._stack.append(raw if size < LEFT_IN_FILE else Blob(self._file, self._file.tell() - size, size))

    def _after_mark(self):
        begin = self._marks.pop()
        if begin > len(self._stack):
            raise ValueError("a mark beyond its stack")
        items = self._stack[begin:]
        del self._stack[begin:]
        return items

    def _mark(self, _):
        self._marks.append(len(self._stack))

    def _pop(self, _):
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _pop_mark(self, _):
        self._after_mark()

    def _duplicate(self, _):
        self._stack.append(self._stack[-1])

    def _tuple(self, _):
        self._stack.append(tuple(self._after_mark()))

    def _short_tuple(self, count):
        if len(self._stack) < count:
            raise ValueError("a tuple of more than there is")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _list(self, _):
        self._stack.append(self._after_mark())

    def _dict(self, _):
        items = self._after_mark()
        self._stack.append({})
        self._set_items(items)

    def _frozenset(self, _):
        self._stack.append(frozenset(map(_key, self._after_mark())))

    def _top(self, kind):
        if not isinstance(self._stack[-1], kind):
            raise ValueError(f"no {kind.__name__} to add to")
        return self._stack[-1]

    def _append(self, _):
        item = self._stack.pop()
        self._top(list).append(item)

    def _appends(self, _):
        items = self._after_mark()
        self._top(list).extend(items)

    def _set_item(self, _):
        value, key = self._stack.pop(), self._stack.pop()
        self._top(dict)[_key(key)] = value

    def _set_items(self, items):
        if len(items) % 2:
            raise ValueError("a key without a value")
        self._top(dict).update(zip(map(_key, items[::2]), items[1::2]))

    def _setitems(self, _):
        self._set_items(self._after_mark())

    def _add_items(self, _):
        items = self._after_mark()
        self._top(set).update(map(_key, items))

    # ---- memory

    def _put(self, place):
        self._memo[place] = self._stack[-1]

    def _memoize(self, _):
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, place):
        self._stack.append(self._memo[place])

    # ---- names, calls, references

    def _find(self, module, name):
        """The object for `module.name`; a name outside the list is a UserError with that name."""
        if not (type(module) is type(name) is str) or (module, name) not in ALLOWED:
            text = names.short(f"{module}.{name}" if type(module) is type(name) is str else "no text")
            raise UserError(self._subject, f"names {text if text.isprintable() else ascii(text)}",
                            "give a file with tensors and containers only, since other names could run code "
                            "(`convert.py --help` shows how to save only the tensors)")
        return ALLOWED[module, name]

    def _global(self, text):
        self._stack.append(self._find(*text.split(" ", 1)))

    def _stack_global(self, _):
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._find(module, name))

    def _reduce(self, _):
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._called(function, arguments))

    def _inst(self, text):
        self._stack.append(self._called(self._find(*text.split(" ", 1)), tuple(self._after_mark())))

    def _obj(self, _):
        function, *arguments = self._after_mark()
        self._stack.append(self._called(function, tuple(arguments)))

    def _called(self, function, arguments):
        if type(arguments) is not tuple or len(arguments) > 16 or not isinstance(function, Inert):
            raise ValueError("a call of something that is not a function")
        if function in (ORDERED_DICT, SET):
            return self._collected(function, *arguments)
        if function is ENCODE:
            return self._encoded(*arguments)
        if function.call is None:
            raise ValueError(f"{function.value} is called")
        return function.call(*arguments)

    def _collected(self, function, items=()):
        """An OrderedDict or a set, of a list of its members as old protocols have it."""
        if not isinstance(items, (tuple, list)):
            raise ValueError(f"a {function.value} of no list")
        self._pay(CONTAINER * len(items))
        if function is SET:
            return set(map(_key, items))
        if not all(isinstance(item, (tuple, list)) and len(item) == 2 for item in items):
            raise ValueError("a dict of what are no pairs")
        return collections.OrderedDict((_key(key), value) for key, value in items)

    def _encoded(self, text, encoding):
        if type(text) is not str or encoding != "latin1":       # protocol 2's way of writing bytes
            raise ValueError(f"a text in {names.short(str(encoding)) if type(encoding) is str else 'none'}")
        self._pay(len(text))
        return text.encode("latin1")

    def _build(self, _):
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, (Array, DType)):
            if type(state) is not tuple or len(state) > 16:
                raise ValueError("an invalid state")
            target.set_state(state)
        elif not isinstance(target, collections.OrderedDict):   # torch gives state dicts their `_metadata`
            raise ValueError(f"{target.value if isinstance(target, Inert) else 'a value'} is changed")

    def _reference(self, _):
        """The storage of ("storage", kind, key, place, elements[, view]), torch's only kind of reference."""
        identity = self._stack.pop()
        if self._storage is None or type(identity) is not tuple or not 5 <= len(identity) <= 6 \
                or identity[0] != "storage" or not isinstance(identity[1], Inert):
            raise ValueError("a reference out of the file")
        _, kind, key, _, elements, *view = identity
        if any(view):
            raise ValueError("a storage within a storage, as torch wrote before 0.4")
        self._stack.append(self._storage(kind.value, _key(key), elements))

    def _no_reference(self, _):
        raise ValueError("a reference out of the file")


def _table():
    """operation -> (price, method, or None for those that push their argument)."""
    machine = _Machine
    table = dict.fromkeys(("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT",
                           "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE",
                           "SHORT_BINUNICODE", "BINUNICODE8"), (OBJECT, None))
    table |= dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
                           (OBJECT, machine._bytes))
    table |= dict.fromkeys(("PROTO", "FRAME", "STOP"), (0, machine._nothing))
    table |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), (2 * OBJECT, machine._put))
    table |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), (OBJECT, machine._get))
    for name, value in (("NONE", None), ("NEWTRUE", True), ("NEWFALSE", False), ("EMPTY_TUPLE", ())):
        table[name] = OBJECT, lambda self, _, value=value: self._stack.append(value)
    for name, kind in (("EMPTY_LIST", list), ("EMPTY_DICT", dict), ("EMPTY_SET", set)):
        table[name] = CONTAINER, lambda self, _, kind=kind: self._stack.append(kind())
    for count in (1, 2, 3):
        table[f"TUPLE{count}"] = OBJECT, lambda self, _, count=count: self._short_tuple(count)
    for name, method in (("TUPLE", machine._tuple), ("LIST", machine._list), ("DICT", machine._dict),
                         ("FROZENSET", machine._frozenset), ("REDUCE", machine._reduce),
                         ("BUILD", machine._build), ("INST", machine._inst), ("OBJ", machine._obj)):
        table[name] = CONTAINER, method
    for name, method in (("MARK", machine._mark), ("POP", machine._pop), ("POP_MARK", machine._pop_mark),
                         ("DUP", machine._duplicate), ("APPEND", machine._append),
                         ("APPENDS", machine._appends), ("SETITEM", machine._set_item),
                         ("SETITEMS", machine._setitems), ("ADDITEMS", machine._add_items),
                         ("MEMOIZE", machine._memoize), ("GLOBAL", machine._global),
                         ("STACK_GLOBAL", machine._stack_global), ("BINPERSID", machine._reference),
                         ("PERSID", machine._no_reference)):
        table[name] = OBJECT, method
    return table


_OPERATIONS = _table()
