"""Readers of weights that other programs wrote: pickles of Jittor and numpy, torch's zip and legacy files.

None runs code from the file (see pickles.py), and tensors are read one by one, after the ones wanted are
known, so that optimizer states beside them cost nothing. Time and memory are bounded by the file's own size.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from typing import Any, BinaryIO, Iterator

from ldm.errors import UserError
from ldm.files import Name
from ldm.weights import names, pickles, safetensors_file
from ldm.weights.tensors import Array, Storage, Tensor, checked_sizes, element, stored_bytes

JITTOR_END = b"HCAJSLHD"                                        # jt.save's last words, after a SHA-1
TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."    # a pickle of torch's magic number
ZIP = b"PK\x03\x04"
KINDS = "give a .safetensors file, a Jittor .pkl, or a torch .ckpt, .pt or .pth"
OTHERS = (                                  # first bytes of other files, what they are, what to do
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself", "`git lfs pull` gets that"),
    (b"\x1f\x8b", "packed by gzip", "unpack it: `gunzip` or `tar xzf`"),
    (b"BZh", "packed by bzip2", "unpack it"), (b"\xfd7zXZ", "packed by xz", "unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"), (b"Rar!", "a rar archive", "unpack it"),
    (b"\x93NUMPY", "one array of numpy without a name", KINDS),
    (b"\x89HDF", "an HDF5 file, as Keras writes", KINDS),
    (b"\x89PNG", "a picture", KINDS), (b"\xff\xd8\xff", "a picture", KINDS),
    (b"PK\x05\x06", "an empty zip file", KINDS),
)
SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".safetensors")
DIRECTORY_LIMIT = 16 << 20                  # bytes of a zip file's list of members: some 200,000 of them
SHARED = 4                                  # tensors may share memory, up to so many times the file's size
SLACK = 1 << 20                             # bytes more than that in small files
DEPTH = 5                                   # depth of nested dicts that are searched for weights


@contextlib.contextmanager
def readable(path: Name, kind: str) -> Iterator[None]:
    """A context that turns errors of a reader into a UserError about `path`. kind: the format that was
    detected."""
    try:
        yield
    except UserError:
        raise
    except OSError as e:
        raise UserError(path, f"cannot be read ({e.strerror or e})",
                        "give a readable file of weights") from e
    except MemoryError as e:
        raise UserError(path, "does not fit into memory", "use a machine with more memory") from e
    except Exception as e:              # parsers may fail in any way on damaged or malicious bytes
        reason = names.short(" ".join(str(e).split()) or type(e).__name__, 160)
        raise UserError(path, f"is truncated or damaged, or not a {kind} of weights ({reason})", KINDS) from e


def tensors(file: BinaryIO, path: Name, container: str | None = None) -> tuple[str, dict[str, Any]]:
    """(kind of the file, name -> tensor) of the weights in `file`, without their numbers.

    container: the dotted path of keys to the weights, such as "ema" or "model.state_dict", where a file
    holds several sets; by default the only dict of tensors.
    """
    head = file.read(512)
    file.seek(0)
    if head.startswith(ZIP):
        kind, reader = "torch zip file", _read_zip
    elif head.startswith(TORCH_LEGACY):
        kind, reader = "legacy torch file", _read_legacy
    elif _is_pickle(file, head):
        kind, reader = "pickle", _read_pickle
    else:
        _refuse_by_name(path, head)
        raise UserError(path, "is not a file of weights", KINDS)
    with readable(path, kind):
        found = select(reader(file, path), path, container)
        size = os.fstat(file.fileno()).st_size
        total = sum(map(stored_bytes, found.values()))
        if total > SHARED * size + SLACK:
            raise UserError(path, f"holds {len(found)} tensors of {total / 1e9:.3g} GB in a file of "
                            f"{size / 1e9:.3g} GB", "give a file whose tensors share less memory")
    return kind, found


def refuse_other_beginning(path: Name, head: bytes) -> None:
    """UserError unless `head`, the first bytes of a file, are those of published weights or of a zip file.

    This is the first check of a download, which may be a web page, an archive or an error text. Pickles of
    protocols 0 and 1, which are plain text, are not accepted here.
    """
    pickled = head[:1] == b"\x80" and b"\x02" <= head[1:2] <= b"\x05"
    if not (pickled or head.startswith(ZIP) or safetensors_file.is_one(head)):
        _refuse_by_name(path, head)
        raise UserError(path, "is not a file of weights", KINDS)


def is_page(head: bytes) -> bool:
    """Whether a file that begins with `head` is a web page."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--"))


