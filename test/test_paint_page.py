"""The page as its user meets it, in Chromium, on a server whose model process is the stand-in."""
import gzip
import io
import json
import re
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
from paint_browser import STATIC, browser, point, server, shown, until, visit  # noqa: F401  (fixtures)
from PIL import Image

from ldm.inference.provenance import encoded
from ldm.labels import COLORS, NAMES

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


# ---- painting ----------------------------------------------------------------------------------------------

def test_mouse_touch_and_pen_paint_and_undo_takes_it_back(visit):  # noqa: F811
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
    assert shown(page) == start
    page.keyboard.press("Control+y")
    assert shown(page) == by_mouse.tobytes()


def test_two_fingers_zoom_and_paint_nothing(visit):  # noqa: F811
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
    assert shown(page) == start
    assert page.evaluate("() => page.viewport.scaleIn(page.mask.size)") > 1.5 * scale


def test_fill_line_rectangle_lasso_eraser_and_picker(visit):  # noqa: F811
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


def test_keys_on_the_canvas_and_in_the_page(visit):  # noqa: F811
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

def test_each_kind_of_mask(visit):  # noqa: F811
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
        assert shown(page) == wanted.tobytes(), name
    page.keyboard.press("Control+z")
    assert shown(page) == start                                     # loading is one step


def test_unknown_colours_and_other_proportions_are_asked_for(visit):  # noqa: F811
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
    assert shown(page) == stripes(TREE, SKY).tobytes()


def test_a_wrong_file_is_named_with_its_fault(visit):  # noqa: F811
    page = visit()
    before = shown(page)
    give(page, "lake.png", png(np.full((96, 128), 200, np.uint8)))
    page.wait_for_selector("#error:not([hidden])")
    assert "lake.png" in page.inner_text("#error") and "200" in page.inner_text("#error")
    give(page, "bundle.zip", b"PK\x03\x04 nothing more")
    until(page, "document.querySelector('#error').innerText.includes('bundle.zip')")
    assert shown(page) == before


def test_a_photograph_becomes_style_or_lies_under_the_mask(visit):  # noqa: F811
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


def test_a_photograph_is_labelled_and_its_picture_checked(visit):  # noqa: F811
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


# ---- jobs --------------------------------------------------------------------------------------------------

def test_generate_with_previews_variations_history_and_live(visit):  # noqa: F811
    page = visit()
    page.evaluate("""() => { window.told = [];
        const tell = page.runner.tell; page.runner.tell = (e, d) => { told.push(e); tell(e, d); }; }""")
    page.click("[data-key=variations-2]")
    generate(page)
    told = page.evaluate("() => told")
    assert told[0] == "sending" and "preview" in told and "step" in told and told[-1] == "done"
    pixel = """(bitmap) => { const c = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
        c.drawImage(bitmap, 0, 0); return [...c.getImageData(0, 0, 1, 1).data.slice(0, 3)]; }"""
    first, second = page.evaluate(f"() => page.app.result.results.map((r) => ({pixel})(r.bitmap))")
    sky = COLORS[shown(page)[0]] ^ np.array([0, 0, 7], np.uint8)      # the stand-in mixes the seed in
    assert first == sky.tolist() and second == [*sky[:2].tolist(), int(COLORS[shown(page)[0]][2] ^ 8)]
    assert page.locator("#variants [role=radio]").count() == 2
    drawn = shown(page)
    page.click("[data-key=variations-1]")
    page.click("#new")
    page.click("dialog >> text=forest")
    until(page, "page.app.name === 'forest'")
    assert shown(page) != drawn
    page.click("label.switch")                                       # live: runs at once, and after a stroke
    until(page, "document.querySelectorAll('#history li').length === 2")
    page.mouse.click(*point(page, 64, 48))
    until(page, "document.querySelectorAll('#history li').length === 3")
    page.click("label.switch")
    page.click("#history li:last-child .thumb")
    until(page, "page.app.settings.variations === 2")
    assert shown(page) == drawn and page.evaluate("() => page.app.name") == "lake"
    page.hover("#history li:first-child")
    page.click("#history li:first-child .remove")
    until(page, "document.querySelectorAll('#history li').length === 2")


