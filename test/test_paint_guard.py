"""Who may ask the page's server, what is too much for it, and which path leads nowhere. With a stand-in."""

import json
import socket
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

WHY = "needs starlette and uvicorn: `pip install starlette uvicorn`"
pytest.importorskip("uvicorn", reason=WHY)
pytest.importorskip("starlette", reason=WHY)

from paint_client import RAMP, InThread, error, png, until  # noqa: E402
from starlette.datastructures import Headers  # noqa: E402

from ldm.paint import limits  # noqa: E402
from ldm.paint.errors import Refusal  # noqa: E402
from ldm.paint.security import Guard  # noqa: E402

TWO_STEPS = {"rounds": [{"strength": 0.5, "steps": 2}]}


@pytest.fixture(scope="module")
def api():
    with InThread() as client:
        yield client


@pytest.fixture
def slow():
    with InThread(environments=({"STANDIN_STEP": "0.05"},)) as client:
        yield client


def chunked(api, size):
    """POST `size` bytes of unknown length -> the answer's first line."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as sock:
        sock.sendall(
            b"POST /api/masks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-IIDM: 1\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        try:
            for _ in range(size // 65536):
                sock.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
            sock.sendall(b"0\r\n\r\n")
        except OSError:  # it has answered and closed
            pass
        return sock.makefile("rb").readline()


def test_the_web_process_loads_neither_jittor_nor_opencv():
    code = "import sys, ldm.paint.server; sys.exit(' '.join({'jittor', 'cv2'} & set(sys.modules)) or 0)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_body_of_9_mb_is_refused(api):
    for data in (bytes(9 * 2**20), iter([bytes(2**20)] * 9)):
        try:
            reply = api.post("/api/masks", data)
        except (BrokenPipeError, ConnectionResetError):  # it was refused while it was sent
            continue
        assert error(reply, 413)["what"] == "the upload"
    assert b" 413 " in chunked(api, 9 * 2**20)
    assert api.get("/api/state").status == 200


def test_a_job_of_100_kb_is_refused(api):
    error(api.post("/api/jobs", b"[" + b"0," * 50000 + b"0]", "application/json"), 413)


def test_all_uploads_together_have_a_limit(api, monkeypatch):
    monkeypatch.setattr(limits, "BODIES", 100)
    error(api.post("/api/masks", png(RAMP)), 503)


def test_a_decompression_bomb_is_refused_by_its_header(api):
    bomb = png(Image.new("L", (9000, 9000)))
    assert len(bomb) < 2**20
    for path in ("/api/masks", "/api/references"):
        assert "9000 x 9000" in error(api.post(path, bomb), 422)["is"]


def test_a_slow_upload_ends(api, monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as sock:
        sock.sendall(
            b"POST /api/masks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-IIDM: 1\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000\r\n\r\nabc"
        )
        assert b" 408 " in sock.makefile("rb").readline()


def test_connections_without_a_request_end(slow, monkeypatch):
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.5)
    whole = b"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for begun in (b"", whole[:20], whole + whole[:9]):
        with socket.create_connection(("127.0.0.1", slow.port), timeout=30) as sock:
            sock.sendall(begun)
            while sock.recv(65536):
                pass
    name = slow.start(slow.order(name="slow", rounds=TWO_STEPS)).json["id"]
    assert slow.events(name)[-1][1] == "done"                   # two seconds: a stream goes on


def test_open_requests_have_a_limit(slow, monkeypatch):
    monkeypatch.setattr(limits, "OPEN_REQUESTS", 5)
    name = slow.start(slow.order(name="slow")).json["id"]
    sockets = [socket.create_connection(("127.0.0.1", slow.port)) for _ in range(5)]
    for sock in sockets:
        sock.sendall(f"GET /api/jobs/{name}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)
    reply = slow.get("/api/state")
    assert error(reply, 503)["what"] == "the server" and reply.headers["retry-after"]
    for sock in sockets:
        sock.close()
    until(lambda: slow.get("/api/state").status == 200)


def test_the_store_forgets_what_was_not_used_for_longest(monkeypatch):
    from ldm.paint.store import Mask, Reference, Store

    store = Store(capacity=100)
    store.keep(Reference("sample", b"x" * 90))
    for name in "abc":
        store.add(Mask(name, b"x" * 30))
    assert store.get(Mask, "a")
    store.add(Mask("d", b"x" * 30))
    assert store.get(Mask, "b") is None and store.get(Mask, "a") and store.get(Reference, "sample")
    assert store.weight == 90
    store.add(Mask("d", b"x" * 30))
    assert store.weight == 90


# ---- who may ask -------------------------------------------------------------------------------------------

OWN = "http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 202),
        ({"Origin": OWN}, 202),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}, 202),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Host": "evil.example"}, 400),
        ({"Host": "evil.example:{port}"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
        ({"Host": ""}, 400),
        ({"Host": "[::1]:{port}"}, 400),
        ({"Host": "user@127.0.0.1"}, 400),
        ({"Host": "0.0.0.0"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"Origin": "file://"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "odd"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403),
        ({"X-IIDM": None}, 403),
    ],
)
def test_who_may_start_a_job(api, headers, status):
    headers = {"X-IIDM": "1", "Content-Type": "application/json", **headers}
    headers = {key: value.format(port=api.port) for key, value in headers.items() if value is not None}
    reply = api.request("POST", "/api/jobs", json.dumps(api.order()), headers, ours=False)
    assert reply.status == status, reply.body
    if status == 202:
        api.request("DELETE", f"/api/jobs/{reply.json['id']}")


def other_site(mode, destination):
    """The headers of a browser's request that another site caused."""
    return {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}


@pytest.mark.parametrize(
    "path, headers, allowed",
    [
        ("/", other_site("navigate", "document"), True),
        ("/", other_site("navigate", "iframe"), False),
        ("/", other_site("no-cors", "image"), False),
        ("/api/state", other_site("navigate", "document"), False),
        ("/api/state", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, False),
        ("/api/state", {"Sec-Fetch-Site": "same-site"}, False),
        ("/api/state", {"Origin": "null"}, False),
        ("/api/state", {}, True),
    ],
)
def test_who_may_read(api, path, headers, allowed):
    status = api.request("GET", path, headers=headers, ours=False).status
    assert (status != 403) == allowed


@pytest.mark.parametrize("name, values", [
    (b"origin", (b"http://127.0.0.1:7860", b"http://evil.example")),
    (b"sec-fetch-site", (b"same-origin", b"cross-site"))])
def test_of_a_header_sent_twice_each_value_counts(name, values):
    guard = Guard(None)
    for order in (values, values[::-1]):
        headers = Headers(raw=[(b"host", b"127.0.0.1:7860"), *((name, value) for value in order)])
        with pytest.raises(Refusal):
            guard.check("GET", "/api/state", headers)


def test_a_token_is_demanded_of_every_call():
    with InThread(token="secret") as client:
        for given in (None, "Bearer wrong", "secret", "Bearer "):
            headers = {} if given is None else {"Authorization": given}
            error(client.request("GET", "/api/state", headers=headers), 403)
            error(client.request("POST", "/api/jobs", b"{}", headers), 403)
        assert client.request("GET", "/api/state", headers={"Authorization": "Bearer secret"}).status == 200
        assert (
            client.request(
                "GET", "/api/state", headers={"Authorization": "Bearer secret", "Host": "192.168.0.7"}
            ).status
            == 200
        )
        error(
            client.request(
                "GET", "/api/state", headers={"Authorization": "Bearer secret", "Host": "evil.example"}
            ),
            400,
        )
