"""The page as its user meets it, in Chromium, on a server whose model process is the stand-in."""
import io

import numpy as np
import paint_browser
from paint_browser import (
    LAKE,
    SIZE,
    SKY,
    TREE,
    generate,
    give,
    ink,
    png,
    point,
    same,
    shown,
    stripes,
    until,
)
from PIL import Image

from ldm.labels import COLORS, NAMES

browser, server, visit = paint_browser.browser, paint_browser.server, paint_browser.visit    # fixtures

# ---- painting ----------------------------------------------------------------------------------------------

def test_mouse_touch_and_pen_paint_and_undo_takes_it_back(visit):
    page = visit(has_touch=True)
    start = shown(page)
    ink(page, "tree")
    (ax, ay), (bx, by) = point(page, 20, 30), point(page, 90, 30)
    page.mouse.move(ax, ay)
    page.mouse.down()
    page.mouse.move(bx, by, steps=5)
    page.mouse.up()
    by_mouse = np.frombuffer(shown(page), np.uint8).reshape(96, 128)
    assert (by_mouse[30, 20:90] == TREE).all() and set(by_mouse[30, :10]) != {TREE}

    cdp = page.context.new_cdp_session(page)
    touch = [point(page, x, 60) for x in (20, 60, 100)]
    for kind, (x, y) in zip(("touchStart", "touchMove", "touchMove"), touch):
        cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert (np.frombuffer(shown(page), np.uint8).reshape(96, 128)[60, 21:99] == TREE).all()

    page.check("#pressure")
    for kind, x in (("mousePressed", 20), ("mouseMoved", 100), ("mouseReleased", 100)):
        px, py = point(page, x, 80)
        cdp.send("Input.dispatchMouseEvent", {"type": kind, "x": px, "y": py, "button": "left", "buttons": 1,
                                              "clickCount": 1, "pointerType": "pen", "force": 0.1})
    by_pen = np.frombuffer(shown(page), np.uint8).reshape(96, 128)
    assert (by_pen[80, 20:100] == TREE).all()
    assert 0 < (by_pen[70:90, 50] == TREE).sum() < (by_pen[50:70, 50] == TREE).sum()     # a light pen is thin
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert same(shown(page), start)
    page.keyboard.press("Control+y")
    assert same(shown(page), by_mouse.tobytes())


def test_two_fingers_zoom_and_paint_nothing(visit):
    page = visit(has_touch=True, viewport={"width": 390, "height": 844})
    start, (x, y) = shown(page), point(page, 64, 48)
    scale = page.evaluate("() => page.viewport.scaleIn(page.mask.size)")
    cdp = page.context.new_cdp_session(page)

    def fingers(kind, *distances):
        for d in distances:
            points = [{"x": x - d, "y": y, "id": 0}, {"x": x + d, "y": y, "id": 1}]
            cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if d else []})
    first = {"x": x - 20, "y": y, "id": 0}
    cdp.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [first]})
    fingers("touchStart", 20)
    fingers("touchMove", 30, 40)
    fingers("touchEnd", 0)
    assert same(shown(page), start)
    assert page.evaluate("() => page.viewport.scaleIn(page.mask.size)") > 1.5 * scale


def test_fill_line_rectangle_lasso_eraser_and_picker(visit):
    page = visit()
    give(page, "two.png", png(stripes(SKY, LAKE)))
    until(page, "page.app.name === 'two'")
    loaded = shown(page)
    at = lambda x, y: shown(page)[y * 128 + x]                       # noqa: E731
    drag = lambda a, b: (page.mouse.move(*point(page, *a)), page.mouse.down(),       # noqa: E731
                         page.mouse.move(*point(page, *b), steps=3), page.mouse.up())
    ink(page, "tree")
    page.keyboard.press("g")
    page.mouse.click(*point(page, 10, 10))
    assert at(0, 0) == TREE and at(64, 0) == LAKE
    page.keyboard.press("r")
    drag((70.5, 10.5), (80.5, 20.5))
    assert at(70, 10) == TREE and at(80, 20) == TREE and at(81, 20) == LAKE
    page.keyboard.press("p")
    for corner in ((90, 10), (120, 10), (105, 60), (90, 10)):
        page.mouse.click(*point(page, *corner))
    assert at(105, 30) == TREE and at(91, 55) == LAKE
    page.keyboard.press("l")
    drag((66.5, 90.5), (126.5, 90.5))
    assert at(66, 90) == at(126, 90) == TREE
    page.keyboard.press("e")
    page.evaluate("() => page.toolbar.size(128)")
    drag((64, 48), (66, 48))
    assert shown(page)[48 * 128 + 2:49 * 128 - 2] == loaded[48 * 128 + 2:49 * 128 - 2]
    page.keyboard.press("i")
    page.mouse.click(*point(page, 100, 48))
    assert page.get_attribute("#palette [aria-checked=true]", "data-id") == str(LAKE)
    page.click("#map-menu")
    page.click("text=Mirror left and right")
    assert shown(page)[48 * 128] == LAKE


