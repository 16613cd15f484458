"""What the page takes: `python -m pytest -s --slow test/test_paint_speed.py` prints it for docs/painting.md.

The limits here are twice the targets: a test does not have the machine for itself.
"""
import http.client
import os
import shutil
import signal
import socket
import statistics
import time
from pathlib import Path

import pytest
from conftest import ROOT
from paint_browser import browser, server, until, visit  # noqa: F401  (fixtures)

WHY = "needs starlette and uvicorn: `pip install starlette uvicorn`"
pytest.importorskip("uvicorn", reason=WHY)
pytest.importorskip("starlette", reason=WHY)

import paint_client  # noqa: E402

from ldm.paint.server import sample_files  # noqa: E402

pytestmark = pytest.mark.slow
MASK, STYLE = next(sample_files(ROOT / "data/samples"))
SHIPPED = ROOT / "models/demo"


def say(what, values, limit=None, unit="ms"):
    """Print least, median and largest of some values; the median must not be over the limit."""
    middle = statistics.median(values)
    print(f"\n{what}: {middle:.3g} {unit}, from {min(values):.3g} to {max(values):.3g}")
    assert limit is None or middle < limit


# ---- the browser -------------------------------------------------------------------------------------------

def test_the_page_opens(visit, browser, server):  # noqa: F811
    """From the address to the first map on the screen, with nothing in the cache."""
    took, bytes_ = [], []
    for _ in range(10):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_init_script("""let kept; Object.defineProperty(window, "page", { get: () => kept,
            set(value) { kept = value; window.opened = performance.now(); } });""")
        page = visit(context=context, address=server)
        took.append(page.evaluate("() => opened"))
        bytes_.append(page.evaluate("""() => ["navigation", "resource"].flatMap((kind) =>
            performance.getEntriesByType(kind)).reduce((sum, e) => sum + e.transferSize, 0)""") / 1000)
        context.close()
    say("page open", took, 600)
    say("sent to the browser, with the samples' pictures", bytes_, 150, "kB")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The page at 512 x 384; the stand-in needs no weights."""
    folder = tmp_path_factory.mktemp("large")
    shutil.copy(ROOT / "configs/iidm.yaml", folder / "config.yaml")
    for part in ("unet", "autoencoder"):
        (folder / f"{part}.safetensors").touch()
    with paint_client.Started("--port", 0, "--model", folder) as started:
        yield started.address


DRAW = """() => {
    const canvas = page.mask.canvas, box = canvas.getBoundingClientRect();
    const times = { stroke: [], fill: [], undo: [] };
    const timed = (name, action) => {
        const began = performance.now();
        action();
        times[name].push(performance.now() - began);
    };
    requestAnimationFrame = (draw) => { draw(performance.now()); };     // counts with what caused it
    const event = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, {
        pointerId: 1, pointerType: "pen", clientX: box.x + x, clientY: box.y + y, buttons: 1 }));
    canvas.setPointerCapture = () => {};
    page.app.set("brush", 64);
    event("pointerdown", 40, 100);
    for (let i = 1; i < 100; i++) {
        timed("stroke", () => event("pointermove", 40 + 3 * i, 100 + 40 * Math.sin(i)));
    }
    event("pointerup", 340, 100);
    for (let i = 0; i < 20; i++) {
        timed("fill", () => { page.app.ink = i % 2 ? 5 : 8; page.painter.fill([500, 380], false); });
    }
    for (let i = 0; i < 20; i++) timed("undo", () => page.app.step(true));
    return times;
}"""


def test_painting_at_full_size(visit, large):  # noqa: F811
    """The page's own work; what the browser does to show it is not in it."""
    page = visit(address=large)
    assert page.evaluate("() => page.app.map.width") == 512
    for name, limit in (("stroke", 32), ("fill", 60), ("undo", 20)):
        say(f"{name}, 512 x 384", page.evaluate(DRAW)[name], limit)


# ---- jobs --------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def demo():
    """The page with the small model: its steps take 10 ms, so that what the page adds to them is seen."""
    with paint_client.Started("--port", 0, script="tools/paint.py") as started:
        ready(started.client)
        yield started


def ready(client):
    paint_client.until(lambda: client.get("/api/state").json["worker"]["state"] == "ready", 600)