def test_reload_in_the_middle_of_a_job_then_cancel(visit):  # noqa: F811
    page = visit()
    page.evaluate("() => { page.app.name = 'slow'; }")              # the stand-in takes a second a step
    page.click("#generate")
    until(page, "/step 1 /.test(document.querySelector('#progress').innerText)")
    job = page.evaluate("() => page.runner.job.id")
    page.reload()
    until(page, "window.page && page.ready && page.runner.job")
    assert page.evaluate("() => page.runner.job.id") == job
    until(page, "/step [2-9] /.test(document.querySelector('#progress').innerText)")
    page.keyboard.press("Escape")
    until(page, "!page.runner.active")
    assert "Cancelled" in page.inner_text("#progress") and page.is_visible("#generate")


def test_an_error_of_a_job_is_shown_in_words(visit):  # noqa: F811
    page = visit()
    page.evaluate("() => { page.app.name = 'error'; }")
    page.click("#generate")
    page.wait_for_selector("#error:not([hidden])")
    assert "refused by the stand-in" in page.inner_text("#error") and page.is_visible("#generate")


def test_two_tabs_have_drafts_of_their_own(visit):  # noqa: F811
    one = visit()
    one.mouse.click(*point(one, 64, 20))
    drawn = shown(one)
    until(one, "localStorage.length > 0 && page.drafted")
    two = visit(context=one.context)
    assert two.evaluate("() => page.app.client") != one.evaluate("() => page.app.client")
    assert shown(two) != drawn
    two.click("text=Continue it")
    until(two, f"page.app.map.at(64, 20) === {drawn[20 * 128 + 64]}")
    assert shown(two) == drawn
    one.reload()
    until(one, "window.page && page.ready")
    assert shown(one) == drawn and not one.is_visible("#banner")


# ---- passing it on -----------------------------------------------------------------------------------------

def test_a_link_and_a_bundle_bring_everything_back(visit):  # noqa: F811
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.mouse.click(*point(page, 30, 20))
    page.fill("#seed", "4321")
    page.dispatch_event("#seed", "change")
    page.select_option("#s-sampler", "ddim")
    page.click("#link")
    until(page, "!document.querySelector('#toast').hidden")
    link = page.evaluate("() => navigator.clipboard.readText()")
    generate(page)
    with page.expect_download() as saved:
        page.keyboard.press("Control+s")
    bundle = saved.value.path().read_bytes()
    note = {"seed": 4321, "name": "lake", "settings": page.evaluate("() => page.app.settings.custom"),
            "mask": page.evaluate("() => page.runner.posted.id")}
    with page.expect_download() as saved:
        page.click("#save")
        page.click("text=Mask, grey PNG")
    drawn = shown(page)
    assert saved.value.suggested_filename == "lake.png"
    assert np.asarray(Image.open(saved.value.path())).tobytes() == drawn
    state = "() => [page.app.settings.seed, page.app.settings.custom.sampler, page.app.name]"
    wanted = [4321, "ddim", "lake"]
    assert page.evaluate(state) == wanted

    other = visit(link[link.index("#"):])
    assert shown(other) == drawn and other.evaluate(state) == wanted
    assert other.evaluate("() => [page.app.style.name, location.hash]") == ["lake", ""]
    third = visit()
    give(third, "again.zip", bundle)
    until(third, "page.app.settings.seed === 4321")
    assert shown(third) == drawn and third.evaluate(state) == wanted
    generate(third)                                                 # the same style, so the same picture
    for suffix in ("png", "jpg"):
        fourth = visit()
        give(fourth, f"picture.{suffix}", encoded(COLORS[stripes(SKY)], suffix, text=json.dumps(note)))
        until(fourth, "page.app.settings.seed === 4321")
        assert shown(fourth) == drawn and fourth.evaluate(state) == wanted
    assert "job.json" in zipfile.ZipFile(io.BytesIO(bundle)).namelist()


def test_a_damaged_link_is_said_and_a_detailed_map_has_none(visit):  # noqa: F811
    page = visit("#m=128x96.AAAA&s=3")
    assert "damaged" in page.inner_text("#toast")
    noise = np.random.default_rng(0).integers(0, 29, (96, 128), np.uint8)
    give(page, "noise.png", png(noise))
    until(page, "page.app.name === 'noise'")
    page.click("#link")
    until(page, "document.querySelector('#toast').innerText.includes('bundle')")


