"""tools/get_weights.py against a server that misbehaves: never a wrong file under the right name, and one
line for every fault. No Jittor."""
import contextlib
import errno
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import unreliable_server
import yaml
from unreliable_server import LOGIN, QUOTA, Server

from ldm import files
from ldm.errors import UserError
from ldm.weights import download, obtain, published, save

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import cli  # noqa: E402
import get_weights  # noqa: E402

SCRIPT = Path(unreliable_server.__file__)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The bytes of a file of weights, 1.2 MB."""
    path = tmp_path_factory.mktemp("data") / "w.safetensors"
    save(path, {"a": np.random.default_rng(0).standard_normal((300, 1000)).astype(np.float32)})
    return path.read_bytes()


@pytest.fixture
def server(data, monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0, 0))
    server = Server(data)
    yield server
    server.shutdown()
    server.server_close()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def entry(server, **more):
    fields = {"name": "toy", "purpose": "a test", "file": "w-0123.safetensors", "urls": [server.url],
              "page": "https://example.org/page", "licence": "none", "folder": "toy"}
    return published.Published(**{**fields, **more})


def get(item, models, **options):
    return obtain.obtain(item, models, models, **options)


def refused(item, models, *words, **options):
    """Assert that `item` cannot be had, that nothing has its name, and that the message has these words."""
    with pytest.raises(UserError) as caught:
        get(item, models, **options)
    assert not item.place(models).exists()
    for word in words:
        assert word in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


HALF = 600_000
FAULTS = {
    "none": [],
    "cut twice": [{"cut": HALF}, {"cut": 300_000}],
    "cut at once": [{"cut": 0}, {"cut": 100}],
    "says too much": [{"lie": 1000}],
    "ignores ranges": [{"cut": HALF}, {"ignore range": True}],
    "another place": [{"cut": HALF}, {"shift": 5}],
    "busy": [{"status": 503}, {"status": 429}],
    "another version": [{"cut": HALF, "etag": '"old"'}],
    "another version, hidden": [{"cut": HALF, "etag": '"old"'}, {"ignore condition": True}],
    "no version": [{"cut": HALF, "etag": ""}],
    "no length": [{"no length": True}],
}


@pytest.mark.parametrize("known", ["", "prefix", "hash"])
@pytest.mark.parametrize("faults", FAULTS)
def test_what_a_network_does_is_survived(server, data, tmp_path, faults, known):
    server.faults = list(FAULTS[faults])
    item = entry(server, sha256={"": "", "prefix": sha256(data)[:8], "hash": sha256(data)}[known])
    place = get(item, tmp_path)
    assert place.read_bytes() == data
    assert sorted(p.name for p in place.parent.iterdir()) == [".lock", "origin.yaml", "w-0123.safetensors"]
    if faults == "cut twice":                               # nothing is fetched twice
        assert [r.get("Range") for r in server.requests] == [None, f"bytes={HALF}-", "bytes=900000-"]


@pytest.mark.parametrize("faults, words", [
    ({"page": QUOTA}, ["quota is used up", "https://example.org/page", "--file"]),
    ({"page": LOGIN}, ["asks for a sign-in"]),
    ({"page": b'{"error": "gone"}'}, ["not a file of weights"]),
    ({"page": b""}, ["empty"]),
    ({"page": b"version https://git-lfs.github.com/spec/v1\n"}, ["Git LFS pointer"]),
    ({"status": 404}, ["404"]), ({"status": 403}, ["403"]), ({"status": 503}, ["503", "5 attempts"]),
    ({"redirect": "/file"}, ["302"]), ({"redirect": "ftp://127.0.0.1/x"}, ["not on the web"]),
    ({"cut": 500, "ignore range": True}, ["ended after 500", "5 attempts"])])
def test_what_is_no_file_is_one_line(server, tmp_path, faults, words):
    server.always = faults
    refused(entry(server), tmp_path, "toy: cannot be downloaded: 127.0.0.1", *words)


def test_a_page_in_mid_download_costs_nothing(server, data, tmp_path):
    """A captive portal answers 200 with a page: what came before is kept."""
    server.faults = [{"cut": HALF}, {"page": LOGIN}]
    refused(entry(server), tmp_path, "sign-in")
    assert get(entry(server), tmp_path).read_bytes() == data
    assert server.requests[-1]["Range"] == f"bytes={HALF}-"


def test_a_wrong_file_never_gets_the_name(server, data, tmp_path):
    refused(entry(server, sha256="0" * 64), tmp_path, "gives a file that has the sha256")
    refused(entry(server, sha256="01234567"), tmp_path, "has the sha256")
    refused(entry(server, bytes=5), tmp_path, "bytes instead of 5")
    server.data = data[:-1]
    refused(entry(server), tmp_path, "truncated or damaged")
    server.data = data
    assert get(entry(server), tmp_path).read_bytes() == data


def test_pieces_of_two_versions_are_fetched_again_in_one(server, data, tmp_path):
    """The server names no version, and the file changes in mid-download: only the hash can tell."""
    server.etag, server.faults = "", [{"cut": HALF}, {"page": LOGIN}]
    server.data = data[:1000] + bytes(5000) + data[6000:]
    item = entry(server, sha256=sha256(data))
    refused(item, tmp_path, "sign-in")
    server.data = data
    assert get(item, tmp_path).read_bytes() == data
    assert [r.get("Range") for r in server.requests[2:]] == [f"bytes={HALF}-", None]


def test_mirrors_are_tried_in_order_and_continue_each_other(server, data, tmp_path, monkeypatch):
    other = Server(data, '"other"')
    server.faults = [{"cut": HALF}, *[{"status": 500}] * 4]
    item = entry(server, urls=[server.url, other.url], sha256=sha256(data))
    assert get(item, tmp_path / "a").read_bytes() == data
    assert other.requests[0]["Range"] == f"bytes={HALF}-" and "If-Range" not in other.requests[0]
    server.faults = [{"cut": HALF}, *[{"status": 500}] * 4]
    assert get(item._replace(sha256=""), tmp_path / "b").read_bytes() == data
    assert "Range" not in other.requests[1], "without a hash nothing says that both have the same file"
    monkeypatch.setenv("IIDM_WEIGHTS_MIRROR", other.url)
    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.com/")
    item = item._replace(urls=["https://huggingface.co/a/b", "drive:X"], file="a b.pth")
    assert item.addresses() == [f"{other.url}/a%20b.pth", "https://hf-mirror.com/a/b",
                                published.DRIVE.format("X")]
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(UserError, match="HF_ENDPOINT"):
        item.addresses()
    other.shutdown()


def test_redirects_are_followed_but_not_out_of_https(server, data, tmp_path):
    server.faults = [{"redirect": "/elsewhere"}, {"cut": HALF}, {"redirect": "/elsewhere"}]
    assert get(entry(server), tmp_path).read_bytes() == data
    assert server.requests[-1]["Range"] == f"bytes={HALF}-"
    request = download.urllib.request.Request("https://example.org/x")
    with pytest.raises(download.Refused, match="without encryption"):
        download._Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/x")


def test_offline_is_one_line_at_once(tmp_path, server):
    port = server.server_port
    server.shutdown()
    server.server_close()
    start = time.monotonic()
    item = entry(server, urls=[f"http://127.0.0.1:{port}/x", "https://no-such-host.invalid/x"])
    refused(item, tmp_path, "127.0.0.1 cannot be reached", "no-such-host.invalid is not found", "--file")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_in_mid_download_lose_nothing(data, tmp_path, kills):
    server, rng = Server(data), random.Random(1)
    server.always = {"pause": 0.004}
    most = killed = 0
    while killed < kills:
        child = subprocess.Popen([sys.executable, SCRIPT, server.url, tmp_path],
                                 env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])})
        asked, begin = len(server.requests), time.monotonic()
        while len(server.requests) == asked and child.poll() is None and time.monotonic() < begin + 60:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.03)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
        part = tmp_path / ".file.part"
        size = part.stat().st_size if part.exists() else 0
        assert size >= most and (not size or part.read_bytes() == data[:size])
        most = size
        if size == len(data):                               # all is here: begin again
            download.forget(part)
            most = 0
    server.always = {}
    unreliable_server.main(server.url, tmp_path)
    assert (tmp_path / ".file.part").read_bytes() == data
    server.shutdown()


def test_a_full_disk_is_one_line_and_the_next_call_continues(server, data, tmp_path):
    run = [sys.executable, SCRIPT, server.url, tmp_path]
    options = dict(env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}, capture_output=True, text=True)
    done = subprocess.run([*run, str(HALF)], **options)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert ".file.part: cannot be written" in done.stderr and os.strerror(errno.EFBIG) in done.stderr
    assert subprocess.run(run, **options).returncode == 0
    assert (tmp_path / ".file.part").read_bytes() == data
    assert server.requests[-1]["Range"] == f"bytes={HALF}-"


def test_what_was_planted_in_a_downloads_place_is_not_followed(server, data, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "victim").write_bytes(b"whole")
    part = tmp_path / "toy/.w-0123.safetensors.part"
    part.symlink_to(tmp_path / "victim")
    os.mkfifo(f"{part}.json")
    assert get(entry(server), tmp_path).read_bytes() == data
    assert (tmp_path / "victim").read_bytes() == b"whole"
    assert not os.path.lexists(part) and not os.path.lexists(f"{part}.json")


def test_too_little_space_is_said_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    refused(entry(server), tmp_path, "GB free", "free some space")


def test_two_at_once(server, data, tmp_path):
    server.always = {"pause": 0.02}
    outcomes = []

    def run():
        try:
            outcomes.append(get(entry(server), tmp_path).read_bytes() == data)
        except UserError as e:
            outcomes.append(str(e))
    # fcntl locks belong to a process, so the second one is another process
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stderr(io.StringIO()):
            run()
        os._exit(0 if outcomes == [True] else 1)
    while not server.requests:
        time.sleep(0.005)
    run()
    assert os.waitpid(child, 0)[1] == 0
    assert "is in use by another process" in outcomes[0]
    assert entry(server).place(tmp_path).read_bytes() == data


# ---- what is done with the file ----------------------------------------------------------------------------

def test_a_file_from_a_browser(server, data, tmp_path):
    own = tmp_path / "Downloads (1).safetensors"
    own.write_bytes(data)
    item = entry(server, sha256=sha256(data)[:8])
    assert get(item, tmp_path / "m", source=own).read_bytes() == data and own.read_bytes() == data
    assert not server.requests
    assert obtain.origin(tmp_path / "m/toy")["w-0123.safetensors"]["from"] == str(own)
    with pytest.raises(UserError, match="is here already"):
        get(item, tmp_path / "m", source=own)
    own.write_bytes(QUOTA)
    for expected in (entry(server), item):
        refused(expected, tmp_path / "n", "Downloads (1)", "is a page that says that its download quota",
                source=own)
    own.write_bytes(data[:-1] + b"?")
    refused(item, tmp_path / "n", "Downloads (1)", "sha256", source=own)


def test_a_file_without_a_published_hash_is_compared_with_the_one_before(server, data, tmp_path):
    place = get(entry(server), tmp_path)
    note = yaml.safe_load((place.parent / "origin.yaml").read_text())["w-0123.safetensors"]
    assert note["sha256"] == sha256(data) and note["bytes"] == len(data) and note["from"] == server.url
    assert obtain.verify(entry(server), tmp_path) is True
    place.unlink()
    server.data = data[:-4] + bytes(4)
    refused(entry(server), tmp_path, "differs from the file that was taken on", "origin.yaml")
    place.write_bytes(server.data)
    with pytest.raises(UserError, match="has changed since it was obtained"):
        obtain.verify(entry(server), tmp_path)


def test_conversion_is_strict_and_a_zip_file_gives_its_member(server, data, tmp_path, monkeypatch):
    shapes = {"a": (300, 1000)}
    monkeypatch.setattr(obtain, "_wanted", lambda item, folder: ({"image_size": [4, 4]}, shapes))
    (tmp_path / "c.yaml").write_text("image_size: [4, 4]\n")
    item = entry(server, convert={"part": "unet", "config": "c.yaml"}, file="u.pkl")
    place = get(item, tmp_path, keep=True)
    assert place.name == "unet.safetensors" and (place.parent / "u.pkl").read_bytes() == data
    assert (place.parent / "config.yaml").read_text() == "image_size: [4, 4]\n"
    assert obtain.verify(item, tmp_path)
    shapes["b"] = (3,)
    refused(item, tmp_path / "other", "missing 1 (b)")
    assert not list((tmp_path / "other/toy").glob(".u*"))
    del shapes["b"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.ckpt", data)
    server.data = packed.getvalue()
    item = item._replace(member="model.ckpt", folder="zipped")
    assert get(item, tmp_path).name == "unet.safetensors"
    assert sorted(p.name for p in (tmp_path / "zipped").iterdir()) == [
        ".lock", "config.yaml", "origin.yaml", "unet.safetensors"]
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.ckpt", bytes(10 ** 7))
    server.data = bomb.getvalue()
    refused(item._replace(folder="bomb"), tmp_path, "holds model.ckpt of 10,000,000 bytes")


@pytest.mark.parametrize("place, change", [(10, 107), (8, 1), (46, 1), (42, 255), (-300, 255)])
def test_a_damaged_zip_file_is_one_line(server, data, tmp_path, monkeypatch, place, change):
    """In its directory another method, a password, a name, an offset; before it packed bytes."""
    monkeypatch.setattr(obtain, "_wanted", lambda item, folder: ({"image_size": [4, 4]}, {"a": (300, 1000)}))
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.ckpt", data)
    whole = bytearray((tmp_path / "z.zip").read_bytes())
    whole[whole.rindex(b"PK\1\2") + place] ^= change
    (tmp_path / "z.zip").write_bytes(whole)
    item = entry(server, convert={"part": "unet", "config": "c.yaml"}, member="model.ckpt")
    refused(item, tmp_path, str(tmp_path / "z.zip"), source=tmp_path / "z.zip")
    assert not list((tmp_path / "toy").glob(".model*"))


# ---- the list and the tool ---------------------------------------------------------------------------------

def tool(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.run(get_weights.main, [str(a) for a in arguments])
    return end.value.code, out.getvalue(), err.getvalue()


def test_the_list_is_sound():
    entries, sets = published.read()
    for item in entries.values():
        assert all(url.startswith(("https://", "drive:")) for url in item.urls), item.name
        suffix = item.file.rpartition("-")[2].split(".")[0]         # the first digits of the hash, by custom
        if len(suffix) == 8:
            assert item.sha256.startswith(suffix), item.name
        assert set(item.convert) in (set(), {"part", "config"})
        assert item.page.startswith("https://") and item.sha256 == item.sha256.lower()
    places = [item.place("models") for item in entries.values()]
    assert len(set(places)) == len(places)
    assert [item.name for item in published.chosen(["iidm", "nima", "iidm-unet"])] == [*sets["iidm"], "nima"]


def test_the_tool(server, data, tmp_path, monkeypatch):
    listed = {"weights": {"toy": {k: v for k, v in entry(server)._asdict().items() if k != "name"}}}
    (tmp_path / "list.yaml").write_text(yaml.safe_dump(listed))
    monkeypatch.setattr(published, "LIST", tmp_path / "list.yaml")
    models = ("--models", tmp_path / "m")
    status, out, err = tool(*models)
    assert (status, err) == (0, "") and "toy" in out and " -  " in out
    assert tool("toy", "--url-only")[1] == server.url + "\n"
    assert not (tmp_path / "m").exists() and not server.requests, "a list downloads nothing"
    assert tool("--check", *models)[1] == f"no such weights in {tmp_path / 'm'}: nothing to compare\n"
    status, out, err = tool("toy", *models)
    assert status == 0 and f"sha256 of the published file {sha256(data)}, from 127.0.0.1" in out, err
    assert "is here already" in tool("toy", *models)[1] and " here " in tool("--list", *models)[1]
    assert "its hash is right" in tool("--check", *models)[1]
    entry(server).place(tmp_path / "m").write_bytes(b"x")
    for arguments, word in (((["--check"], "has changed")), (["toy"], "has changed"),
                            (["tyo"], "is not a name in the list"), (["--file", "x"], "--file"),
                            (["toy", "--file", "no where", "--models", tmp_path / "n"], "no where")):
        status, out, err = tool(*models, *arguments)
        assert status == 2 and err.count("\n") == 1 and word in err, err
    assert files.kind_of(entry(server).place(tmp_path / "n")) is None


def test_no_other_code_can_download():
    root = Path(__file__).resolve().parents[1]
    for path in (*(root / "ldm").rglob("*.py"), *(root / "tools").glob("*.py")):
        if path.name != "download.py":
            assert "urllib.request" not in path.read_text(), path
    assert threading.active_count() < 50
