"""Files of weights that are broken, of another kind, or made to run code: each a UserError, nothing else."""
import hashlib
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from weight_samples import SAMPLES

from ldm.errors import UserError
from ldm.weights import read_state, save


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_every_truncation_is_told(tmp_path, sample):
    whole = sample.read_bytes()
    # Without all of its 28 bytes of checksum a Jittor file is a plain pickle, whole in itself.
    lengths = set(range(0, len(whole), 7)) | set(range(len(whole) - 40, len(whole)))
    for length in lengths - ({len(whole) - 28} if sample.suffix == ".pkl" else set()):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated|empty|not a file of weights"):
            read_state(tmp_path / "cut")


def test_truncated_safetensors(tmp_path):
    save(tmp_path / "w", {"a": np.ones(9), "b": np.ones((2, 2))}, {"k": 1})
    whole = (tmp_path / "w").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_state(tmp_path / "cut")


@pytest.mark.parametrize("sample, checksum", [*((sample, 0) for sample in SAMPLES), (SAMPLES[2], 28)])
def test_flipped_bytes_raise_nothing_but_user_errors(tmp_path, sample, checksum):
    rng = np.random.default_rng(0)
    whole, refused = sample.read_bytes(), 0
    if sample.suffix == ".pkl" and not checksum:
        whole = whole[:-28]                                 # as a plain pickle
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        (tmp_path / "bent").write_bytes(data)
        try:
            read_state(tmp_path / "bent")
        except UserError:
            refused += 1
    assert refused >= (399 if checksum else 200)            # SHA-1 covers all; elsewhere a number may change


