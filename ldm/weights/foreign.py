"""Readers of weights that other programs wrote: pickles of Jittor and numpy, torch's zip and legacy files.

None runs code from the file (see pickles.py), and tensors are read one by one, after the ones wanted are
known, so that optimizer states beside them cost nothing.
"""
import collections
import contextlib
import hashlib
import io
import zipfile

from ldm.errors import UserError
from ldm.weights import names, pickles
from ldm.weights.pickles import Array, Storage, Tensor, element

JITTOR_END = b"HCAJSLHD"                                        # jt.save's last words, after a SHA-1
TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."    # a pickle of torch's magic number
ZIP = b"PK\x03\x04"
KINDS = "own .safetensors, Jittor .pkl, torch .ckpt/.pt/.pth and .safetensors are read"


@contextlib.contextmanager
def readable(path, kind):
    """Turn what damaged files make of a reader into a UserError; `kind` is what the file set out to be."""
    try:
        yield
    except UserError:
        raise
    except OSError as e:
        raise UserError(path, f"cannot be read ({e.strerror or e})", "a readable file of weights is needed")
    except Exception as e:              # the bytes are anybody's: parsers may fail on them in any way
        reason = " ".join(str(e).split()) or type(e).__name__
        raise UserError(path, f"is truncated or damaged, or no {kind} of weights ({reason})", KINDS) from e


def read(path, container=None):
    """Yield (name, array, dtype name) for each tensor of the weights in `path`, in the file's order.

    container: the dotted path of keys to the weights, such as "ema" or "model.state_dict", where a file
    holds several sets; by default the only dict of tensors under the keys of names.CONTAINERS, or the
    file's own top.
    """
    with open(path, "rb") as file:
        head = file.read(len(TORCH_LEGACY))
        file.seek(0)
        if head.startswith(ZIP):
            kind, reader = "torch zip file", _read_zip
        elif head == TORCH_LEGACY:
            kind, reader = "legacy torch file", _read_legacy
        elif _is_pickle(file, head):
            kind, reader = "pickle", _read_pickle
        else:
            raise UserError(path, "is no file of weights", KINDS)
        with readable(path, kind):
            weights = select(reader(file, path), path, container)
        while weights:                                          # popped, so that what is read can be freed
            name, tensor = weights.popitem(last=False)
            with readable(path, kind):
                item = (name, *tensor.read())
            yield item


def _is_pickle(file, head):
    """Whether the file begins and, where that tells too little, before protocol 2, ends as a pickle does."""
    if head[:1] == b"\x80":
        return head[1:2] <= b"\x05"
    file.seek(max(0, file.seek(0, 2) - len(JITTOR_END)))
    end = file.read()
    file.seek(0)
    return head[:1] in b"(]}c" and end.endswith((b".", JITTOR_END))


def _read_pickle(file, path):
    """The tree of a plain pickle, or of one that Jittor ended with its checksum."""
    end_of_pickle = size = file.seek(0, 2)
    tail = len(JITTOR_END) + hashlib.sha1().digest_size
    file.seek(max(0, size - tail))
    end = file.read()
    file.seek(0)
    if size > tail and end.endswith(JITTOR_END):
        digest, rest = hashlib.sha1(), size - tail
        end_of_pickle = rest
        while rest:
            piece = file.read(min(rest, 1 << 20))
            digest.update(piece)
            rest -= len(piece)
        if digest.digest() != end[:-len(JITTOR_END)]:
            raise ValueError("its checksum does not match its bytes")
        file.seek(0)
    tree = pickles.load(file, path)
    if file.tell() != end_of_pickle:
        raise ValueError(f"it ends at byte {file.tell()} of {end_of_pickle}")
    return tree


def _storages(read_bytes):
    """A maker of storages, one a key, as pickles.load wants it; `read_bytes(storage)` fetches their bytes."""
    made = {}

    def storage(dtype, key, elements):
        if type(elements) is not int or elements < 0 or type(key) not in (str, int):
            raise ValueError("a storage of impossible size")
        if key not in made:
            made[key] = Storage(key, dtype, elements * element(dtype).itemsize, read_bytes)
        return made[key]
    return storage


