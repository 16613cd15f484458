"""Files are read only where files are, and written so that nothing planted beside them is followed."""
import os
import socket
import stat

import pytest

from ldm import files
from ldm.errors import UserError
from ldm.training.run import checkpoints, jsonl


@pytest.fixture
def odd(tmp_path):
    """Things in a folder that are no files, by name."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    place = os.getcwd()
    os.chdir(tmp_path)                              # a socket's path has 107 bytes at most
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    os.chdir(place)
    (tmp_path / "to_device").symlink_to("/dev/zero")
    yield tmp_path
    server.close()


@pytest.mark.parametrize("name, word", [
    ("pipe", "FIFO"), ("folder", "folder"), ("socket", "cannot be read"), ("to_device", "device"),
    ("/dev/zero", "device"), ("none", "No such file"), ("x" * 300, "File name too long"),
    ("a\0b", "cannot be read"), ("\ud800", "cannot be read"),
])
def test_what_is_no_file_is_not_read(odd, name, word):
    with pytest.raises(UserError, match=word):
        files.sha256(odd / name)


def test_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        assert files.sha256(tmp_path / name, 64).startswith("ba7816bf8f01cfea")
    assert len(files.sha256(tmp_path / "a")) == 16


@pytest.mark.parametrize("name", ["pipe", "folder", "socket", "/dev/null", "", "/", ".", "..", "x" * 300,
                                  "new/", "a\0b"])
def test_what_is_no_file_is_not_replaced(odd, name):
    before = sorted(os.listdir(odd))
    with pytest.raises(UserError):
        with files.replacing(f"{odd}/{name}" if name not in ("", ".", "/dev/null", "/") else name):
            raise AssertionError("the work was begun")
    assert sorted(os.listdir(odd)) == before and stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_is_replaced_and_what_it_leads_to_is_kept(tmp_path):
    (tmp_path / "victim").write_text("old")
    (tmp_path / "link").symlink_to("victim")
    with files.replacing(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "victim").read_text() == "old" and (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_temporary_names_are_new_each_time_and_as_open_to_others_as_any_file(tmp_path, umask):
    names, before = set(), os.umask(umask)
    try:
        for name in ["a.png"] * 3 + ["no_suffix", "é" * 126 + ".x", "b." + "s" * 250]:
            with files.replacing(tmp_path / name) as temporary:
                assert os.listdir(tmp_path).count(temporary.name) and not temporary.stat().st_size
                names.add(temporary.name)
                temporary.write_text("x")
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask
    finally:
        os.umask(before)
    assert len(names) == 6 and not names & set(os.listdir(tmp_path))


def test_a_temporary_name_that_was_planted_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("old")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 16)
    for planted in (".a.0000000000000000.tmp.png", ".probe.0000000000000000"):
        (tmp_path / planted).symlink_to("victim")
    with pytest.raises(UserError, match="File exists"):
        with files.replacing(tmp_path / "a.png") as temporary:
            temporary.write_text("new")
    with pytest.raises(UserError):
        files.check_writable(tmp_path)
    assert (tmp_path / "victim").read_text() == "old"


def test_locks_and_logs_follow_no_link_and_empty_no_file(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("old")
    run = tmp_path / "run"
    run.mkdir()
    for name in (".lock", "log.jsonl"):
        (run / name).symlink_to(victim)
    with pytest.raises(UserError, match="cannot be used as a lock"), files.locked(run):
        pass
    with pytest.raises(UserError, match="log.jsonl: cannot be written"):
        jsonl.append(run / "log.jsonl", {"step": 1})
    for name in (".lock", "log.jsonl"):
        (run / name).unlink()
    os.link(victim, run / ".lock")                  # a second name of the same file
    with files.locked(run):
        pass
    assert victim.read_text() == "old"
    os.mkfifo(run / "log.jsonl")
    with pytest.raises(UserError, match="FIFO"):
        jsonl.read(run / "log.jsonl")
    with pytest.raises(UserError, match="log.jsonl: cannot be written"):
        jsonl.append(run / "log.jsonl", {"step": 1})


def test_half_files_are_removed_and_nothing_else(tmp_path):
    for name in (".state-4.1.tmp.safetensors", ".a.0123456789abcdef.tmp.png", ".x.ff.tmp", ".mine.tmp.png",
                 "a.1.tmp.png", ".tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".d.1.tmp.x").mkdir()
    with files.locked(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [".d.1.tmp.x", ".lock", ".mine.tmp.png", ".tmp", "a.1.tmp.png"]


@pytest.mark.parametrize("name", ["file", "pipe", "file/below"])
def test_a_folder_to_write_in_is_a_folder(odd, name):
    (odd / "file").touch()
    with pytest.raises(UserError, match="not a folder|cannot be written"):
        files.check_writable(odd / name)


def test_a_log_leads_to_no_file_outside_of_its_run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for path in (tmp_path / "ema-0000001.safetensors", run / "ema-0000002.safetensors", run / "other"):
        path.touch()
    for step, name in enumerate(["../ema-0000001.safetensors", "other", None, 7, "ema-0000002.safetensors"]):
        jsonl.append(run / checkpoints.VALIDATION, {"step": step, "file": name, "loss": 1.0})
    jsonl.append(run / checkpoints.VALIDATION, {"step": 9, "file": "ema-0000002.safetensors", "loss": "x"})
    assert [line["step"] for line in checkpoints.ranked(run, "loss")] == [4]
