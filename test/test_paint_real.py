"""The page in Chromium on a model that really computes, and that model killed again and again. A tiny one."""
import base64
import io
import os
import signal
import time

import numpy as np
import pytest
import tiny
from conftest import ROOT
from paint_browser import browser, point, shown, until, visit  # noqa: F401  (fixtures)
from PIL import Image

from ldm.labels import NAMES

WHY = "needs starlette and uvicorn: `pip install starlette uvicorn`"
pytest.importorskip("uvicorn", reason=WHY)
pytest.importorskip("starlette", reason=WHY)

import paint_client  # noqa: E402

from ldm.paint import limits, process  # noqa: E402
from ldm.paint.server import sample_files  # noqa: E402

ROUNDS = {"rounds": [{"strength": 0.5, "steps": 3, "guidance": 2.0},
                     {"strength": 0.4, "steps": 2, "guidance": 1.5, "color_transfer": "exact"}]}
STYLES = {mask.stem: style for mask, style in sample_files(ROOT / "data/samples")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    return tiny.make_model(folder)


@pytest.fixture(scope="module")
def pipe(model):
    from ldm import Pipeline
    return Pipeline.load(model, ROUNDS)


@pytest.fixture(scope="module")
def server(model):
    """The address of the page with the tiny model."""
    with paint_client.Started("--port", 0, "--model", model, script="tools/paint.py") as started:
        wait_until_ready(started.client)
        yield started.address


def wait_until_ready(client):
    paint_client.until(lambda: client.get("/api/state").json["worker"]["state"] == "ready", 300)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_what_is_painted_and_generated_is_the_picture_of_the_api(visit, pipe):  # noqa: F811
    page = visit()
    for name, (x0, y0), (x1, y1) in (("tree", (10, 30), (50, 30)), ("road", (5, 40), (60, 44))):
        page.click(f"#palette [data-id='{NAMES.index(name)}']")
        page.mouse.move(*point(page, x0, y0))
        page.mouse.down()
        page.mouse.move(*point(page, x1, y1), steps=4)
        page.mouse.up()
    page.evaluate("(custom) => page.app.change({ custom, seed: 31, variations: 2 })", ROUNDS)
    page.evaluate("""() => { window.previews = 0; const tell = page.runner.tell;
        page.runner.tell = (e, d) => { previews += e === "preview"; tell(e, d); }; }""")
    page.click("#generate")
    until(page, "page.app.result && !page.runner.active")
    assert page.evaluate("() => previews") > 0
    files = page.evaluate("""() => Promise.all(page.app.result.results.map(async ({ blob }) => {
        const bytes = new Uint8Array(await blob.arrayBuffer());
        return btoa(String.fromCharCode(...bytes)); }))""")
    width, height = pipe.size
    mask = np.frombuffer(shown(page), np.uint8).reshape(height, width)
    assert len(np.unique(mask)) > 2
    for seed, file in zip((31, 32), files):
        expected = pipe(mask, STYLES["lake"], seed=seed, name="lake")
        assert np.array_equal(pixels(base64.b64decode(file)), np.asarray(expected))


@pytest.mark.slow
def test_the_model_killed_20_times_gives_nobody_anothers_picture(model, pipe, monkeypatch):
    """About 3 minutes: each new process loads Jittor and the model."""
    monkeypatch.setattr(limits, "DEATHS", 1000)
    monkeypatch.setattr(limits, "ABANDONED_SECONDS", 1000)      # jobs are looked at one after the other
    width, height = pipe.size
    rng, counts = np.random.default_rng(5), {"done": 0, "failed": 0}
    masks = {c: rng.integers(0, 29, (height, width)).astype(np.uint8) for c in "abc"}
    running = paint_client.InThread(environments=({},), command=process.WORKER, model=model)
    with running as client:
        sample = client.get("/api/state").json["samples"][0]

        def start(c, seed):
            mask = client.post("/api/masks", masks[c].tobytes(), "application/octet-stream",
                               **{"X-Size": f"{width},{height}"}).json["id"]
            return client.start({"client": c, "mask": mask, "reference": sample["reference"], "seed": seed,
                                 "name": c, "rounds": ROUNDS}).json["id"]
        for kill in range(20):
            jobs = {c: start(c, 100 * kill + i) for i, c in enumerate(masks)}
            time.sleep(rng.uniform(0, 6))
            paint_client.until(lambda: not paint_client.gone(running.server.pool.processes[0].child.pid))
            os.kill(running.server.pool.processes[0].child.pid, signal.SIGKILL)
            for i, (c, job) in enumerate(jobs.items()):
                state = client.finished(job, 300)
                counts[state["state"]] += 1
                if state["state"] == "done":
                    found = client.get(f"/api/results/{state['results'][0]['id']}.png").body
                    expected = pipe(masks[c], STYLES[sample["name"]], seed=100 * kill + i, name=c)
                    assert np.array_equal(pixels(found), np.asarray(expected)), (kill, c)
        wait_until_ready(client)
    print(counts)
    assert counts["done"] > counts["failed"]
