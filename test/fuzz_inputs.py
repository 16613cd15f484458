"""Bad inputs for fuzz.py: every function makes one from a random generator, and the same from the same."""
from __future__ import annotations

import io
import json
import os
import pickle
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ESCAPE = "\x1b[31mred"
VALUES = (None, "", [], {}, -1, 0, 1, 0.5, 1.0e30, float("nan"), float("inf"), "x" * 5000, True, ESCAPE,
          [[[]]], 2 ** 70, "1e-5", "\u00b2", {"a": 1}, [1], [0, 0], [-64, 48], "none", "../../x", "a\0b",
          10 ** 5000)
FRAGMENTS = ("!!python/object/apply:os.system ['x']", "&a [*a]", "\t", "\0", "[" * 2000, "{", ": :",
             "2020-99-99", "0b_", "!!int foo", "!!timestamp foo", "\ufeff", "<<: 1", "? [1]\n: 2", ESCAPE,
             "- - -", "%YAML 9", "\ud83d")
NAMES = (b"\xff\xfe\xb4", b"\x1b[31m", b"a\nb", b"-rf", b"x" * 240, "\u00e9".encode(), "e\u0301".encode(),
         b" ", b"overview", b"inference", b"A B;c", b"\xe2\x80\xae", b"\x9b31m", b"%s{}", b"..a", b"con")
OTHER_FILES = (b"", b"<html><body>quota</body></html>", b"version https://git-lfs.github.com/spec/v1\n",
               b"GIF89a" + bytes(20), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n",
               b"\x1f\x8b" + bytes(30), b"\x89PNG\r\n\x1a\n",
               b"\xff\xd8\xff\xe0", b"%PDF-1.4\n", b"PK\x05\x06" + bytes(18), bytes(1000), b"\x80\x04.",
               b"{}", b"[]")


def pick(rng, items):
    """One of `items`."""
    return items[int(rng.integers(len(items)))]


def replace(path: Path, data: bytes) -> None:
    """New bytes under `path`; what other names the old file has keep it."""
    path.unlink()
    path.write_bytes(data)


# ---- any bytes

def bent(rng, data: bytes) -> bytes:
    """`data` flipped, cut, lengthened, zeroed, or another kind of file."""
    way = rng.integers(6)
    data = bytearray(data)
    if way == 0 and data:
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] ^= 1 << int(rng.integers(8))
    elif way == 1 and data:
        del data[int(rng.integers(len(data))):]
    elif way == 2:
        data += rng.bytes(int(rng.integers(1, 100)))
    elif way == 3 and data:
        begin = int(rng.integers(len(data)))
        data[begin:begin + 64] = bytes(len(data[begin:begin + 64]))
    elif way == 4 and data:
        place = int(rng.integers(min(len(data), 400)))                    # headers are the tenderest part
        data[place] = int(rng.integers(256))
    else:
        data = bytearray(pick(rng, OTHER_FILES))
    return bytes(data)


# ---- trees

def places(tree, above=()):
    """The keys to every value in nested dicts and lists."""
    for key, value in (tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield (*above, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*above, key))


def bent_tree(rng, tree):
    """A copy of nested dicts and lists with a value, a key or a level of it changed."""
    tree = pickle.loads(pickle.dumps(tree))
    *above, last = pick(rng, list(places(tree)))
    node = tree
    for key in above:
        node = node[key]
    way = rng.integers(8)
    if way == 0:
        del node[last]
    elif way == 1 and isinstance(node, dict):
        node[pick(rng, ("unknown", ESCAPE, "x" * 3000, 7, None, True))] = node[last]
    else:
        node[last] = pick(rng, VALUES)
    return tree


def bent_text(rng, text: str) -> bytes:
    """A text with something foreign in it."""
    place = int(rng.integers(len(text) + 1))
    return (text[:place] + pick(rng, FRAGMENTS) + text[place:]).encode("utf-8", "surrogatepass")


def bent_document(rng, data: bytes, load, dump, long: bytes) -> bytes:
    """A YAML or JSON file with another tree, foreign text or bent bytes. long: a document with a number that
    is too long for `dump`."""
    way = rng.integers(4)
    if way == 0:
        return bent(rng, data)
    if way == 1:
        return bent_text(rng, data.decode())
    try:
        return dump(bent_tree(rng, load(data))).encode()
    except ValueError:                                                    # 5000 digits
        return long


def bent_yaml(rng, data: bytes) -> bytes:
    """See bent_document."""
    return bent_document(rng, data, yaml.safe_load, lambda tree: yaml.safe_dump(tree, allow_unicode=True),
                         b"image_size: [" + b"9" * 5000 + b", 48]\n")


def bent_json(rng, data: bytes) -> bytes:
    """See bent_document."""
    return bent_document(rng, data, json.loads, json.dumps, b'{"m0.png": ' + b"9" * 5000 + b"}")