# ---- how it looks ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("width, options", [(1280, {}), (1280, {"color_scheme": "dark", "locale": "zh-CN"}),
                                            (800, {}), (390, {}), (360, {"locale": "zh-CN"})])
def test_nothing_is_cut_off_and_axe_finds_nothing_serious(visit, axe, width, options):  # noqa: F811
    page = visit(viewport={"width": width, "height": 800}, **options)
    generate(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    cut = page.evaluate("""() =>
        [...document.querySelectorAll('.top *, .viewbar *, .runbar *, .toolgrid *, .dock *')]
        .filter((n) => n.offsetParent && n.getBoundingClientRect().right > innerWidth + 1)
        .map((n) => n.id || n.className)""")
    assert not cut
    if width < 700:
        for sheet in ("palette", "side", "history"):
            page.click(f".dock [data-sheet={sheet}]")
            assert page.is_visible(f"#sheet-{sheet}")
        page.click(".dock [data-sheet=palette]")
        ink(page, "tree")
        assert not page.is_visible("#sheet-palette")
    elif width < 1100:
        page.click("#drawer")
        assert page.is_visible("#sheet-side")
    if axe:
        page.evaluate(axe)
        found = page.evaluate("async () => (await axe.run()).violations")
        serious = [(v["id"], n["html"][:150]) for v in found if v["impact"] in ("serious", "critical")
                   for n in v["nodes"]]
        assert not serious


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """axe-core's source, from the npm registry; without it only the layout is tested."""
    if shutil.which("npm") is None:
        return ""
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run(["npm", "pack", "--silent", "axe-core@4"], cwd=folder, capture_output=True,
                            text=True)
    if packed.returncode:
        return ""
    subprocess.run(["tar", "xzf", packed.stdout.strip()], cwd=folder, check=True)
    return (folder / "package/axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("locale", ("en-US", "zh-CN"))
def test_what_the_opened_page_loads_is_light(visit, locale):  # noqa: F811
    page = visit(locale=locale)
    sizes = page.evaluate("""() => ["navigation", "resource"]
        .flatMap((kind) => performance.getEntriesByType(kind))
        .filter((e) => !e.name.includes("/api/")).map((e) => [e.name.split("/").pop(), e.transferSize])""")
    names, sent = [name for name, _ in sizes], sum(size for _, size in sizes)
    print(len(names), "files,", sent, "bytes")
    assert 30_000 < sent < 75_000                                   # they are sent packed
    assert f"words-{locale[:2]}.js" in names and "dialogs.js" not in names


def test_all_files_of_the_page_together_are_light():
    """Both languages and what is loaded later too: packed, as they are sent, and as they lie on the disk."""
    files = [file.read_bytes() for file in STATIC.iterdir()]
    packed, plain = sum(len(gzip.compress(data, 6)) for data in files), sum(map(len, files))
    print(packed, plain)
    assert packed < 75_000 and plain < 175_000


def test_no_file_names_another_host():
    for file in STATIC.iterdir():
        addresses = re.findall(r"https?://[^\s\"'`)]+", file.read_text(encoding="utf-8"))
        assert all(a.startswith("http://www.w3.org/") for a in addresses), file.name


def test_every_word_has_both_languages(visit):  # noqa: F811
    page = visit()
    one, other = page.evaluate("""async () => Promise.all(['en', 'zh'].map(async (l) =>
        Object.entries((await import(`/static/words-${l}.js`)).default)))""")
    assert [key for key, _ in one] == [key for key, _ in other] and all(words for _, words in one + other)
    assert not page.evaluate("""() => [...document.querySelectorAll('[data-t]')]
        .filter((n) => n.textContent === n.dataset.t).map((n) => n.dataset.t)""")
    page.click("#language")
    until(page, "document.documentElement.lang === 'zh-CN'")
    assert page.inner_text("#generate").startswith("生成")
    assert page.inner_text("#palette [data-id='1'] .name") == "天空"
