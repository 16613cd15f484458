"""What is painted in the browser becomes the picture that Pipeline makes of it. With a tiny model."""
import numpy as np
import pytest
from paint_browser import browser, point, server, shown, until, visit  # noqa: F401  (fixtures)
from PIL import Image


@pytest.fixture(scope="module")
def model(browser, tmp_path_factory):  # noqa: F811  (the browser first: without one nothing is made)
    import tiny
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    return tiny.make_model(folder)


@pytest.fixture(scope="module")
def page(model):
    """What the server is: with the model."""
    from paint_client import Started
    with Started("--port", 0, "--model", model, script="tools/paint.py") as started:
        yield started


def test_what_is_painted_becomes_the_pipelines_picture(visit, model, page, tmp_path):  # noqa: F811
    from ldm import Pipeline
    tab = visit(address=page.address)
    until(tab, "page.app.info.worker.state === 'ready'", 300)
    width, height = tab.evaluate("() => page.app.info.model.size")
    tab.mouse.click(*point(tab, width // 3, height // 3))
    tab.click("#generate")
    until(tab, "page.app.result", 300)
    with tab.expect_download() as saved:
        tab.click("#save")
        tab.click("text=Picture, PNG")
    mask = np.frombuffer(shown(tab), np.uint8).reshape(height, width)
    style = tmp_path / "style.png"
    style.write_bytes(page.client.get(f"/api/references/{tab.evaluate('() => page.app.style.id')}.png").body)
    wanted = Pipeline.load(model, "fast")(mask, Image.open(style), seed=7, name="lake")
    found = Image.open(saved.value.path())
    assert found.info["iidm"]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