@pytest.mark.parametrize("content, words", [
    (b"", "is empty"), (b"x", "not a file of weights"), (b"config: 1\n" * 20, "not a file of weights"),
    (b"\x89PNG\r\n\x1a\n" + bytes(40), "is a picture"),
    (b"PK\x03\x04" + bytes(60), "truncated or damaged"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0d71\nsize 1\n", "Git LFS.*git lfs pull"),
    (b"<!DOCTYPE html><html><head><title>Google Drive", "web page; download it again"),
    (b"\xef\xbb\xbf\n <HTML>", "web page"), (b"\x1f\x8b\x08" + bytes(40), "gzip; unpack it"),
    (b"\x93NUMPY\1\0" + bytes(40), "one array"), (bytes(257) + b"ustar" + bytes(250), "tar archive"),
    (b"\x80\x04", "truncated or damaged"), (pickle.dumps([1, 2]), "no named tensors"),
    (pickle.dumps({"epoch": 1, "log": {}}), r"no named tensors \(keys are epoch, log\)"),
    (pickle.dumps(np.ones(2)), "no named tensors"),
    (pickle.dumps({3: np.ones(2)}), "keys that are not texts"),
    (pickle.dumps({"a": np.array(["text"])}), "instead of numbers"),
    (pickle.dumps({"a": np.array([1j])}), "instead of numbers"),
])
def test_other_kinds_of_files(tmp_path, content, words):
    (tmp_path / "f.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_state(tmp_path / "f.ckpt")


def test_files_that_are_not_there_or_folders(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, word in ((tmp_path, "folder"), (tmp_path / "none.pkl", "No such file"), ("/dev/zero", "device"),
                       (tmp_path / "pipe", "FIFO"), (tmp_path / ("x" * 300), "too long")):
        with pytest.raises(UserError, match=f"cannot be read.*{word}"):
            read_state(path)
    with zipfile.ZipFile(tmp_path / "vq-f4.zip", "w") as archive:
        archive.writestr("model.ckpt", b"weights")
    with pytest.raises(UserError, match="holds model.ckpt; unpack it"):
        read_state(tmp_path / "vq-f4.zip")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    with pytest.raises(UserError, match="an .npz file of numpy"):
        read_state(tmp_path / "a.npz")


class Call:
    """Pickles as a call of `function` with `arguments`."""
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def as_pickle(data):
    return data


def as_jittor(data):
    return data + hashlib.sha1(data).digest() + b"HCAJSLHD"


def as_zip(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", data)
    return file.getvalue()


def as_legacy(data):
    return SAMPLES[1].read_bytes()[:137] + data             # after the magic, version and system pickles


@pytest.mark.parametrize("wrap", [as_pickle, as_jittor, as_zip, as_legacy])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, wrap, protocol):
    mark = tmp_path / "ran"
    tree = {"w": np.ones(2), "x": Call(os.system, f"touch {mark}")}
    (tmp_path / "evil").write_bytes(wrap(pickle.dumps(tree, protocol)))
    with pytest.raises(UserError, match=f"evil: names {os.system.__module__}.system; give a file with"):
        read_state(tmp_path / "evil")
    assert not mark.exists()


@pytest.mark.parametrize("code, words", [
    (b"cos\nsystem\n(S'touch ran'\ntR.", "names os.system"),
    (b"\x80\x02cbuiltins\neval\n(X\x01\x00\x00\x001tR.", "names builtins.eval"),
    (b"\x80\x02cnumpy.core.multiarray\n__loader__.\n.", "names numpy.core.multiarray.__loader__"),
    (b"\x80\x04\x8c\x06jittor\x8c\x12jittor_core.Var.__\x93.", "names jittor.jittor_core.Var.__"),
    (b"\x80\x02cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n)R.",
     "ModelCheckpoint is called"),
    (b"\x80\x02cpytorch_lightning.callbacks\nModelCheckpoint\n.",
     "names pytorch_lightning.callbacks.ModelCheckpoint"),
    (b"\x80\x02ctorch.storage\n_load_from_bytes\n.", "names torch.storage._load_from_bytes"),
    (b"(ibuiltins\nexec\n(S'1'\ntR.", "names builtins.exec"),
    (b"\x80\x02cos\n\x1b[31m\n.", r"names 'os.\\x1b\[31m'"),
    (b"\x80\x02\x82\x01.", "truncated or damaged"),                      # a code of the extension registry
    (b"Pmodule\n.", "not a file of weights"),
    (b"\x80\x02X\x01\x00\x00\x00aQ.", "a reference out of the file"),
    (b"\x80\x02cnumpy\nndarray\n)R.", "numpy.ndarray is called"),
    (b"\x80\x02cnumpy\nndarray\n)\x81.", "truncated or damaged"),                       # ndarray.__new__
    (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x05\x00\x00\x00_callK\x01s\x86b.", "is changed"),
    (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x05\x00\x00\x00valueK\x01sb.", "truncated or damaged"),
    (b"\x80\x02}r\xff\xff\xff\x7f.", "no named tensors"),      # the memory's place, not its size
    (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "truncated or damaged"),
    (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\0))\x89N}X\3\0\0\0neg\x88stR.",
     "sign or conjugate pending"),
    (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00idna\x86R.", "a text in idna"),
])
def test_hand_made_pickles(tmp_path, monkeypatch, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(code)
    with pytest.raises(UserError, match=words):
        read_state("evil.pkl")
    assert os.listdir(tmp_path) == ["evil.pkl"]
    read_state(SAMPLES[0])                                  # and it left the reader as it was


def test_compvis_callback_as_a_key_is_read(tmp_path):
    """{"state_dict": {"w": ...}, "callbacks": {ModelCheckpoint: 1}}, as in the published autoencoders."""
    tree = pickle.dumps({"state_dict": {"w": np.ones(2, np.float32)}}, 2)[:-1]      # without the final stop
    key = b"X\x09\0\0\0callbacks}cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\nK\x01ss."
    (tmp_path / "w.pkl").write_bytes(tree + key)
    state, _ = read_state(tmp_path / "w.pkl")
    assert list(state) == ["w"] and state["w"].sum() == 2


def test_a_storage_within_a_storage_is_refused(tmp_path):
    code = (b"\x80\x02(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpuK\1"
            b"(X\1\0\0\0bK\0K\1ttQ.")
    (tmp_path / "w.pt").write_bytes(as_legacy(code))
    with pytest.raises(UserError, match="a storage within a storage"):
        read_state(tmp_path / "w.pt")


def test_a_tensor_stays_within_its_storage(tmp_path):
    data = SAMPLES[1].read_bytes()
    assert data.count(b"K\x06K\x04\x86") == 1        # the transposed tensor's shape, 6 x 4 of 24 numbers
    (tmp_path / "w.pt").write_bytes(data.replace(b"K\x06K\x04\x86", b"K\x07K\x04\x86"))
    with pytest.raises(UserError, match="reaches beyond its storage"):
        read_state(tmp_path / "w.pt")


def test_a_torch_file_cannot_fill_more_memory_than_it_is_long(tmp_path):
    with zipfile.ZipFile(SAMPLES[0]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = members["lightning/data.pkl"]
    expanded = b"K\x02K\x03\x86"                           # the shape (2, 3) of the expanded tensor
    place = pickled.rindex(expanded)
    huge = b"J\0\0\0\x40K\x03\x86"                         # (2 ** 30, 3)
    members["lightning/data.pkl"] = pickled[:place] + huge + pickled[place + len(expanded):]
    for name, method, words in (("huge", zipfile.ZIP_STORED, "20 tensors of 12.9 GB in a file of 6"),
                                ("deflated", zipfile.ZIP_DEFLATED, "is compressed")):
        with zipfile.ZipFile(tmp_path / name, "w", method) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        with pytest.raises(UserError, match=words):
            read_state(tmp_path / name)


@pytest.mark.parametrize("bad, many", [(np.nan, 2), (-np.inf, 1)])
def test_a_number_that_is_none_is_told_with_its_tensor(tmp_path, bad, many):
    state = {"fine": np.ones(3), "conv.weight": np.array([[1.0] * (4 - many) + [bad] * many])}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(state))
    safetensors.numpy.save_file(state, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.pkl", tmp_path / "w.safetensors"):
        with pytest.raises(UserError, match=f"{many} of 4 numbers of 'conv.weight' are NaN or infinite"):
            read_state(path)
