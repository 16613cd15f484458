"""Faults around the page's server: killed processes, Ctrl-C, a taken port, a full disk, a dead model."""

import os
import resource
import signal
import socket
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT

WHY = "needs starlette and uvicorn: `pip install starlette uvicorn`"
pytest.importorskip("uvicorn", reason=WHY)
pytest.importorskip("starlette", reason=WHY)

from paint_client import BUNDLE, InThread, Started, gone, parsed, until  # noqa: E402

from ldm.paint import limits, process  # noqa: E402

SHORT = {"rounds": [{"strength": 0.5, "steps": 3}]}


def child(server):
    """The process id of the only model process, once it is ready."""
    until(lambda: server.client.get("/api/state").json["worker"]["state"] == "ready")
    return server.children()[0]


def pid_of(client_server):
    return client_server.server.pool.processes[0].child.pid


# ---- the model process dies --------------------------------------------------------------------------------


def test_a_job_whose_process_dies_before_its_first_step_is_tried_twice():
    with InThread() as client:
        state = client.finished(client.start(client.order(name="die-first")).json["id"])
        assert state["state"] == "failed" and "signal 9: out of memory?" in state["error"]["is"]
        state = client.finished(client.start(client.order(rounds=SHORT)).json["id"])
        assert state["state"] == "done"  # by the third process


def test_a_job_that_had_begun_fails_and_the_next_one_is_made():
    with InThread() as client:
        dying = client.start(client.order(name="die")).json["id"]
        waiting = client.start(client.order(client="b", rounds=SHORT)).json["id"]
        assert client.finished(dying)["state"] == "failed"
        assert client.finished(waiting)["state"] == "done"


def test_three_deaths_end_it_and_the_page_says_so():
    with InThread() as client:
        for _ in range(2):
            client.finished(client.start(client.order(name="die-first")).json["id"])
            if client.get("/api/state").json["worker"]["state"] == "dead":
                break
        worker = until(lambda: (w := client.get("/api/state").json["worker"])["state"] == "dead" and w)
        assert "tools/doctor.py" in worker["message"]
        assert client.start(client.order()).status == 503
        assert client.get("/api/state").status == 200 and client.mask()  # painting goes on


def test_a_process_that_cannot_begin_is_not_tried_again():
    with InThread(environments=({"STANDIN_FATAL": "1"},)) as client:
        worker = client.get("/api/state").json["worker"]
        assert worker == {"state": "dead", "message": "the stand-in: is told not to start; do not tell it"}


def test_killed_at_random_moments_no_job_is_lost_or_swapped(monkeypatch):
    monkeypatch.setattr(limits, "DEATHS", 1000)
    rng, running = np.random.default_rng(4), InThread(environments=({"STANDIN_STEP": "0.005"},))
    with running as client:
        for i in range(20):
            job = client.start(client.order(client=f"c{i}", seed=i, rounds=SHORT)).json["id"]
            time.sleep(rng.uniform(0, 0.3))
            until(lambda: not gone(pid_of(running)))        # the one before may have been killed when idle
            os.kill(pid_of(running), signal.SIGKILL)
            state = client.finished(job)
            assert state["state"] in ("done", "failed")
            if state["state"] == "done":
                assert [result["seed"] for result in state["results"]] == [i]
        job = client.start(client.order(rounds=SHORT)).json["id"]
        assert client.finished(job)["state"] == "done"


def test_a_stopped_process_is_said_to_be_silent_and_cancel_replaces_it(monkeypatch):
    short = {"PING_SECONDS": 0, "SILENT_SECONDS": 1, "SILENT_WORK_SECONDS": 1, "SILENT_STEPS": 2}
    for name, seconds in short.items():
        monkeypatch.setattr(process, name, seconds)
    running = InThread()
    with running as client:
        pid = pid_of(running)
        os.kill(pid, signal.SIGSTOP)                            # while it is idle
        until(lambda: client.get("/api/state").json["worker"]["state"] == "silent")
        os.kill(pid, signal.SIGCONT)
        until(lambda: client.get("/api/state").json["worker"]["state"] == "ready")
        job = client.start(client.order(name="hang")).json["id"]
        until(lambda: client.get("/api/state").json["worker"]["state"] == "silent")
        client.request("DELETE", f"/api/jobs/{job}")
        assert client.finished(job)["state"] == "cancelled"
        until(lambda: gone(pid))
        job = client.start(client.order(rounds=SHORT)).json["id"]
        assert client.finished(job)["state"] == "done"


# ---- the web process ends ----------------------------------------------------------------------------------