def test_keys_on_the_canvas_and_in_the_page(visit):
    page = visit()
    page.focus("#mask-canvas")
    ink(page, "tree")
    page.focus("#mask-canvas")
    for key in ("ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert shown(page)[58 * 128 + 65] == TREE
    assert "tree" in page.inner_text("#status")
    page.keyboard.press("/")
    page.keyboard.type("瀑")
    page.keyboard.press("Enter")
    assert page.get_attribute("#palette [aria-checked=true]", "data-id") == str(NAMES.index("waterfall"))
    page.keyboard.press("5")
    assert NAMES[page.evaluate("() => page.app.ink")] == "building"
    size = page.evaluate("() => page.app.brush")
    page.keyboard.press("]")
    assert page.evaluate("() => page.app.brush") > size
    page.keyboard.press("n")
    assert page.get_attribute("#network", "aria-pressed") == "true"
    page.keyboard.press("?")
    page.wait_for_selector("dialog dt")
    assert page.locator("dialog dt").count() > 10
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


# ---- loading -----------------------------------------------------------------------------------------------

def test_each_kind_of_mask(visit):
    page = visit()
    start, wanted = shown(page), stripes(SKY, LAKE, TREE, 28)
    palette = Image.fromarray(wanted)
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    kinds = {"grey": png(wanted), "palette": buffer.getvalue(), "ours": png(COLORS[wanted])}
    for name, data in kinds.items():
        page.evaluate("() => page.app.load(page.app.map.clone(), 'image')")
        give(page, f"{name}.png", data)
        until(page, f"page.app.name === '{name}'")
        assert same(shown(page), wanted.tobytes()), name
    page.keyboard.press("Control+z")
    assert same(shown(page), start)                                     # loading is one step


def test_unknown_colours_and_other_proportions_are_asked_for(visit):
    page = visit()
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (9, 200, 31), (77, 1, 250)
    give(page, "own.png", png(rgb))
    page.wait_for_selector("dialog .colors select")
    assert page.is_disabled("dialog [type=submit]")
    page.select_option("dialog select[aria-label='9, 200, 31']", str(TREE))
    page.select_option("dialog select[aria-label='77, 1, 250']", str(SKY))
    page.click("dialog [type=submit]")
    page.click("dialog >> text=Stretch")
    until(page, "page.app.name === 'own'")
    assert same(shown(page), stripes(TREE, SKY).tobytes())


def test_a_wrong_file_is_named_with_its_fault(visit):
    page = visit()
    before = shown(page)
    give(page, "lake.png", b"no picture")
    page.wait_for_selector("#error:not([hidden])")
    assert "lake.png" in page.inner_text("#error") and "image" in page.inner_text("#error")
    give(page, "bundle.zip", b"PK\x03\x04 nothing more")
    until(page, "document.querySelector('#error').innerText.includes('bundle.zip')")
    assert same(shown(page), before)


def test_a_photograph_becomes_style_or_lies_under_the_mask(visit):
    page = visit()
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 100, 3), np.uint8)).save(buffer, "JPEG")
    give(page, "hill.jpg", buffer.getvalue())
    page.click("dialog >> text=Trace it")
    page.wait_for_selector("#underlay-row:not([hidden])")
    give(page, "hill.jpg", buffer.getvalue())
    page.click("dialog >> text=Its light and colours")
    page.wait_for_selector("#crop canvas")
    assert page.evaluate("() => page.app.style.box") == [10, 0, 80, 60]
    page.focus("#crop canvas")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("() => page.app.style.box") == [8, 0, 80, 60]
    generate(page)
    until(page, "Object.values(localStorage).some((draft) => draft.includes(page.app.style.id))")
    page.reload()                                                   # the server gives the photograph back
    until(page, "window.page && page.ready")
    assert page.evaluate("() => [page.app.style.kind, page.app.style.box[2]]") == ["upload", SIZE[0]]
    generate(page)
    page.click("#style-none")
    generate(page)
    assert page.evaluate("() => page.app.result.results.length") == 1


def test_a_photograph_is_labelled_and_its_picture_checked(visit):
    page = visit()
    photo = Image.new("RGB", (160, 96), (LAKE, 90, 7))               # the stand-in labels it by its red
    photo.putpixel((0, 0), (TREE, 0, 0))
    buffer = io.BytesIO()
    photo.save(buffer, "WEBP", lossless=True)
    page.set_input_files("#file", {"name": "my lake.webp", "mimeType": "image/webp",
                                   "buffer": buffer.getvalue()})
    page.click("dialog >> text=Paint it anew")
    until(page, "page.app.name === 'my_lake' && page.app.style.kind === 'upload'")
    assert shown(page).count(LAKE) > 12000 and "is doubted" in page.inner_text("#toast")
    assert page.is_visible("#underlay-row") and not page.is_visible("#check")
    generate(page)
    page.click("#check")
    page.wait_for_selector("dialog meter")
    assert "50%" in page.inner_text("dialog") and "25%" in page.inner_text("dialog .colors")
    page.keyboard.press("Escape")
    page.evaluate("() => { page.app.result.results[0].id = '0'.repeat(32); }")
    page.click("#check")
    until(page, "document.querySelector('#error').innerText.includes('generate it again')")
