"""Training folders are checked in one go; reading ahead gives what reading does. No Jittor."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from tiny import make_pairs

from ldm.datasets import landscape
from ldm.datasets.reader import Reader
from ldm.errors import UserError

SIZE = (64, 48)


@pytest.fixture
def data(tmp_path):
    """Six good pairs in the contest's form."""
    made = make_pairs(tmp_path / "in", count=6)
    root = tmp_path / "data/train_resized"
    root.mkdir(parents=True)
    (made / "masks").rename(root / "labels")
    (made / "references").rename(root / "imgs")
    return tmp_path / "data"


def test_good_pairs_are_all_there(data):
    pairs = landscape.training_pairs(data, SIZE)
    assert [(a.name, b.name) for a, b in pairs] == [(f"m{i}.jpg", f"m{i}.png") for i in range(6)]


def test_every_fault_is_listed_in_one_go(data):
    root = data / "train_resized"
    (root / "imgs/m0.jpg").unlink()                                         # a map without its picture
    (root / "labels/m1.png").unlink()                                       # and the reverse
    whole = (root / "imgs/m2.jpg").read_bytes()
    (root / "imgs/m2.jpg").write_bytes(whole[:len(whole) // 2])             # unreadable
    Image.fromarray(np.full((48, 64), 29, np.uint8)).save(root / "labels/m2.png")       # and its map too high
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(root / "labels/m3.png")          # another size
    for path in (root / "imgs/m4.jpg", root / "labels/m4.png"):                         # other proportions
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(root / "imgs/m5.png")         # a second m5
    with pytest.raises(UserError) as caught:
        landscape.training_pairs(data, SIZE)
    expected = {"m1.jpg": "no partner in", "m0.png": "no partner in", "m2.jpg": "cannot be read as an image",
                "m2.png": "holds label 29", "m3.png": "32 x 24, but its image 64 x 48",
                "m4.jpg": "64 x 64, other proportions than 64 x 48", "m5.png": "has the name of m5.jpg"}
    details = caught.value.details
    assert len(details) == len(expected) and "7 files" in str(caught.value)
    for name, problem in expected.items():
        assert sum(f"{name}: " in line and problem in line for line in details) == 1, (name, details)


def test_reading_ahead_gives_the_same_in_any_order():
    def make(k):
        return {"k": k, "numbers": np.random.default_rng(k).random((300, 300))}
    with Reader(make, 8) as read:
        for k in (0, 1, 2, 6, 7, 3, 3):
            assert read(k)["k"] == k and np.array_equal(read(k)["numbers"], make(k)["numbers"])


def test_the_next_is_made_while_the_first_is_used(tmp_path):
    def make(k):
        (tmp_path / str(k)).touch()
        return os.getpid()
    with Reader(make, 2) as read:
        assert read(0) != os.getpid()
        deadline = time.time() + 10
        while not (tmp_path / "1").exists() and time.time() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "1").exists()
        read(1)
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]                       # and nothing beyond `stop`


def test_errors_come_when_their_item_is_asked_for():
    def make(k):
        if k == 1:
            raise UserError("x.png", "holds label 29", "0..28")
        return 1 // (k - 3)
    with Reader(make, 9) as read:
        assert read(0) == -1
        with pytest.raises(UserError, match="x.png: holds label 29"):
            read(1)
        assert read(2) == -1
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            read(3)


def test_a_killed_reader_is_an_error_and_no_hang():
    with Reader(lambda k: os.kill(os.getpid(), signal.SIGKILL), 2) as read:
        with pytest.raises(UserError, match="was killed"):
            read(0)


@pytest.mark.parametrize("wanted", [0, 7])
def test_a_reader_killed_while_it_waits_or_sends_is_an_error(wanted):
    """Small answers leave it idle; with large ones it waits in the middle of sending the next."""
    for size in (10, 4_000_000):
        with Reader(lambda k, size=size: (os.getpid(), bytes(size)), 9) as read:
            child = read(0)[0]
            time.sleep(0.2)
            os.kill(child, signal.SIGKILL)
            time.sleep(0.2)
            with pytest.raises(UserError, match="was killed"):
                for k in (wanted, 1, 2):
                    read(k)


def test_the_reader_dies_with_its_parent(tmp_path):
    code = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from ldm.datasets.reader import Reader
with Reader(lambda k: os.getpid(), 2) as read:
    print(read(0), flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.time() + 10
    while alive(child) and time.time() < deadline:
        time.sleep(0.01)
    assert not alive(child)


def alive(pid):
    """Whether a process runs; one that only waits to be counted out by a lazy init does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
