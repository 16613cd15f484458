"""The queue of the page's server: order, limits, closed tabs, 20 clients at once. With a stand-in."""

import io
import socket
import threading
import time

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

WHY = "needs starlette and uvicorn: `pip install starlette uvicorn`"
pytest.importorskip("uvicorn", reason=WHY)
pytest.importorskip("starlette", reason=WHY)

import paint_standin  # noqa: E402
from paint_client import SIZE, Client, InThread, error, until  # noqa: E402

from ldm import config as configs  # noqa: E402
from ldm.paint import limits, server  # noqa: E402
from ldm.paint.presets import Presets, plain  # noqa: E402

ONE_STEP = {"rounds": [{"strength": 0.5, "steps": 1}]}


@pytest.fixture
def slow():
    with InThread(environments=({"STANDIN_STEP": "0.05"},)) as client:
        yield client


def test_a_running_job_is_cancelled_at_its_next_step(slow):
    name = slow.start(slow.order()).json["id"]
    until(lambda: slow.job(name)["progress"])
    assert slow.request("DELETE", f"/api/jobs/{name}").status == 202
    state = slow.finished(name)
    assert state["state"] == "cancelled" and state["progress"]["step"] < 42
    assert (
        slow.finished(slow.start(slow.order(rounds={"rounds": [{"strength": 0.5, "steps": 2}]})).json["id"])[
            "state"
        ]
        == "done"
    )


def test_a_newer_waiting_job_takes_the_older_ones_place(slow):
    running, older, other = (slow.start(slow.order(client=c)).json for c in ("a", "a", "b"))
    newer = slow.start(slow.order(client="a")).json
    assert [running["position"], older["position"], other["position"], newer["position"]] == [0, 1, 2, 1]
    assert slow.job(older["id"])["state"] == "cancelled"
    assert slow.job(other["id"])["position"] == 2


def test_a_queue_that_is_full_says_when_to_come_again(slow, monkeypatch):
    monkeypatch.setattr(limits, "JOBS", 3)
    for client in "abc":
        assert slow.start(slow.order(client=client)).status == 202
    reply = slow.start(slow.order(client="d"))
    assert error(reply, 429)["what"] == "the queue" and int(reply.headers["retry-after"]) >= 1
    assert slow.start(slow.order(client="c")).status == 202  # it takes the place of its own


