"""The page's picture, Pipeline's and that of tools/infer.py are the same, bit for bit. With a tiny model."""

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

import tiny  # noqa: E402
from paint_client import Started, until  # noqa: E402
from test_label_photos import segmenter  # noqa: E402, F401  (a fixture)

from ldm import images  # noqa: E402
from ldm.datasets.procedural import make_scene  # noqa: E402
from ldm.inference import rounds  # noqa: E402

CLEAR = {
    "rounds": [
        {"strength": 0.5, "steps": 3, "guidance": 2.0},
        {"strength": 0.4, "steps": 2, "guidance": 1.5, "color_transfer": "exact"},
    ]
}
NOISE = {"sampler": "ddpm", "rounds": [{"strength": 0.5, "steps": 4, "from": "noise"}]}
ENTRY = {"pixels": "entry", **CLEAR}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    return tiny.make_model(folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return tiny.make_pairs(tmp_path_factory.mktemp("pairs"), 1, (128, 96))


@pytest.fixture(scope="module")
def page(model, segmenter):  # noqa: F811
    with Started("--port", 0, "--model", model, "--segmenter", segmenter, script="tools/paint.py") as server:
        server.client.patience = 600                            # a segmenter may have to be compiled
        until(lambda: server.client.get("/api/state").json["worker"]["state"] == "ready", 300)
        yield server.client
        status, said = server.end()
        assert status == 130 and said.endswith("interrupted\n")


@pytest.mark.parametrize("size", [(256, 192), (300, 180)])
def test_a_photograph_is_labelled_as_by_the_tool(page, segmenter, tmp_path, size):  # noqa: F811
    photo = tmp_path / "photos/scene.jpg"
    photo.parent.mkdir()
    images.write_image(photo, make_scene(9, 9, size)[0])
    reply = page.post("/api/label", photo.read_bytes(), "image/jpeg")
    assert reply.status == 201, reply.body
    run = tiny.run_tool("label_photos", "--photos", photo.parent, "--output", tmp_path / "out",
                        "--segmenter", segmenter, "--size", *tiny.CONFIG["image_size"])
    assert run.returncode == 0, run.stderr
    found = images.read_labels(tmp_path / "out/train_resized/labels/scene.png")
    assert page.get(f"/api/masks/{reply.json['id']}.bin").body == found.tobytes()
    assert len(np.unique(found)) > 2


def test_a_picture_is_checked_as_by_the_tool(page, pairs, segmenter):  # noqa: F811
    from ldm.evaluation.networks import open_segmenter

    result = made(page, pairs, CLEAR)[0]["id"]
    told = page.get(f"/api/results/{result}/check").json
    picture = pixels(page.get(f"/api/results/{result}.png").body)
    labels = open_segmenter(segmenter).segment(picture[None])[0][0]
    mask = images.read_labels(pairs / "masks/m0.png", tiny.CONFIG["image_size"])
    assert told["found"] == pytest.approx(100 * (labels == mask).mean(), abs=0.06)
    assert set(told["classes"]) == {str(k) for k in np.unique(mask)} and "strict" in told["segmenter"]


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data) if isinstance(data, bytes) else data).convert("RGB"))


def made(page, pairs, tree, **changes):
    """A job for the pair m0 -> (its results, whether a preview came)."""
    mask = page.post("/api/masks", (pairs / "masks/m0.png").read_bytes()).json["id"]
    style = page.post("/api/references", (pairs / "references/m0.jpg").read_bytes(), "image/jpeg").json["id"]
    reply = page.start(
        {
            "client": "a",
            "mask": mask,
            "reference": style,
            "seed": 7,
            "name": "m0",
            "rounds": tree,
            "variations": 1,
            **changes,
        }
    )
    assert reply.status == 202, reply.body
    events = page.events(reply.json["id"])
    assert events[-1][1] == "done", events[-1]
    return events[-1][2]["results"]