def _refuse_by_name(path, head):
    """UserError that names the format of `path`, if its first bytes are those of another known format."""
    for start, what, remedy in OTHERS:
        if head.startswith(start):
            raise UserError(path, f"is {what}", remedy)
    if head[257:262] == b"ustar":
        raise UserError(path, "is a tar archive", "unpack it")
    if is_page(head):
        raise UserError(path, "is a web page", "download it again, the file and not the page about it")


def _is_pickle(file, head):
    """Whether the file is a pickle by its first byte or, before protocol 2, by its last bytes."""
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
    """A function that makes one storage per key, for pickles.load; `read_bytes(storage)` reads its bytes. The
    last result is kept, for tensors that share a storage."""
    made, last = {}, [None, b""]

    def read(storage):
        if last[0] is not storage:
            last[:] = None, b""                                 # frees the last one before the next is read
            last[:] = storage, read_bytes(storage)
            if len(last[1]) != storage.size:
                raise ValueError(f"storage {storage.key} has {len(last[1])} bytes instead of {storage.size}")
        return last[1]

    def storage(dtype, key, elements):
        elements, = checked_sizes((elements,), "size of a storage")
        if type(key) not in (str, int):
            raise ValueError("a storage without a name")
        if key not in made:
            made[key] = Storage(key, dtype, elements * element(dtype).itemsize, read)
        return made[key]
    return storage


class _Members(io.BufferedReader):
    """A file for zipfile that limits the size of the list of members, which zipfile reads at once."""
    limit = DIRECTORY_LIMIT

    def read(self, size=-1):
        if self.limit is not None and size > self.limit:
            raise ValueError("a zip file with too many members")
        return super().read(size)