def test_ctrl_c_ends_open_streams_and_leaves_no_process():
    with Started("--port", 0, env={"STANDIN_STEP": "1"}) as server:
        pid, streams = child(server), []
        job = server.client.start(server.client.order()).json["id"]
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", server.client.port), timeout=30)
            sock.sendall(f"GET /api/jobs/{job}/events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            streams.append(sock)
        heads = [sock.recv(4096) for sock in streams]
        upload = socket.create_connection(("127.0.0.1", server.client.port), timeout=30)
        upload.sendall(
            b"POST /api/masks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-IIDM: 1\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000\r\n\r\nabc"
        )
        until(lambda: server.client.get("/api/state").status == 200)
        began = time.monotonic()
        status, said = server.end()
        print(f"{time.monotonic() - began:.2f} seconds")
        assert (status, said) == (130, "interrupted\n")
        for head, sock in zip(heads, streams):
            body = head + b"".join(iter(lambda s=sock: s.recv(65536), b""))
            assert parsed(body.partition(b"\r\n\r\n")[2])[-1][1] == "closing"
        assert b" 503 " in upload.recv(4096)
        until(lambda: gone(pid))


def test_a_killed_web_process_takes_the_model_process_with_it():
    with Started("--port", 0, env={"STANDIN_STEP": "1"}) as server:
        pid = child(server)
        server.client.start(server.client.order(name="slow"))
        server.process.kill()
        until(lambda: gone(pid), 10)


# ---- the start ---------------------------------------------------------------------------------------------


def test_a_taken_port_gives_the_next_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Started("--port", port) as server:
            assert server.client.port > port
            assert server.client.get("/api/state").status == 200
            assert f"port {port} is taken" in server.end()[1]


def test_a_browser_is_opened_only_where_there_is_a_screen(monkeypatch):
    sys.path.insert(0, str(ROOT / "tools"))
    import paint

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert not paint.has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert paint.has_screen()


def test_another_host_gets_a_token():
    with Started("--port", 0, "--host", "0.0.0.0") as server:
        address, _, token = server.address.partition("#token=")
        assert len(token) > 20 and address.startswith("http://127.0.0.1:")
        assert server.client.get("/api/state").status == 403
        assert server.client.get("/api/state", headers={"Authorization": f"Bearer {token}"}).status == 200


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--port", "70000"], "--port"),
        (["--host", "256.1.1.1"], "--host"),
        (["--model", "/nowhere"], "/nowhere"),
        (["--keep", "/proc/nowhere"], "/proc/nowhere"),
        (["--keep", str(ROOT / "models")], "models"),
        (["--precision", "fp17"], "fp17"),
        (["--token", ""], "empty"),
        (["--token", "a b c d e f"], "--token"),
    ],
)
def test_wrong_options_end_with_one_line(arguments, word, capsys):
    sys.path.insert(0, str(ROOT / "tools"))
    import cli
    import paint

    with pytest.raises(SystemExit) as end:
        cli.run(paint.main, ["--no-browser", "--port", "0", *arguments])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith(("error: ", "usage: ")) and word in said.splitlines()[-1]


# ---- --keep ------------------------------------------------------------------------------------------------


def test_results_are_kept_as_folders(tmp_path):
    with InThread(keep=tmp_path) as client:
        result = client.finished(client.start(client.order(rounds=SHORT, name="lake")).json["id"])["results"][
            0
        ]["id"]
        (folder,) = until(lambda: list(tmp_path.glob("[0-9]*")))
        assert (folder / "picture.png").read_bytes() == client.get(f"/api/results/{result}.png").body
        assert {str(p.relative_to(folder)) for p in folder.rglob("*.*")} == BUNDLE


def test_a_full_disk_is_said_and_loses_no_result(tmp_path):
    """The limit of a file's size stands for a full disk: the system refuses to write."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    with Started("--port", 0, "--keep", tmp_path, preexec_fn=limit) as server:
        client = server.client
        child(server)
        result = client.finished(client.start(client.order(rounds=SHORT)).json["id"])["results"][0]["id"]
        warnings = until(lambda: client.get("/api/state").json["warnings"])
        assert str(tmp_path) in warnings[0] and "cannot be written" in warnings[0]
        assert client.get(f"/api/results/{result}.png").status == 200
        assert not list(tmp_path.iterdir())


def test_many_streams_at_once_get_their_events():
    with InThread(environments=({"STANDIN_STEP": "0.02"},)) as client:
        job = client.start(client.order()).json["id"]
        ends = []
        readers = [threading.Thread(target=lambda: ends.append(client.events(job)[-1][1])) for _ in range(30)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
        assert ends == ["done"] * 30
