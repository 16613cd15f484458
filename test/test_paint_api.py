"""Every route, limit and refusal of the page's server, with a stand-in for the model process."""

import gzip
import io
import json
import zipfile

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

WHY = "needs starlette and uvicorn: `pip install starlette uvicorn`"
pytest.importorskip("uvicorn", reason=WHY)
pytest.importorskip("starlette", reason=WHY)

import paint_standin  # noqa: E402
from paint_client import BUNDLE, RAMP, SIZE, InThread, error, png  # noqa: E402

from ldm import images, labels  # noqa: E402
from ldm.mask_colors import voc  # noqa: E402
from ldm.paint import app  # noqa: E402

# As SPADE draws: class 0 is red, class 1 green, class 19 is (0, 64, 128).
VOC = np.array([voc(label + 1) for label in range(29)], np.uint8)
assert VOC[[0, 1, 19]].tolist() == [[128, 0, 0], [0, 128, 0], [0, 64, 128]]


@pytest.fixture(scope="module")
def api():
    with InThread() as client:
        yield client


# ---- state and static files --------------------------------------------------------------------------------


def test_state_has_what_the_page_needs(api):
    state = api.get("/api/state").json
    assert state["model"]["size"] == list(SIZE) and state["model"]["latent"] == [32, 24]
    classes = state["model"]["classes"]
    assert sorted(c["id"] for c in classes) == list(range(29))
    assert {c["en"]: c["color"] for c in classes} == dict(zip(labels.NAMES, labels.COLORS.tolist()))
    assert len({c["zh"] for c in classes}) == 29
    presets = {preset["id"]: preset for preset in state["presets"]}
    assert list(presets) == ["draft", "fast", "entry", "paper", "noise"]
    assert presets["fast"]["steps"] == 42 and presets["entry"]["steps"] == 640
    assert len(state["samples"]) == 8 and state["worker"]["state"] == "ready"
    assert state["limits"]["body"] == 8 * 2**20


def test_a_picture_that_was_compiled_for_is_no_measure(api):
    """Its seconds would be promised to all who wait."""
    def measured():
        return {preset["id"]: preset["measured"] for preset in api.get("/api/state").json["presets"]}

    order = {"client": "c", "mask": api.get("/api/state").json["samples"][0]["mask"], "reference": None,
             "rounds": "noise"}
    assert not measured()["noise"]
    for name, known in (("compile", False), ("lake", True)):
        job = api.start({**order, "name": name}).json
        assert api.finished(job["id"])["state"] == "done"
        assert measured()["noise"] == known


def test_the_page_is_asked_for_anew_and_sent_where_it_changed(api):
    page = api.get("/")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    for path, reply in (("/", page), ("/static/index.html", api.get("/static/index.html"))):
        assert reply.headers["cache-control"] == "no-cache"
        assert api.get(path, headers={"If-None-Match": reply.headers["etag"]}).status == 304
    assert api.get("/static/main.js").headers["content-type"].startswith("text/javascript")


def test_the_pages_files_are_sent_packed_to_who_can_unpack(api):
    plain, packed = (api.get("/static/main.js", headers=h) for h in ({}, {"Accept-Encoding": "br, gzip"}))
    assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body == (app.STATIC / "main.js").read_bytes()
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert len(packed.body) < len(plain.body) / 2


def test_every_answer_has_the_headers_that_protect_the_page(api):
    for path in ("/api/state", "/api/nothing", "/nothing", "/static/nothing.js"):
        headers = api.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/static/%00",
        "/api/results/../../etc/passwd",
        "/api/results/..%2f..%2fetc%2fpasswd.png",
        "/api/masks/%2e%2e.png",
        "/api/bundles/.zip",
        "/api/masks/" + "a" * 5000 + ".png",
    ],
)
def test_no_path_leads_out(api, path):
    error(api.get(path), 404)


def test_a_wrong_method_is_refused_in_json(api):
    error(api.request("DELETE", "/api/state"), 405)


# ---- masks -------------------------------------------------------------------------------------------------