def _read_zip(file, path):
    """The tree of a torch zip file: <root>/data.pkl, and a storage in each <root>/data/<key>."""
    members = _Members(io.FileIO(file.fileno(), closefd=False))
    archive = zipfile.ZipFile(members)
    members.limit = None
    listed = archive.namelist()
    found = [name for name in listed if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        _refuse_zip(path, listed)
    root = found[0][:-len("data.pkl")]
    whole = os.fstat(file.fileno()).st_size         # `file` is not moved: both share one position
    spent = [0]

    def member(name):
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:            # so that nothing is larger than the file
            raise ValueError(f"{names.short(name)} is compressed, which torch does not do")
        spent[0] += info.file_size                      # members may overlap, or be read several times
        if info.file_size > whole or spent[0] > SHARED * whole + SLACK:
            raise ValueError(f"{names.short(name)} is longer than the file")
        return archive.read(info)

    if f"{root}byteorder" in listed and member(f"{root}byteorder") != b"little":
        raise ValueError("big-endian numbers")
    if f"{root}constants.pkl" in listed:
        raise UserError(path, "is a TorchScript program", "save its state_dict() with torch.save")
    storages = _storages(lambda storage: member(f"{root}data/{storage.key}"))

    def storage(dtype, key, elements):
        made = storages(dtype, key, elements)
        length = archive.getinfo(f"{root}data/{key}").file_size
        if made.size != length:
            raise ValueError(f"storage {key} has {length} bytes instead of {made.size}")
        return made
    return pickles.load(io.BytesIO(member(found[0])), path, storage)


def _refuse_zip(path, listed):
    """UserError that describes the content of a zip file that torch did not write."""
    packed = [name for name in listed if name.lower().endswith(SUFFIXES)]
    if listed and all(name.endswith(".npy") for name in listed):
        raise UserError(path, "is an .npz file of numpy", KINDS)
    if packed:
        raise UserError(path, f"is a zip file that holds {names.short(packed[0])}",
                        "unpack it, and give the file that was in it")
    raise UserError(path, "is a zip file without torch's data.pkl", KINDS)


def _read_legacy(file, path):
    """The tree of a file in torch's format before 1.6.

    It is five pickles (magic, version, system, tree, keys), then the storages in the order of the keys, each
    with its number of elements before it.
    """
    places, size, spent = {}, file.seek(0, 2), [0]
    file.seek(0)

    def read_bytes(storage):
        spent[0] += storage.size                                # read again and again: see _read_zip
        if spent[0] > SHARED * size + SLACK:
            raise ValueError("storages that are read in turns")
        file.seek(places[storage.key])
        return file.read(storage.size)

    made = {}
    storage = _storages(read_bytes)

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
        if file.seek(made[key].size, 1) > size:
            raise ValueError(f"storage {key} ends beyond the file")
    return tree


def _tensors_of(tree):
    """The tensors under a dict's own keys, except single numbers, as logs contain them: those are not
    weights."""
    return [value for value in tree.values() if isinstance(value, (Array, Tensor)) and value.shape]


def _sets(tree):
    """{dotted key: dict} of the dicts of tensors in `tree`; "" is the key of the tree itself. Left out are
    states of optimizers and, if there are other sets, dicts of one vector or of integers only, such as the
    state of a random generator or a list of losses."""
    found, seen, level = {}, set(), [("", tree)]
    for _ in range(DEPTH):
        deeper = []
        for place, part in level:
            if not isinstance(part, dict) or id(part) in seen:
                continue
            seen.add(id(part))
            if _tensors_of(part):
                found[place] = part
            deeper += [(f"{place}.{key}".lstrip("."), value) for key, value in part.items()
                       if type(key) is str and isinstance(value, dict)
                       and not key.lower().startswith(names.NO_WEIGHTS)]
        level = deeper
    if len(found) > 1:
        found = {place: part for place, part in found.items() if _like_weights(_tensors_of(part))}
    return found


def _like_weights(parts):
    floats = [part for part in parts if part.kind.startswith(("float", "bfloat"))]
    return len(floats) > 1 or any(len(part.shape) > 1 for part in floats)


def _at(tree, container, path):
    """The value under the dotted keys `container`."""
    for key in container.split("."):
        if not isinstance(tree, dict) or key not in tree:
            raise UserError(path, f"has no '{names.short(container)}'",
                            f"choose one of its keys: {_keys(tree)}")
        tree = tree[key]
    return tree


def _keys(tree):
    """The keys of `tree` as a text of bounded length."""
    if not isinstance(tree, dict):
        return f"none in a {type(tree).__name__.lower()}"
    shown = [names.short(key, 40) if isinstance(key, (str, int)) else type(key).__name__
             for key in list(tree)[:10]]
    return ", ".join(shown) + (f" and {len(tree) - 10} more" if len(tree) > 10 else "")


def select(tree: Any, path: Name, container: str | None = None) -> dict[str, Any]:
    """The named tensors of `tree`, name -> Array or Tensor, without plain values such as an epoch.

    UserError if there are no weights, or several sets and `container` chooses none of them.
    """
    sets = {container: _at(tree, container, path)} if container else _sets(tree)
    if len(sets) > 1:
        places = [f"'{names.short(place)}'" if place else "the top" for place in sets]
        named = names.short(next(place for place in sets if place))
        more = f" and {len(places) - 6} more" if len(places) > 6 else ""
        raise UserError(path, f"holds several sets of weights, at {', '.join(places[:6])}{more}",
                        f"choose one: convert.py and average.py take --container {named}")
    weights = next(iter(sets.values()), None)
    if not isinstance(weights, dict) or not _tensors_of(weights):
        raise UserError(path, f"holds no named tensors (keys are {_keys(tree)})",
                        "give a file with a dict of tensors, which may be inside other dicts")
    weights = {name: value for name, value in weights.items() if isinstance(value, (Array, Tensor))}
    if not all(isinstance(name, str) for name in weights):
        raise UserError(path, "holds tensors under keys that are not texts",
                        "give a file with names of parameters as keys")
    return weights