# ---- weights

def bent_safetensors(rng, data: bytes) -> bytes:
    """A safetensors file with another header, or bent bytes."""
    if rng.integers(3) == 0:
        return bent(rng, data)
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    way = rng.integers(5)
    name = pick(rng, [key for key in header if key != "__metadata__"])
    if way == 0:
        header[pick(rng, ("new", ESCAPE, "n" * 5000, ""))] = header.pop(name)
    elif way == 1:
        header[name]["shape"] = pick(rng, ([], [-1], [2 ** 62], [1, 2 ** 40], [0], "x", [1.5], None))
    elif way == 2:
        header[name]["data_offsets"] = pick(rng, ([0, 4], [-4, 0], [0, 2 ** 60], [4, 0], [0], None))
    elif way == 3:
        header[name]["dtype"] = pick(rng, ("F64", "F8_E4M3", "I32", "", ESCAPE, 7, None))
    else:
        header = bent_tree(rng, header)
    try:
        text = json.dumps(header).encode()
    except ValueError:
        text = b"{" + b"9" * 5000
    return struct.pack("<Q", len(text)) + text + data[8 + length:]


def bent_pickle(rng, data: bytes) -> bytes:
    """A pickle with operations replaced, put in or left out, without a checksum."""
    data = bytearray(data[:-28] if data.endswith(b"HCAJSLHD") else data)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(2, len(data)))
        code = pick(rng, b"(.012FIJKLMNPQRSTUVX]abcdeghijlopqrstu}\x81\x82\x85\x86\x87\x88\x89\x8a\x8b"
                         b"\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98)")
        data[place:place + int(rng.integers(2))] = bytes([code])
    return bytes(data)


def bent_zip(rng, data: bytes) -> bytes:
    """A torch file with members packed, renamed, left out, doubled or bent; or bent bytes."""
    if rng.integers(4) == 0:
        return bent(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    way, which = rng.integers(5), int(rng.integers(len(members)))
    name, content = members[which]
    if way == 0:
        members[which] = name + "x", content
    elif way == 1:
        del members[which]
    elif way == 2:
        members[which] = name, content * 2 if rng.integers(2) else content[:-1]
    elif way == 3:
        members[which] = name, bent_pickle(rng, content) if name.endswith(".pkl") else bent(rng, content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if way == 4 else zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def bent_weights(rng, data: bytes) -> bytes:
    """A file of weights of any kind, bent in its own way."""
    if data[:2] == b"PK":
        return bent_zip(rng, data)
    if data[:1] == b"\x80":
        return bent_pickle(rng, data) if rng.integers(3) else bent(rng, data)
    return bent_safetensors(rng, data)


# ---- pictures

def bent_picture(rng, data: bytes) -> bytes:
    """A picture of another mode, size, depth or orientation, with other labels, or bent."""
    way = rng.integers(8)
    if way < 3:
        return bent(rng, data)
    image = Image.open(io.BytesIO(data))
    kind, options = image.format, {}
    if way == 3:
        image = image.convert(pick(rng, ("1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "I", "F")))
        kind = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF"}.get(image.mode, "PNG")
    elif way == 4:
        image = image.resize(pick(rng, ((1, 1), (2, 3), (3000, 1), (1, 400), (48, 64), (65, 48), (7, 7))))
    elif way == 5:
        array = np.array(image)
        array.reshape(-1)[:50] = pick(rng, (28, 29, 150, 255))
        image = Image.fromarray(array)
    elif way == 6:
        orientation = int(rng.integers(12))
        options["exif"] = b"Exif\0\0" + struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x112, 3, 1, orientation)
    else:
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        kind = "PNG"
    file = io.BytesIO()
    others = ("TIFF",) if image.mode in ("CMYK", "F", "I") else ("PNG", "TIFF")      # PNG has no such modes
    image.save(file, pick(rng, (kind, kind, *others)), **options)
    return file.getvalue()


# ---- things that are no files

def odd_place(rng, folder: Path) -> str:
    """The path of something below `folder` that is no file to read and no name to write."""
    way = rng.integers(10)
    path = folder / f"odd{way}"
    if way == 0:
        os.mkfifo(path)
    elif way == 1 and not os.geteuid():
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))             # as /dev/zero, but ours to lose
    elif way == 2:
        path.symlink_to(path)
    elif way == 3:
        path.mkdir()
    elif way == 4:
        path.symlink_to("/dev/zero")
    elif way == 5:
        path.write_bytes(pick(rng, OTHER_FILES))
        path.chmod(0)
    elif way == 6:
        return "x" * 300
    elif way == 7:
        return ""
    elif way == 8:
        path.write_bytes(b"")
        return f"{path}/below"
    return str(path)
