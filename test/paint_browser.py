"""The page in a real browser: fixtures of the tests of ldm/paint/static, which are skipped without one."""
from __future__ import annotations

import io
import shutil
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from PIL import Image

from ldm.labels import NAMES

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "ldm/paint/static"
NEEDS = "needs {}: apt-get install chromium, pip install playwright (with CI=true test/run.sh does both)"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run", "--disable-quic"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a page whose model process is the stand-in."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from paint_client import Started
    segmenter = ROOT / "models/demo-128-segmenter/segmenter.safetensors"  # not opened: the stand-in answers
    with Started("--port", 0, "--segmenter", segmenter, env={"STANDIN_STEP": "0.004"}) as started:
        yield started.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless."""
    playwright = pytest.importorskip("playwright.sync_api", reason=NEEDS.format("Playwright"))
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip(NEEDS.format("Chromium"))
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, server: str) -> Iterator[Any]:
    """`visit(fragment, **context options)` opens the page in a profile of its own (or in `context`) -> page.

    A request to another host, an error in the page or a line in its console fails the test.
    """
    contexts, faults = [], []

    def watch(context, home):
        def only_home(route):
            if not route.request.url.startswith(home):
                faults.append(f"request to {route.request.url}")
                return route.abort()
            return route.continue_()
        context.route("**/*", only_home)

    def opened(fragment="", context=None, address=server, ready=True, **options):
        if context is None:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-US",
                                             "accept_downloads": True, **options})
            contexts.append(context)
            watch(context, address)
        page = context.new_page()
        page.set_default_timeout(60000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: m.type == "error" and "Failed to load resource" not in m.text
                and faults.append(m.text))
        page.goto(address + fragment)
        if ready:
            until(page, "window.page && window.page.ready")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


def until(page: Any, expression: str, seconds: float = 60) -> Any:
    """Wait until a JavaScript expression is true -> its value. Playwright's own waiting needs eval, which the
    page's Content-Security-Policy refuses."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = page.evaluate(f"() => {expression}")
        if value:
            return value
        page.wait_for_timeout(20)
    raise AssertionError(f"not within {seconds} s: {expression}")


def same(one: bytes, other: bytes) -> bool:
    """Whether two maps are equal. To print how they differ, pytest would take many minutes."""
    return one == other


def shown(page: Any) -> bytes:
    """The ids of the page's map."""
    return bytes(page.evaluate("() => [...page.app.map.data]"))


def point(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a point of the map is on the screen."""
    return tuple(page.evaluate("""([x, y]) => {
        const view = page.mask, scale = view.viewport.scaleIn(view.size);
        const box = view.canvas.getBoundingClientRect();
        return [box.x + box.width / 2 + (x - view.viewport.x) * scale,
                box.y + box.height / 2 + (y - view.viewport.y) * scale];
    }""", [x, y]))


# ---- what a user does --------------------------------------------------------------------------------------

SKY, LAKE, TREE = NAMES.index("sky"), NAMES.index("lake"), NAMES.index("tree")
SIZE = (128, 96)


def png(array, palette=None):
    image = Image.fromarray(array)
    if palette is not None:
        image = image.convert("P") if image.mode == "P" else image
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def give(page, name, data):
    """Open a file as by the dialog."""
    kind = {"png": "image/png", "jpg": "image/jpeg", "zip": "application/zip"}[name.rsplit(".")[-1]]
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})


def stripes(*classes):
    """A map of columns of classes."""
    return np.repeat(np.repeat(np.array(classes, np.uint8)[None], SIZE[0] // len(classes), 1), SIZE[1], 0)


def generate(page):
    before = page.evaluate("() => page.app.result?.results[0].id ?? ''")
    page.click("#generate")
    until(page, f"!page.runner.active && page.app.result && page.app.result.results[0].id !== '{before}'")


def ink(page, name):
    page.click(f"#palette [data-id='{NAMES.index(name)}']")
