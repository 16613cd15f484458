"""The page as its user meets it: generating, reloading, passing pictures on, and how it looks."""
import gzip
import io
import json
import re
import shutil
import subprocess
import zipfile

import numpy as np
import paint_browser
import pytest
from paint_browser import (
    SKY,
    STATIC,
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

from ldm.inference.provenance import encoded
from ldm.labels import COLORS

browser, server, visit = paint_browser.browser, paint_browser.server, paint_browser.visit    # fixtures

# ---- jobs --------------------------------------------------------------------------------------------------

def test_generate_with_previews_variations_history_and_live(visit):
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
    assert same(shown(page), drawn) and page.evaluate("() => page.app.name") == "lake"
    page.hover("#history li:first-child")
    page.click("#history li:first-child .remove")
    until(page, "document.querySelectorAll('#history li').length === 2")


def test_reload_in_the_middle_of_a_job_then_cancel(visit):
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


def test_an_error_of_a_job_is_shown_in_words(visit):
    page = visit()
    page.evaluate("() => { page.app.name = 'error'; }")
    page.click("#generate")
    page.wait_for_selector("#error:not([hidden])")
    assert "refused by the stand-in" in page.inner_text("#error") and page.is_visible("#generate")


def test_two_tabs_have_drafts_of_their_own(visit):
    one = visit()
    one.mouse.click(*point(one, 64, 20))
    drawn = shown(one)
    until(one, "localStorage.length > 0 && page.drafted")
    two = visit(context=one.context)
    assert two.evaluate("() => page.app.client") != one.evaluate("() => page.app.client")
    assert shown(two) != drawn
    two.click("text=Continue it")
    until(two, f"page.app.map.at(64, 20) === {drawn[20 * 128 + 64]}")
    assert same(shown(two), drawn)
    one.reload()
    until(one, "window.page && page.ready")
    assert same(shown(one), drawn) and not one.is_visible("#banner")


# ---- passing it on -----------------------------------------------------------------------------------------

def test_a_link_and_a_bundle_bring_everything_back(visit):
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
    assert same(shown(other), drawn) and other.evaluate(state) == wanted
    assert other.evaluate("() => [page.app.style.name, location.hash]") == ["lake", ""]
    third = visit()
    give(third, "again.zip", bundle)
    until(third, "page.app.settings.seed === 4321")
    assert same(shown(third), drawn) and third.evaluate(state) == wanted
    generate(third)                                                 # the same style, so the same picture
    for suffix in ("png", "jpg"):
        fourth = visit()
        give(fourth, f"picture.{suffix}", encoded(COLORS[stripes(SKY)], suffix, text=json.dumps(note)))
        until(fourth, "page.app.settings.seed === 4321")
        assert same(shown(fourth), drawn) and fourth.evaluate(state) == wanted
    assert "job.json" in zipfile.ZipFile(io.BytesIO(bundle)).namelist()


def test_a_damaged_link_is_said_and_a_detailed_map_has_none(visit):
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
def test_nothing_is_cut_off_and_axe_finds_nothing_serious(visit, axe, width, options):
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
        page.click("#drawer")                                       # the drawer does not lie over its button
        assert not page.is_visible("#sheet-side")
        page.click("#drawer")
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
        .flatMap((kind) => performance.getEntriesByType(kind)).filter((e) => !e.name.includes("/api/"))
        .map((e) => [e.name.split("/").pop(), e.transferSize, e.decodedBodySize])""")
    names, sent, plain = zip(*sizes)
    print(len(names), "files,", sum(sent), "bytes sent,", sum(plain), "unpacked")
    assert 30_000 < sum(sent) < 75_000 and 100_000 < sum(plain) < 150_000
    assert f"words-{locale[:2]}.js" in names and not {"dialogs.js", "crop.js"} & set(names)


def test_all_files_of_the_page_together_are_light():
    """Both languages and what is loaded later too: packed, as they are sent, and as they lie on the disk."""
    files = [file.read_bytes() for file in STATIC.iterdir()]
    packed, plain = sum(len(gzip.compress(data, 6)) for data in files), sum(map(len, files))
    print(packed, plain)
    assert packed < 75_000 and plain < 175_000


def test_the_browser_asks_for_every_module_at_once():
    """What main.js imports, however deep, is named in the page: otherwise each depth costs a journey more."""
    found, left = set(), ["main.js"]
    while left:
        found.add(name := left.pop())
        imported = re.findall(r'^import .* from "\./(.+?)";', (STATIC / name).read_text("utf-8"), re.M)
        left += set(imported) - found
    page = (STATIC / "index.html").read_text("utf-8")
    named = re.findall(r"rel=modulepreload href=static/(\S+)>", page)
    named += re.findall(r'<script type="module" (?:async )?src="static/(\S+)">', page)
    assert len(found) > 20 and sorted(named) == sorted(found)


def test_no_file_names_another_host():
    for file in STATIC.iterdir():
        addresses = re.findall(r"https?://[^\s\"'`)]+", file.read_text(encoding="utf-8"))
        assert all(a.startswith("http://www.w3.org/") for a in addresses), file.name


def test_every_word_has_both_languages(visit):
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