def test_jobs_of_a_closed_tab_are_dropped(slow, monkeypatch):
    monkeypatch.setattr(limits, "ABANDONED_SECONDS", 2)
    left, waiting = (slow.start(slow.order(client=c, name="slow")).json["id"] for c in "ab")
    with socket.create_connection(("127.0.0.1", slow.port)) as sock:
        sock.sendall(f"GET /api/jobs/{left}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)                      # a stream that is closed counts no more
    last = slow.start(slow.order(client="c", rounds=ONE_STEP)).json["id"]
    assert slow.events(last)[-1][1] == "done"                   # its stream is open all the time
    assert slow.job(left)["state"] == slow.job(waiting)["state"] == "cancelled"


def test_a_job_with_an_open_stream_is_not_dropped(slow, monkeypatch):
    monkeypatch.setattr(limits, "ABANDONED_SECONDS", 0.5)
    job = slow.start(slow.order()).json["id"]                   # 42 steps of 0.05 s
    assert slow.events(job)[-1][1] == "done"


def test_results_live_for_their_time(slow, monkeypatch):
    name = slow.start(slow.order(rounds=ONE_STEP)).json["id"]
    result = slow.finished(name)["results"][0]["id"]
    monkeypatch.setattr(limits, "RESULT_SECONDS", 0)
    until(lambda: slow.get(f"/api/jobs/{name}").status == 404)
    error(slow.get(f"/api/results/{result}.png"), 404)
    error(slow.get(f"/api/bundles/{result}.zip"), 404)


def test_two_processes_work_at_two_jobs():
    with InThread(environments=({"STANDIN_STEP": "0.05"}, {"STANDIN_STEP": "0.05"})) as client:
        names = [client.start(client.order(client=c)).json["id"] for c in "ab"]
        until(lambda: [client.job(name)["state"] for name in names] == ["running", "running"])


# ---- many at once ------------------------------------------------------------------------------------------


def visit(port, number, failures):
    """A client: 50 random actions; each of its pictures must be of its own masks and seeds."""
    rng, client, name, jobs = np.random.default_rng(number), Client(port), f"client-{number}", {}
    try:
        mask = np.full(SIZE[::-1], number % 29, np.uint8)
        mask[number % 96, number % 128] = (number + 1) % 29
        order = client.order(
            client=name, mask=client.mask(mask), rounds={"rounds": [{"strength": 0.5, "steps": 3}]}
        )
        for _ in range(50):
            action = rng.integers(6)
            if action <= 1:
                seed = int(rng.integers(2**24 - 4))
                reply = client.start({**order, "seed": seed, "variations": int(rng.integers(1, 4))})
                assert reply.status in (202, 429), reply.body
                if reply.status == 202:
                    jobs[reply.json["id"]] = seed
            elif jobs:
                job = list(jobs)[int(rng.integers(len(jobs)))]
                if action == 2:
                    assert client.request("DELETE", f"/api/jobs/{job}").status == 202
                elif action == 3:
                    assert client.events(job)[-1][1] in ("done", "cancelled")
                else:
                    check_pictures(client, client.job(job), mask, jobs[job])
        for job, seed in jobs.items():
            check_pictures(client, client.finished(job), mask, seed)
    except Exception as e:
        failures.append((number, repr(e)))


def check_pictures(client, state, mask, seed):
    for i, result in enumerate(state["results"] or []):
        assert result["seed"] == seed + i
        body = client.get(f"/api/results/{result['id']}.png").body
        assert np.array_equal(
            Image.open(io.BytesIO(body)), paint_standin.picture(mask.tobytes(), SIZE, seed + i)
        )


def test_20_clients_each_get_their_own_pictures():
    failures = []
    with InThread() as api:
        visitors = [threading.Thread(target=visit, args=(api.port, number, failures)) for number in range(20)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(300)
        assert not failures
        state = api.get("/api/state").json
        assert state["queue"] == {"running": 0, "waiting": 0} and state["worker"]["state"] == "ready"


def test_a_picture_that_comes_after_its_job_was_cancelled_is_not_kept(tmp_path):
    with InThread(keep=tmp_path) as client:
        sample = client.get("/api/state").json["samples"][0]
        order = {"client": "a", "mask": sample["mask"], "reference": sample["reference"], "rounds": "draft",
                 "name": "late"}
        job = client.start(order).json["id"]
        until(lambda: client.job(job)["progress"])
        time.sleep(0.3)                             # its ten steps of a millisecond are over
        client.request("DELETE", f"/api/jobs/{job}")
        state = client.finished(job)
        assert state["state"] == "cancelled" and not state.get("results")
        again = client.start({**order, "name": "lake"}).json["id"]
        assert client.finished(again)["state"] == "done"
        until(lambda: len(list(tmp_path.iterdir())) == 1)


# ---- seconds -----------------------------------------------------------------------------------------------

def test_one_disturbed_picture_does_not_change_what_is_promised():
    presets = Presets(configs.load(ROOT / "models/demo-128/config.yaml"))
    fast, noise = (plain(presets.settings[name]) for name in ("fast", "noise"))
    assert presets.seconds(fast) is None
    for seconds in (2.0, 2.2, 30.0):
        presets.note(fast, seconds)
    assert presets.seconds(fast) == 2.2
    worked_out = presets.seconds(noise)
    assert worked_out == round(2.2 * presets.work(noise) / presets.work(fast), 2)
    for _ in range(3):                      # this machine has become slower
        presets.note(fast, 8.0)
    assert presets.seconds(fast) == 8.0


def test_answers_wait_for_no_receipt():
    """With Nagle's algorithm the body of an answer came 40 ms after its head."""
    with server.listen("127.0.0.1", 0) as sock:
        sock.listen()
        with socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