def test_ids_come_back_as_they_went(api):
    reply = api.post("/api/masks", RAMP.tobytes(), "application/octet-stream", **{"X-Size": "128,96"})
    assert reply.status == 201
    name = reply.json["id"]
    assert api.get(f"/api/masks/{name}.bin").body == RAMP.tobytes()
    grey = Image.open(io.BytesIO(api.get(f"/api/masks/{name}.png").body))
    assert grey.mode == "L" and np.array_equal(grey, RAMP)
    colored = Image.open(io.BytesIO(api.get(f"/api/masks/{name}.png?colored=1").body))
    assert np.array_equal(colored, labels.colorize(RAMP))
    assert sum(reply.json["shares"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "data, size, word",
    [
        (RAMP.tobytes(), "96,128", "X-Size"),
        (RAMP.tobytes(), "", "X-Size"),
        (RAMP.tobytes()[:-1], "128,96", "bytes"),
        (b"", "128,96", "bytes"),
        (bytes([29]) * 12288, "128,96", "label 29"),
    ],
)
def test_wrong_ids_are_refused(api, data, size, word):
    reply = api.post("/api/masks", data, "application/octet-stream", **{"X-Size": size})
    assert word in error(reply, 422)["is"]


@pytest.mark.parametrize(
    "picture",
    [RAMP, labels.colorize(RAMP), VOC[RAMP], np.dstack([labels.colorize(RAMP), np.full_like(RAMP, 255)])],
    ids=["grey", "our colours", "SPADE's colours", "opaque"],
)
def test_a_file_of_each_kind_gives_its_classes(api, picture):
    reply = api.post("/api/masks", png(picture))
    assert reply.status == 201, reply.body
    assert api.get(f"/api/masks/{reply.json['id']}.bin").body == RAMP.tobytes()


def test_a_palette_of_other_colors_gives_its_indices_and_a_warning(api):
    image = Image.fromarray(RAMP, "P")
    image.putpalette([(7 * i) % 256 if i % 3 else 250 for i in range(768)])
    reply = api.post("/api/masks", png(image))
    assert reply.status == 201 and "palette" in reply.json["warnings"][0]
    assert api.get(f"/api/masks/{reply.json['id']}.bin").body == RAMP.tobytes()


def test_unknown_colors_are_listed_with_their_shares_and_can_be_assigned(api):
    picture = labels.colorize(np.ones(SIZE[::-1], np.uint8))
    picture[:24], picture[24:30] = (1, 2, 3), (9, 9, 10)
    told = error(api.post("/api/masks", png(picture)), 422)
    assert (
        told["code"] == "colors"
        and told["colors"] == [[1, 2, 3, 0.25], [9, 9, 10, 0.0625]]
        and not told["more"]
    )
    reply = api.post("/api/masks?colors=%7B%221,2,3%22:4,%229,9,10%22:5%7D", png(picture))
    assert reply.status == 201
    ids = np.frombuffer(api.get(f"/api/masks/{reply.json['id']}.bin").body, np.uint8).reshape(SIZE[::-1])
    assert set(ids[:24].flat) == {4} and set(ids[24:30].flat) == {5} and set(ids[30:].flat) == {1}


def test_a_photograph_as_mask_lists_64_colors(api):
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    told = error(api.post("/api/masks", png(noise)), 422)
    assert len(told["colors"]) == 64 and told["more"] > 1000


@pytest.mark.parametrize(
    "text", ["x", "[]", '{"1,2":3}', '{"1,2,3":29}', '{"1,2,3":true}', '{"1,2,256":3}', "{" * 2000]
)
def test_a_wrong_assignment_is_refused(api, text):
    from urllib.parse import quote

    assert (
        error(api.post(f"/api/masks?colors={quote(text)}", png(labels.colorize(RAMP))), 400)["what"]
        == "colors"
    )


def test_other_proportions_are_asked_for(api):
    wide = np.repeat(np.arange(4, dtype=np.uint8), 100)[None].repeat(100, 0)  # 400 x 100
    told = error(api.post("/api/masks", png(wide)), 422)
    assert told["code"] == "proportions" and told["size"] == [400, 100]
    shares = [api.post(f"/api/masks?fit={fit}", png(wide)).json["shares"] for fit in ("stretch", "crop")]
    assert shares[0] == {"0": 0.25, "1": 0.25, "2": 0.25, "3": 0.25} and set(shares[1]) == {"1", "2"}
    error(api.post("/api/masks?fit=bend", png(wide)), 400)


def test_a_file_of_another_size_is_read_as_the_tools_read_it(api):
    path = ROOT / "data/samples/masks/lake.png"
    reply = api.post("/api/masks", path.read_bytes())
    assert reply.json["from"] == [512, 384]
    assert api.get(f"/api/masks/{reply.json['id']}.bin").body == images.read_labels(path, SIZE).tobytes()


def test_lossy_and_damaged_masks_are_refused_by_their_name(api):
    told = error(
        api.post("/api/masks", png(RAMP, format="JPEG"), "image/jpeg", **{"X-Name": "lake%20%E6%B9%96.jpg"}),
        422,
    )
    assert told["what"] == "lake 湖.jpg" and "JPEG" in told["is"]
    color = png(labels.colorize(RAMP), format="JPEG")
    for query in ("", "?colors=%7B%221,2,3%22:4%7D"):
        assert "JPEG" in error(api.post(f"/api/masks{query}", color, "image/jpeg"), 422)["is"]
    clear = png(np.dstack([labels.colorize(RAMP), np.full_like(RAMP, 254)]))
    assert "transparent" in error(api.post("/api/masks", clear), 422)["is"]
    for data in (b"", b"<svg onload='alert(1)'/>", png(RAMP)[:200]):
        assert "image" in error(api.post("/api/masks", data), 422)["is"]


def test_greys_that_are_no_classes_are_asked_for(api):
    """As colours are: the page has no option --ignore."""
    stripe = RAMP.copy()
    stripe[:24] = 200
    told = error(api.post("/api/masks", png(stripe)), 422)
    assert told["code"] == "colors" and told["colors"] == [[200, 200, 200, 0.25]]
    reply = api.post("/api/masks?colors=%7B%22200,200,200%22:4%7D", png(stripe))
    assert reply.status == 201, reply.body
    ids = np.frombuffer(api.get(f"/api/masks/{reply.json['id']}.bin").body, np.uint8).reshape(RAMP.shape)
    assert (ids[:24] == 4).all() and np.array_equal(ids[24:], RAMP[24:])


@pytest.mark.parametrize("kind", ["image/svg+xml", "text/html", "multipart/form-data; boundary=x", ""])
def test_other_types_are_refused(api, kind):
    error(api.post("/api/masks", png(RAMP), kind), 415)
    error(api.post("/api/references", png(RAMP), kind), 415)


# ---- references --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_style_is_read_as_the_tools_read_it(api, tmp_path, format):
    photo = images.read_image(ROOT / "data/samples/references/00010.jpg")[:, :500]
    path = tmp_path / "photo"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by the camera
    path.write_bytes(png(photo, format=format, exif=exif))
    name = api.post("/api/references", path.read_bytes(), f"image/{format.lower()}").json["id"]
    stored = Image.open(io.BytesIO(api.get(f"/api/references/{name}.png").body))
    assert np.array_equal(stored, images.read_image(path, SIZE))
    small = Image.open(io.BytesIO(api.get(f"/api/references/{name}.jpg").body))
    assert small.format == "JPEG" and small.size == (128, 96)
    assert b"Exif" not in api.get(f"/api/references/{name}.png").body


def test_a_style_is_cropped_where_the_page_says(api):
    photo = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    name = api.post("/api/references?crop=10,20,128,96", png(photo)).json["id"]
    stored = Image.open(io.BytesIO(api.get(f"/api/references/{name}.png").body))
    assert np.array_equal(stored, photo[20:116, 10:138])
    for crop in ("0,0,301,1", "0,0,0,0", "-1,0,5,5"):
        assert error(api.post(f"/api/references?crop={crop}", png(photo)), 422)["what"] == "crop"
    error(api.post("/api/references?crop=a,b", png(photo)), 400)


# ---- jobs --------------------------------------------------------------------------------------------------


def test_a_job_gives_its_pictures_their_seeds_and_its_events_in_order(api):
    order = api.order(mask=api.mask(RAMP), variations=3, name="lake-湖")
    reply = api.start(order)
    assert reply.status == 202 and reply.json["position"] == 0
    events = api.events(reply.json["id"])
    kinds = [kind for _, kind, _ in events]
    assert kinds[-1] == "done" and "step" in kinds and "preview" in kinds
    assert [number for number, _, _ in events] == sorted({number for number, _, _ in events})
    results = events[-1][2]["results"]
    assert [result["seed"] for result in results] == [5, 6, 7]
    for result in results:
        made = api.get(f"/api/results/{result['id']}.png")
        assert np.array_equal(
            Image.open(io.BytesIO(made.body)), paint_standin.picture(RAMP.tobytes(), SIZE, result["seed"])
        )
        assert (
            "attachment" in made.headers["content-disposition"]
            and "immutable" in made.headers["cache-control"]
        )
        assert Image.open(io.BytesIO(api.get(f"/api/results/{result['id']}.jpg").body)).format == "JPEG"
    state = api.job(reply.json["id"])
    assert state["state"] == "done" and state["results"] == results


def test_a_stream_resumes_after_the_last_event(api):
    name = api.start(api.order()).json["id"]
    events = api.events(name)
    assert [e for e in api.events(name, **{"Last-Event-ID": str(events[-2][0])})] == events[-1:]
    assert api.events(name, **{"Last-Event-ID": "-5"})[-1] == events[-1]
    assert api.events(name, **{"Last-Event-ID": "9" * 400})[-1] == events[-1]


def test_a_bundle_holds_all_that_made_the_picture(api):
    order = api.order(mask=api.mask(RAMP), name="lake")
    name = api.start(order).json["id"]
    result = api.finished(name)["results"][0]["id"]
    archive = zipfile.ZipFile(io.BytesIO(api.get(f"/api/bundles/{result}.zip").body))
    job = json.loads(archive.read("job.json"))
    assert (job["seed"], job["name"], job["preset"], job["mask"]) == (5, "lake", "fast", "masks/lake.png")
    assert np.array_equal(Image.open(io.BytesIO(archive.read("masks/lake.png"))), RAMP)
    assert archive.read("references/lake.png") == api.get(f"/api/references/{order['reference']}.png").body
    assert archive.read("picture.png") == api.get(f"/api/results/{result}.png").body
    assert "--seed 5" in archive.read("README.txt").decode()
    assert set(archive.namelist()) == BUNDLE


@pytest.mark.parametrize(
    "change, status, what",
    [
        ({"client": ""}, 422, "client"),
        ({"client": "a/b"}, 422, "client"),
        ({"client": 5}, 422, "client"),
        ({"name": "../x"}, 422, "name"),
        ({"name": "a.b"}, 422, "name"),
        ({"name": "x" * 65}, 422, "name"),
        ({"seed": -1}, 422, "seed"),
        ({"seed": 2**70}, 422, "seed"),
        ({"seed": 1.5}, 422, "seed"),
        ({"seed": True}, 422, "seed"),
        ({"variations": 0}, 422, "variations"),
        ({"variations": 5}, 422, "variations"),
        ({"rounds": "slow"}, 422, "rounds"),
        ({"rounds": 5}, 422, "rounds"),
        ({"rounds": {"rounds": []}}, 422, "rounds"),
        ({"rounds": {"rounds": [{"strength": 2, "steps": 5}]}}, 422, "rounds"),
        ({"rounds": {"rounds": [{"strength": float("nan"), "steps": 5}]}}, 422, "rounds"),
        ({"rounds": {"rounds": [{"strength": 0.9, "steps": 900}] * 3}}, 422, "rounds"),
        ({"rounds": {"sampler": "euler", "rounds": [{"strength": 0.5, "steps": 5}]}}, 422, "rounds"),
        ({"rounds": {"guidence": 2, "rounds": [{"strength": 0.5, "steps": 5}]}}, 422, "rounds"),
        ({"mask": "0" * 32}, 404, "the mask"),
        ({"mask": "../../etc"}, 400, "mask"),
        ({"mask": None}, 400, "mask"),
        ({"reference": "0" * 32}, 404, "the reference"),
        ({"reference": None}, 422, "reference"),
        ({"model": "/etc"}, 400, "model"),
    ],
)
def test_wrong_jobs_are_refused_before_they_wait(api, change, status, what):
    assert error(api.start(api.order(**change)), status)["what"] == what


def test_a_job_from_noise_needs_no_style(api):
    rounds = {"rounds": [{"strength": 0.5, "steps": 3, "from": "noise"}]}
    reply = api.start(api.order(rounds=rounds, reference=None))
    assert reply.status == 202 and api.finished(reply.json["id"])["state"] == "done"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 60000, b'"x"'])
def test_what_is_not_a_job_is_refused(api, body):
    error(api.post("/api/jobs", body, "application/json"), 400)


def test_an_error_of_the_model_is_told_in_three_parts(api):
    state = api.finished(api.start(api.order(name="error")).json["id"])
    assert state["state"] == "failed"
    assert state["error"] == {
        "what": "error",
        "is": "is refused by the stand-in",
        "possible": "use another name",
    }
    state = api.finished(api.start(api.order(name="full")).json["id"])
    assert (state["error"]["what"], state["error"]["possible"]) == ("a/file", "free some space")


def test_what_is_gone_is_404(api):
    for path in (
        "jobs/" + "0" * 32,
        "jobs/x/events",
        "results/" + "0" * 32 + ".png",
        "bundles/" + "0" * 32 + ".zip",
        "masks/" + "0" * 32 + ".png",
        "references/" + "0" * 32 + ".jpg",
    ):
        error(api.get(f"/api/{path}"), 404)
    error(api.request("DELETE", "/api/jobs/" + "0" * 32), 404)