def _keep_last(read_bytes):
    """`read_bytes` that remembers its last result, for tensors that share a storage."""
    last = [None, b""]

    def read(storage):
        if last[0] is not storage:
            last[:] = storage, read_bytes(storage)
            if len(last[1]) != storage.size:
                raise ValueError(f"storage {storage.key} has {len(last[1])} bytes instead of {storage.size}")
        return last[1]
    return read


def _read_zip(file, path):
    """The tree of a torch zip file: <root>/data.pkl, and a storage in each <root>/data/<key>."""
    archive = zipfile.ZipFile(file)
    found = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise UserError(path, "is a zip file without torch's data.pkl", KINDS)
    root = found[0][:-len("data.pkl")]
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("big-endian numbers")

    def member(name):
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:            # so that nothing is larger than the file
            raise ValueError(f"{name} is compressed, which torch does not do")
        return archive.read(info)

    storages = _storages(_keep_last(lambda storage: member(f"{root}data/{storage.key}")))
    return pickles.load(io.BytesIO(member(found[0])), path, storages)


def _read_legacy(file, path):
    """The tree of a file in torch's format before 1.6.

    It is five pickles (magic, version, system, tree, keys), then the storages in the order of the keys, each
    with its number of elements before it.
    """
    places = {}

    def read_bytes(storage):
        file.seek(places[storage.key])
        return file.read(storage.size)

    made = {}
    storage = _storages(_keep_last(read_bytes))

    def noted(dtype, key, elements):
        made[key] = storage(dtype, key, elements)
        return made[key]

    magic, version, system = (pickles.load(file, path) for _ in range(3))
    if version != 1001 or not system["little_endian"]:
        raise ValueError("another version, or big-endian numbers")
    tree = pickles.load(file, path, noted)
    for key in pickles.load(file, path):
        itemsize = element(made[key].dtype).itemsize
        elements = int.from_bytes(file.read(8), "little")
        if elements * itemsize != made[key].size:
            raise ValueError(f"storage {key} has {elements} elements instead of {made[key].size // itemsize}")
        places[key] = file.tell()
        file.seek(made[key].size, 1)
    return tree


def _holds_weights(tree):
    """Whether a dict has tensors under its own keys; lone numbers, as in a log, do not make weights."""
    return isinstance(tree, dict) and any(isinstance(value, (Array, Tensor)) and tuple(value.shape)
                                          for value in tree.values())


def _sets(tree, place=""):
    """(dotted place, dict) of every dict of tensors at the top or under the keys of names.CONTAINERS."""
    if _holds_weights(tree):
        yield place, tree
    for key in names.CONTAINERS:
        if isinstance(tree, dict) and isinstance(tree.get(key), dict):
            yield from _sets(tree[key], f"{place}.{key}".lstrip("."))


def _at(tree, container, path):
    """The value under the dotted keys `container`."""
    for key in container.split("."):
        if not isinstance(tree, dict) or key not in tree:
            raise UserError(path, f"has no '{container}'", f"keys are {_keys(tree)}")
        tree = tree[key]
    return tree


def _keys(tree):
    """The keys of `tree` as a text of bounded length."""
    if not isinstance(tree, dict):
        return f"none in a {type(tree).__name__.lower()}"
    return ", ".join(str(key)[:40] for key in list(tree)[:10]) + (", ..." if len(tree) > 10 else "")


def select(tree, path, container=None):
    """The named tensors of `tree`, name -> Array or Tensor, without plain values beside them (an epoch).

    No weights, or several sets of which `container` chooses none, are a UserError.
    """
    sets = [(container, _at(tree, container, path))] if container else list(_sets(tree))
    if len(sets) > 1:
        places = " and ".join(f"'{place}'" if place else "the top" for place, _ in sets)
        raise UserError(path, f"holds several sets of weights, at {places}", "choose one as the container")
    if not sets or not _holds_weights(sets[0][1]):
        raise UserError(path, f"holds no named tensors (keys are {_keys(tree)})",
                        f"a dict of tensors is needed, alone or under {', '.join(names.CONTAINERS)}")
    weights = collections.OrderedDict((name, value) for name, value in sets[0][1].items()
                                      if isinstance(value, (Array, Tensor)))
    if not all(isinstance(name, str) for name in weights):
        raise UserError(path, "holds tensors under keys that are no names", "names of parameters are needed")
    return weights
