"""What the page's server reads from our own files, and what it asks a segmenter. With a stand-in."""

import io
import json
import zipfile

import numpy as np
import pytest
from conftest import ROOT

WHY = "needs starlette and uvicorn: `pip install starlette uvicorn`"
pytest.importorskip("uvicorn", reason=WHY)
pytest.importorskip("starlette", reason=WHY)

from paint_client import RAMP, InThread, error, png, until  # noqa: E402

from ldm import labels  # noqa: E402
from ldm.inference import provenance  # noqa: E402

NOISE_ROUNDS = {"rounds": [{"strength": 0.5, "steps": 2, "from": "noise"}]}


@pytest.fixture(scope="module")
def api():
    with InThread() as client:
        yield client


# ---- what our own files hold -------------------------------------------------------------------------------


def finished(api, **changes):
    return api.finished(api.start(api.order(**changes)).json["id"])["results"][0]["id"]


def made(api, data, kind="image/png"):
    return api.post("/api/made", data, kind, **{"X-Name": "mine"})


@pytest.mark.parametrize("style", [True, False])
def test_a_bundle_brings_back_all_that_made_it(api, style):
    order = {"mask": api.mask(RAMP), "seed": 77, "name": "湖_1", "rounds": NOISE_ROUNDS}
    result = finished(api, **order, **({} if style else {"reference": None}))
    found = made(api, api.get(f"/api/bundles/{result}.zip").body, "application/zip").json
    assert all(found[key] == order[key] for key in ("mask", "seed", "name"))
    assert found["reference"] == (api.style() if style else None)
    assert found["rounds"]["rounds"][0]["steps"] == 2 and found["rounds"]["rounds"][0]["from"] == "noise"


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()


JOB = {"mask": "m.png", "style": None, "seed": 1, "name": "a", "rounds": {}}


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04 nothing more",
        zipped(a="b"),
        zipped(job__json="[]"),
        zipped(job__json=json.dumps(JOB)),
        zipped(job__json=json.dumps({**JOB, "mask": "../../etc/passwd"})),
        zipped(job__json=json.dumps({**JOB, "mask": {"a": 1}})),
        zipped(job__json="[" * 60000),
        zipped(job__json=json.dumps(JOB), m__png=bytes(2**27)),
        zipped(job__json=json.dumps(JOB), m__png=png(RAMP))[:-30],
    ],
    ids=range(9),
)
def test_what_is_no_bundle_is_refused_by_its_name(api, data):
    told = error(made(api, data, "application/zip"), 422)
    assert told["what"] == "mine" and "no bundle" in told["is"]


def test_a_picture_says_what_made_it_and_others_say_nothing(api):
    settings = {"rounds": [{"strength": 0.5, "steps": 3}]}
    note = {"seed": 5, "name": "lake", "settings": settings, "mask": "0" * 32}
    for suffix in ("png", "jpg"):
        file = provenance.encoded(labels.colorize(RAMP), suffix, text=json.dumps(note))
        found = made(api, file, f"image/{suffix}".replace("jpg", "jpeg")).json
        assert {**found, "rounds": 0} == {"seed": 5, "name": "lake", "mask": "0" * 32, "rounds": 0}
        assert found["rounds"]["rounds"][0]["steps"] == 3
    wrong = {"seed": -1, "name": "../a", "settings": {"rounds": 7}, "mask": ["x"], "reference": "../a"}
    found = made(api, provenance.encoded(labels.colorize(RAMP), "png", text=json.dumps(wrong))).json
    assert found == {"seed": 0, "name": "image", "rounds": None, "mask": None, "reference": None}
    assert made(api, png(RAMP)).json is None and made(api, b"no picture").json is None
    error(made(api, b"{}", "application/json"), 415)


# ---- questions to a segmenter ------------------------------------------------------------------------------

SEGMENTER = ROOT / "models/demo-128-segmenter/segmenter.safetensors"     # not opened: the stand-in answers


def test_without_a_segmenter_photographs_are_not_labelled(api):
    assert api.get("/api/state").json["label"] is False
    told = error(api.post("/api/label", png(RAMP)), 501)
    assert "tools/get_weights.py segformer-ade" in told["possible"]


@pytest.fixture(scope="module")
def able():
    with InThread(segmenter=SEGMENTER) as client:
        yield client


def test_a_photograph_gives_a_map_also_while_a_job_runs(able):
    photo = np.dstack([RAMP, RAMP, RAMP])
    job = able.start(able.order(name="slow")).json["id"]
    until(lambda: able.job(job)["state"] == "running")
    made = able.post("/api/label", png(photo), **{"X-Name": "a.png"})
    assert made.status == 201, made.body
    assert made.json["confidence"] == 0.75 and made.json["warnings"] == ["is doubted"]
    assert able.get(f"/api/masks/{made.json['id']}.bin").body == RAMP.tobytes()
    assert able.job(job)["state"] == "running"
    able.request("DELETE", f"/api/jobs/{job}")
    assert able.finished(job)["state"] == "cancelled"


def test_photographs_that_cannot_be_labelled_are_told(able):
    error(able.post("/api/label", b"{}", "application/json"), 415)
    assert "a.png" in error(able.post("/api/label", b"no picture", **{"X-Name": "a.png"}), 422)["what"]
    told = error(able.post("/api/label", png(RAMP), **{"X-Name": "error.png"}), 422)
    assert told["is"] == "is refused by the stand-in"


def test_a_question_whose_process_dies_is_answered(able):
    told = error(able.post("/api/label", png(RAMP), **{"X-Name": "die.png"}), 503)
    assert "signal 9" in told["is"]
    until(lambda: able.get("/api/state").json["worker"]["state"] == "ready")
    assert able.post("/api/label", png(RAMP)).status == 201


def test_a_picture_is_checked(able):
    result = able.finished(able.start(able.order(mask=able.mask(RAMP))).json["id"])["results"][0]["id"]
    reply = able.get(f"/api/results/{result}/check")
    assert reply.json == {"segmenter": "the stand-in", "found": 50.0, "classes": {"0": 25.0}}
    error(able.get(f"/api/results/{'0' * 32}/check"), 404)
