"""Hostile files of weights ask for no more time and memory than their size warrants, and are told in a line.

All are read in one child process that has little memory and a clock: what hangs, grows or dies is red.
"""
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT

from ldm.weights import read_state

pytestmark = pytest.mark.process
MEMORY, SECONDS = 1 << 30, 10               # seconds of a processor, so that a busy machine changes nothing
READ = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from ldm.errors import UserError
from ldm.weights import check, read_state
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
for path in sys.argv[1:]:
    for read in (read_state, lambda path: check(path, {{"w": (2,)}})):
        signal.setitimer(signal.ITIMER_PROF, {SECONDS})
        try:
            read(path)
            print("read", flush=True)
        except UserError as e:
            print(str(e).replace(chr(10), "<newline>"), flush=True)
"""


def tuples(depth, width=2):
    """Code that leaves t0 = (), t1 = (t0, t0) ... on the stack: few bytes, 2 ** depth parts."""
    return b")" + b"".join(b"q%c" % 0 + b"h%c" % 0 * (width - 1) + {2: b"\x86", 3: b"\x87"}[width]
                           for _ in range(depth))


def pickled(code):
    return b"\x80\x04" + code + b"."


def zipped(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members:
            archive.writestr(name, data, method if isinstance(data, bytes) and len(data) > 100 else 0)
    return file.getvalue()


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one_place(count, size):
    return {f"t{i}": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]} for i in range(count)}


def many_names(count, data):
    """One array of numpy under many names."""
    array = np.frombuffer(data, np.float16)
    return pickle.dumps({f"t{i}": array for i in range(count)}, 4)


def torch_storage(elements, tensors):
    """data.pkl with `tensors` (name -> offset, shape, strides) on one storage "0" of bytes."""
    def number(n):
        return b"J" + struct.pack("<i", n)
    code = b"}("
    for name, (offset, shape, strides) in tensors.items():
        code += b"X" + struct.pack("<I", len(name)) + name.encode() + b"ctorch._utils\n_rebuild_tensor_v2\n("
        code += b"(X\7\0\0\0storagectorch\nByteStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpu"
        code += number(elements) + b"tQ"
        code += number(offset) + b"(" + b"".join(map(number, shape)) + b"t("
        code += b"".join(map(number, strides)) + b"t\x89N" + b"tR"
    return b"\x80\x02" + code + b"u."


U8 = {"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}
LONG = b"\x8b" + struct.pack("<i", 200_000) + b"\x7f" * 200_000         # a number of 1.6 million bits
BOMBS = {
    "tuples_as_a_key": (pickled(b"}" + tuples(60) + b"K\1s"), "tuple as a key"),
    "tuples_in_a_set": (pickled(b"\x8f(" + tuples(60) + b"\x90"), "tuple as a key"),
    "tuples_in_a_frozenset": (pickled(b"(" + tuples(60) + b"\x91"), "tuple as a key"),
    "tuples_in_an_old_set": (pickled(b"cbuiltins\nset\n](" + tuples(60) + b"e\x85R"), "tuple as a key"),
    "tuples_in_an_ordered_dict": (pickled(b"ccollections\nOrderedDict\n](" + tuples(60) + b"K\1\x86e\x85R"),
                                  "tuple as a key"),
    "deep_tuple_as_a_key": (pickled(b"}" + b")" + b"\x85" * 1_000_000 + b"K\1s"), "warrants|as a key"),
    "deep_tuple_of_tuples": (pickled(b")" + b"\x85" * 900_000 + b"}s"), "damaged"),
    "deep_lists": (pickled(b"]" * 50_000 + b"a" * 49_999), "no named tensors"),
    "many_sets": (pickled(b"\x8f" * 1_000_000), "warrants"),
    "many_lists": (pickled(b"(" + b"]" * 1_000_000 + b"l"), "warrants"),
    "many_marks": (pickled(b"(" * 1_000_000), "warrants"),
    "much_memory": (pickled(b"]" + b"\x94" * 1_000_000), "warrants"),
    "copies_of_a_list": (pickled(b"](" + b"N" * 100_000 + b"eq\0" + b"0ctorch\nSize\nh\0\x85R" * 100_000),
                         "Size|warrants"),
    "copies_in_sets": (pickled(b"](" + b"K\1" * 100_000 + b"eq\0" + b"0cbuiltins\nset\nh\0\x85R" * 100_000),
                       "warrants"),
    "copies_of_a_text": (pickled(b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\0"
                                 + b"0c_codecs\nencode\nh\0\x8c\6latin1\x86R" * 5000), "warrants"),
    "a_long_number_as_a_key": (pickled(b"}" + LONG + b"q\0" + b"0h\0" * 9 + b"K\1s"), "31 bits"),
    "numbers_of_one_hash": (pickled(b"}(" + b"".join(
        b"\x8a\x0a" + (i * (2 ** 61 - 1)).to_bytes(10, "little") + b"N" for i in range(1, 30_000)) + b"u"),
        "31 bits"),
    "a_long_text_as_a_key": (pickled(b"}X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"K\1s"),
                             "1048576 letters"),
    "a_dict_in_itself": (pickled(b"}q\0X\5\0\0\0modelh\0s"), "no named tensors"),
    "dicts_in_all_containers": (pickled(b"}q\0" + b"".join(
        b"}(X\5\0\0\0modelh\0X\3\0\0\0emah\0X\6\0\0\0paramsh\0uq\0" for _ in range(60))), "no named tensors"),
    "a_claim_of_bytes": (b"\x80\x05\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "damaged"),
    "a_claim_of_text": (b"\x80\x05\x8d" + struct.pack("<Q", 1 << 62) + b"x.", "damaged"),
    "a_claim_of_a_list": (pickled(b"(" + LONG + b"t"), "no named tensors"),
    "digits": (b"(lp0\nI" + b"9" * 1_000_000 + b"\n.", "damaged"),
    "a_shape_of_shapes": (pickled(b"cnumpy.core.multiarray\n_reconstruct\n)R(K\1" + tuples(40)
                                  + b"cnumpy\ndtype\nX\2\0\0\0f4\x85R\x89C\0tb"), "shape"),
    "letters_of_a_dtype": (pickled(b"cnumpy\ndtype\n" + tuples(40) + b"\x85R"), "dtype"),
    "an_encoding": (pickled(b"c_codecs\nencode\nX\1\0\0\0a" + tuples(40) + b"\x86R"), "damaged"),
    "one_array_of_many_names": (many_names(5000, bytes(1 << 20)), "5000 tensors"),
    "one_storage_of_many_tensors": (zipped([
        ("a/data.pkl", torch_storage(1 << 20, {f"t{i}": (0, (1 << 20,), (1,)) for i in range(5000)})),
        ("a/data/0", bytes(1 << 20))]), "5000 tensors"),
    "expanded": (zipped([("a/data.pkl", torch_storage(1, {"t": (0, (1 << 30,), (0,))})), ("a/data/0", b"1")]),
                 "1 tensors of 1.07 GB"),
    "many_expanded": (zipped([("a/data.pkl", torch_storage(1, {f"t{i}": (0, (1 << 27,), (0,))
                                                               for i in range(100)})), ("a/data/0", b"1")]),
                      "100 tensors"),
    "huge_sizes": (zipped([("a/data.pkl", torch_storage(1, {"t": (0, (2 ** 31 - 1,) * 60, (0,) * 60)})),
                           ("a/data/0", b"1")]), "shape"),
    "byteorder": (zipped([("a/data.pkl", b"\x80\x02}."), ("a/byteorder", bytes(1 << 28))], zipfile.ZIP_BZIP2),
                  "compressed"),
    "tree": (zipped([("a/data.pkl", b"\x80\x02}." + bytes(1 << 28))], zipfile.ZIP_DEFLATED), "compressed"),
    "numbers": (zipped([("a/data.pkl", torch_storage(1 << 28, {"t": (0, (1 << 28,), (1,))})),
                        ("a/data/0", bytes(1 << 28))], zipfile.ZIP_DEFLATED), "compressed|tensors of"),
    "members": (zipped([(f"a/{i:0100}", b"") for i in range(130_000)]), "too many members"),
    "overlapping": (safetensors(one_place(8000, 1 << 20), bytes(1 << 20)), "begin"),
    "a_hole": (safetensors({"w": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}, bytes(8)), "begin"),
    "a_tail": (safetensors(U8, bytes(8)), "no tensor"),
    "a_long_header": (struct.pack("<Q", 1 << 30) + b"{" + bytes(100), "not a file of weights"),
    "a_deep_header": (safetensors(b'{"w":' + b"[" * 1_000_000), "damaged"),
    "a_wide_header": (safetensors(b'{"w":[' + b"[]," * 1_000_000 + b"[]]}"), "damaged"),
    "a_name_twice": (safetensors(b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                                 b'"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"ab"),
                     "twice"),
    "a_shape_of_floats": (safetensors({"w": U8["w"] | {"shape": [4.0]}}, bytes(4)), "shape"),
    "a_shape_of_bools": (safetensors({"w": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"a"),
                         "shape"),
    "huge_shapes": (safetensors({"w": U8["w"] | {"shape": [2 ** 62, 2 ** 62, 0]}}), "shape"),
    "a_config_of_another_kind": (safetensors({
        "__metadata__": {"format": "iidm", "version": "1", "config": "[1]"},
        "w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"a"), "config"),
    "no_names": (safetensors(b"{" + b" " * 100 + b"}"), "no tensors"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """name -> what reading and checking the file said, two lines."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (data, _) in BOMBS.items():
        (folder / name).write_bytes(data)
    said, rest = {}, list(BOMBS)
    while rest:
        done = subprocess.run([sys.executable, "-c", READ, *(folder / name for name in rest)],
                              capture_output=True, text=True)
        lines = done.stdout.splitlines()
        said.update({name: lines[2 * i:2 * i + 2] for i, name in enumerate(rest) if len(lines) >= 2 * i + 2})
        dead = len(lines) // 2
        if dead < len(rest):
            said[rest[dead]] = lines[2 * dead:] + [f"status {done.returncode} {done.stderr[-300:]}"]
        rest = rest[dead + 1:]
    return said


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_a_line(outcomes, name):
    read, checked = outcomes[name]
    assert f"/{name}: " in read and re.search(BOMBS[name][1], read), read
    assert checked == read and len(read) < 600


def test_what_shares_memory_as_real_files_do_is_read(tmp_path):
    """Tied weights, and views of one flat storage."""
    array = np.ones((100, 1000), np.float32)
    (tmp_path / "tied.pkl").write_bytes(pickle.dumps({"a": array, "b": array, "c": array[0]}, 4))
    state, _ = read_state(tmp_path / "tied.pkl")
    assert state["a"].shape == state["b"].shape == (100, 1000)
    flat = {f"t{i}": (i * 1000, (10, 100), (100, 1)) for i in range(100)}
    (tmp_path / "flat.pt").write_bytes(zipped([("a/data.pkl", torch_storage(100_000, flat)),
                                               ("a/data/0", bytes(range(250)) * 400)]))
    state, _ = read_state(tmp_path / "flat.pt")
    assert len(state) == 100 and state["t3"].ravel()[:3].tolist() == [0, 1, 2]
