"""The page's server for tests, with the stand-in for the model process, and a client of it."""

import asyncio
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import paint_standin
from conftest import ROOT
from PIL import Image

from ldm.paint import server

SMALL, SIZE = ROOT / "models/demo-128", (128, 96)
OURS = {"X-IIDM": "1"}
# The files of a result called "lake", in its bundle and in the folder of --keep.
BUNDLE = {"masks/lake.png", "references/lake.png", "picture.png", "settings.yaml", "job.json", "README.txt"}
RAMP = (np.arange(SIZE[0] * SIZE[1]) % 29).astype(np.uint8).reshape(SIZE[::-1])


def error(reply, status):
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    return reply.json["error"]


class Reply:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """HTTP to a port, with the page's header."""

    def __init__(self, port):
        self.port, self.patience = port, 30

    def request(self, method, path, body=None, headers=None, ours=True):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience)
        try:
            connection.request(method, path, body, {**(OURS if ours else {}), **(headers or {})})
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, kind="image/png", **headers):
        return self.request("POST", path, body, {"Content-Type": kind, **headers})

    def mask(self, ids=None):
        """Upload a map -> its id."""
        ids = np.zeros(SIZE[::-1], np.uint8) if ids is None else ids
        reply = self.post("/api/masks", ids.tobytes(), "application/octet-stream", **{"X-Size": "128,96"})
        assert reply.status == 201, reply.body
        return reply.json["id"]

    def style(self):
        """The id of a sample's style picture."""
        return self.get("/api/state").json["samples"][0]["reference"]

    def order(self, **changes):
        """A job as the page would send it."""
        return {
            "client": "tester",
            "mask": self.mask(),
            "reference": self.style(),
            "seed": 5,
            "name": "image",
            "variations": 1,
            "rounds": "fast",
            **changes,
        }

    def start(self, order):
        return self.post("/api/jobs", json.dumps(order), "application/json")

    def job(self, name):
        return self.get(f"/api/jobs/{name}").json

    def events(self, name, **headers):
        """The events of a job until its stream ends: [(number, kind, data)]."""
        reply = self.request("GET", f"/api/jobs/{name}/events", headers=headers)
        assert reply.status == 200, reply.body
        return parsed(reply.body)

    def finished(self, name, patience=60):
        """Poll a job until it has ended -> its state."""
        return until(
            lambda: (state := self.job(name))["state"] in ("done", "failed", "cancelled") and state, patience
        )


def parsed(stream):
    """[(number, kind, data)] of the bytes of a stream of events."""
    found = []
    for block in stream.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
        if "event" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def until(condition, patience=60):
    """Wait until `condition()` is true -> its value."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return value


def options(**changes):
    return server.Options(**{"model": SMALL, "samples": ROOT / "data/samples", **changes})


class InThread:
    """The server in a thread of this process, where a test can change its limits."""

    def __init__(self, environments=({"STANDIN_STEP": "0.001"},), command=paint_standin.COMMAND, **changes):
        self.command = command
        self.socket = server.listen("127.0.0.1", 0)
        self.port, self.environments, self.changes = self.socket.getsockname()[1], environments, changes
        self.ready, self.server = threading.Event(), None
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()))

    async def run(self):
        self.server = server.prepared(options(**self.changes), self.command, self.environments)
        asyncio.ensure_future(server.announce(self.server, self.ready.set))
        await self.server.serve(sockets=[self.socket])

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(60)
        client = Client(self.port)
        until(lambda: self.server.pool.state()["state"] != "starting")
        return client

    def __exit__(self, *error):
        self.server.handle_exit(signal.SIGTERM, None)
        self.thread.join(30)
        assert not self.thread.is_alive()


class Started:
    """The server as a user starts it, in a process of its own, with the small model if no other is named."""

    def __init__(self, *arguments, script="test/paint_standin.py", env=None, **more):
        self.process = subprocess.Popen(
            [sys.executable, ROOT / script, "--no-browser", "--model", SMALL, *map(str, arguments)],
            text=True,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            **more,
        )
        self.address = self.process.stdout.readline().strip()
        assert self.address, self.process.communicate()[1]
        self.client = Client(int(self.address.partition("#")[0].rstrip("/").rpartition(":")[2]))

    def children(self):
        """Process ids of the model processes."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]

    def end(self, number=signal.SIGINT):
        """-> (exit status, standard error)"""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def gone(pid):
    """Has a process ended? (One that nobody waited for counts as ended.)"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def png(array, **options):
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()