@pytest.mark.parametrize("tree, suffix", [(CLEAR, "png"), (CLEAR, "jpg"), (NOISE, "png"), (ENTRY, "jpg")])
def test_page_pipeline_and_tool_make_the_same_picture(page, model, pairs, tmp_path, tree, suffix):
    from ldm import Pipeline

    results = made(page, pairs, tree, variations=2)
    of_page = [pixels(page.get(f"/api/results/{result['id']}.{suffix}").body) for result in results]
    pipe = Pipeline.load(model, tree)
    of_pipeline = pipe(pairs / "masks/m0.png", pairs / "references/m0.jpg", seed=[7, 8])
    (tmp_path / "rounds.yaml").write_text(json.dumps(rounds.check(tree).tree()))
    for seed, one, other in zip((7, 8), of_page, of_pipeline):
        run = tiny.run_tool(
            "infer",
            "--model",
            model,
            "--masks",
            pairs / "masks",
            "--references",
            pairs / "references",
            "--rounds",
            tmp_path / "rounds.yaml",
            "--seed",
            seed,
            "--format",
            suffix,
            "--output",
            tmp_path / str(seed),
        )
        assert run.returncode == 0, run.stderr
        assert np.array_equal(one, pixels(tmp_path / str(seed) / f"m0.{suffix}"))
        if suffix == "png" or tree is ENTRY:
            assert np.array_equal(one, np.asarray(other))
    assert not np.array_equal(*of_page)


@pytest.mark.parametrize("tree, style", [(CLEAR, True), (NOISE, False), (ENTRY, True)])
def test_the_command_of_a_bundle_makes_the_picture_again(page, model, pairs, tmp_path, tree, style):
    result = made(page, pairs, tree, **({} if style else {"reference": None}))[0]
    zipfile.ZipFile(io.BytesIO(page.get(f"/api/bundles/{result['id']}.zip").body)).extractall(tmp_path)
    (line,) = (
        line for line in (tmp_path / "README.txt").read_text().splitlines() if "tools/infer.sh" in line
    )
    words = line.replace("BUNDLE", str(tmp_path)).replace("models/tiny", str(model)).split()
    assert words[:2] == ["bash", "tools/infer.sh"] and (ROOT / words[1]).is_file()
    run = tiny.run_tool("infer", *words[2:])
    assert run.returncode == 0, run.stderr
    suffix = "jpg" if tree is ENTRY else "png"
    again = tmp_path / "again" / f"m0.{suffix}"
    assert np.array_equal(pixels(again), pixels(tmp_path / f"picture.{suffix}"))


def test_a_picture_says_what_made_it(page, pairs):
    result = made(page, pairs, CLEAR)[0]
    image = Image.open(io.BytesIO(page.get(f"/api/results/{result['id']}.png").body))
    about = json.loads(image.info["iidm"])
    assert (about["seed"], about["name"], about["model"]) == (7, "m0", "tiny")
    assert page.get(f"/api/masks/{about['mask']}.bin").status == 200
    assert page.get(f"/api/references/{about['reference']}.png").status == 200


def test_seconds_are_measured_here(page, pairs):
    before = {preset["id"]: preset for preset in page.get("/api/state").json["presets"]}
    assert before["fast"]["measured"] and before["fast"]["seconds"] > 0
    assert not before["noise"]["measured"] and before["entry"]["seconds"] > before["fast"]["seconds"]
    made(page, pairs, "noise")
    after = {preset["id"]: preset for preset in page.get("/api/state").json["presets"]}
    assert after["noise"]["measured"]


def test_a_real_job_is_cancelled_and_its_previews_are_pictures(page, pairs):
    import base64

    mask = page.post("/api/masks", (pairs / "masks/m0.png").read_bytes()).json["id"]
    job = page.start(
        {"client": "a", "mask": mask, "reference": page.style(), "rounds": "entry", "name": "m0"}
    )
    name = job.json["id"]
    shown = until(lambda: page.job(name)["preview"])
    assert Image.open(io.BytesIO(base64.b64decode(shown[0]))).size == (16, 12)
    page.request("DELETE", f"/api/jobs/{name}")
    assert page.finished(name)["state"] == "cancelled"