def processor(pid):
    """Seconds of processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def watched(client, order):
    """Start a job and read its events -> {event: seconds after the request, of the first of its kind}."""
    began, at = time.monotonic(), {}
    name = client.start(order).json["id"]
    at["accepted"] = time.monotonic() - began
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=100)
    connection.request("GET", f"/api/jobs/{name}/events", headers=paint_client.OURS)
    for line in connection.getresponse():
        if line.startswith(b"event: "):
            at.setdefault(line[7:].strip().decode(), time.monotonic() - began)
    connection.close()
    return at


@pytest.fixture(scope="module")
def shipped():
    """The page as `bash tools/paint.sh` starts it, with the model for 512 x 384."""
    with paint_client.Started("--port", 0, "--model", SHIPPED, script="tools/paint.py") as started:
        ready(started.client)
        yield started


@pytest.mark.parametrize("model, preset, count", [("demo", "fast", 10), ("demo", "entry", 3),
                                                  ("shipped", "draft", 5), ("shipped", "fast", 5)])
def test_jobs_beside_the_pipeline(request, model, preset, count):
    from ldm import Pipeline
    demo = request.getfixturevalue(model)
    folder = SHIPPED if model == "shipped" else paint_client.SMALL
    pipe, client = Pipeline.load(folder, preset), demo.client
    pipe(MASK, STYLE)
    sample = client.get("/api/state").json["samples"][0]
    order = {"client": "a", "mask": sample["mask"], "reference": sample["reference"], "rounds": preset}
    watched(client, order)
    alone, found, own, processes = [], [], 0.0, [demo.process.pid, *demo.children()]
    before = sum(map(processor, processes))
    for _ in range(count):                                      # in turns, so that both have the same weather
        began, used = time.monotonic(), time.process_time()
        pipe(MASK, STYLE)
        alone.append(time.monotonic() - began)
        own += time.process_time() - used
        found.append(watched(client, order))
    used = sum(map(processor, processes)) - before
    say(f"{folder.name}, {preset}, Pipeline", alone, unit="s")
    say(f"{folder.name}, {preset}, done", [at["done"] for at in found], unit="s")
    over = 100 * (used / own - 1)
    print(f"\n{preset}, overhead: {100 * (min(at['done'] for at in found) / min(alone) - 1):.1f} % of the "
          f"fastest of each; in processor time, of both processes, {over:.1f} % of {own / count:.2f} s")
    say(f"{preset}, accepted", [1000 * at["accepted"] for at in found], 100)
    say(f"{preset}, first preview", [1000 * at["preview"] for at in found], 600)
    assert over < 10


def test_from_cancel_to_the_next_job(demo):
    """From the request that cancels to the next job's first step, and the end of the cancelled one."""
    client, took, ended = demo.client, [], []
    sample = client.get("/api/state").json["samples"][0]
    order = {"mask": sample["mask"], "reference": sample["reference"], "rounds": "entry"}
    for i in range(10):
        running = client.start({**order, "client": "a"}).json["id"]
        while not client.job(running)["progress"]:
            time.sleep(0.01)
        waiting = client.start({**order, "client": "b"}).json["id"]
        time.sleep(0.05 * i)
        began = time.monotonic()
        client.request("DELETE", f"/api/jobs/{running}")
        while client.job(waiting)["state"] != "running":
            time.sleep(0.002)
        ended.append(1000 * (time.monotonic() - began))
        while not client.job(waiting)["progress"]:
            time.sleep(0.002)
        took.append(1000 * (time.monotonic() - began))
        client.request("DELETE", f"/api/jobs/{waiting}")
        client.finished(waiting)
    say("cancel to the next job's start", ended, 300)
    say("cancel to the next job's first step", took, 600)


def test_20_clients_wait_in_line(demo):
    """Waiting is as long as was said; the web process stays small."""
    client, web = demo.client, demo.process.pid
    sample = client.get("/api/state").json["samples"][0]
    before, began = processor(web), time.monotonic()
    jobs = [client.start({"client": f"c{i}", "mask": sample["mask"], "reference": sample["reference"],
                          "rounds": "fast", "seed": i}).json for i in range(20)]
    error, ids = [], {job["id"]: job["seconds"] for job in jobs}
    while ids:
        for name, said in list(ids.items()):
            if client.job(name)["state"] == "done":
                error.append(100 * abs((time.monotonic() - began) / said - 1))
                del ids[name]
        time.sleep(0.3)
    used = 100 * (processor(web) - before) / (time.monotonic() - began)
    status = Path(f"/proc/{web}/status").read_text()
    memory = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    print(f"\n20 jobs in {time.monotonic() - began:.1f} s; web process: {used:.1f} % of a core (each job is "
          f"polled three times a second), {memory:.0f} MB")
    say("wait, away from what was said", error[4:], 40, "%")


def test_killed_and_ctrl_c(demo):
    client, took = demo.client, []
    for _ in range(2):
        os.kill(demo.children()[0], signal.SIGKILL)
        began = time.monotonic()
        paint_client.until(lambda: client.get("/api/state").json["worker"]["state"] != "ready")
        ready(client)
        took.append(time.monotonic() - began)
    say("killed, usable again", took, 20, "s")
    sample = client.get("/api/state").json["samples"][0]
    job = client.start({"client": "a", "mask": sample["mask"], "reference": sample["reference"],
                        "rounds": "entry"}).json["id"]
    paint_client.until(lambda: client.job(job)["progress"])
    streams = [socket.create_connection(("127.0.0.1", client.port), timeout=30) for _ in range(20)]
    for sock in streams:
        sock.sendall(f"GET /api/jobs/{job}/events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        sock.recv(4096)
    model = demo.children()[0]
    began = time.monotonic()
    demo.process.send_signal(signal.SIGINT)
    demo.process.wait(30)
    paint_client.until(lambda: paint_client.gone(model))
    say("Ctrl-C with 20 streams and a job, all processes gone", [time.monotonic() - began], 2, "s")
    assert demo.process.returncode == 130
    for sock in streams:
        sock.close()
