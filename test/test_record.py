"""Results know what made them: what is kept, made anew and refused, and what can never be a result.

A stand-in for the pipeline makes pictures; no Jittor.
"""
import json
import os
import shutil
import sys
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image
from tiny import make_pairs

from ldm import config as configs
from ldm import files, images
from ldm.errors import UserError
from ldm.inference import job, pixels, record, rounds

SETTINGS = {"seed": 0, "rounds": [{"start": 3}]}


class Pipeline:
    """Pictures that tell the settings' seed and the inputs; may die before the picture of a number."""
    size, latent_size, step_count = (32, 24), (32, 24), 0

    def __init__(self, dies_at=None):
        self.dies_at, self.made = dies_at, []

    def files(self, batch, suffix, on_step):
        self.made += batch.names
        if self.dies_at is not None and len(self.made) > self.dies_at:
            raise KeyboardInterrupt
        references = [np.zeros(1)] * len(batch.names) if batch.references is None else batch.references
        return [pixels.encoded(np.full((24, 32, 3), (seed, int(mask.mean() * 9), int(reference.mean())),
                                       np.uint8), suffix, 95)
                for mask, reference, seed in zip(batch.masks, references, batch.seeds)]


@pytest.fixture
def place(tmp_path):
    """in/masks, in/references of four pairs that were written a while ago, as a user's are."""
    for path in make_pairs(tmp_path / "in").rglob("*.*"):
        if path.is_file():
            os.utime(path, ns=(10 ** 18, 10 ** 18))
    return tmp_path


def look(place, seed=0, overwrite=False, pairs=None, seeds=None, references="in/references", **settings):
    made_by = {**SETTINGS, "seed": None if seeds else seed, **settings}
    folder = record.Record(place / "out", made_by)
    return folder, job.plan(place / "in/masks", references and place / references, pairs, place / "out",
                            "png", overwrite, record=folder, seed=seed, seeds=seeds)


def run(place, seed=0, overwrite=False, dies_at=None, **options):
    """-> (names that were made, the Plan)."""
    folder, plan = look(place, seed, overwrite, **options)
    folder.start()
    pipeline = Pipeline(dies_at)
    try:
        list(job.run(plan, pipeline, 1))
    except KeyboardInterrupt:
        pipeline.made.pop()
    return pipeline.made, plan


NAMES = ["m0", "m1", "m2", "m3"]


def test_nothing_is_made_twice(place):
    assert run(place)[0] == NAMES
    made, plan = run(place)
    assert made == [] and [item.mask.stem for item in plan.done] == NAMES and plan.changed == 0
    (place / "out/m2.png").unlink()
    assert run(place)[0] == ["m2"]


def change_mask(place):
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(place / "in/masks/m1.png")


def change_reference(place):
    images.write_image(place / "in/references/m1.jpg", np.full((48, 64, 3), 9, np.uint8))


def change_type_of_reference(place):
    (place / "in/references/m1.jpg").unlink()
    Image.fromarray(np.full((48, 64, 3), 9, np.uint8)).save(place / "in/references/m1.png")


@pytest.mark.parametrize("change", [change_mask, change_reference, change_type_of_reference])
def test_a_changed_input_is_made_anew_and_others_are_kept(place, change):
    run(place)
    stamps = {name: (place / f"out/{name}.png").stat().st_mtime_ns for name in NAMES}
    change(place)
    made, plan = run(place)
    assert made == ["m1"] and plan.changed == 1
    assert [n for n in NAMES if (place / f"out/{n}.png").stat().st_mtime_ns != stamps[n]] == ["m1"]
    assert run(place)[0] == []


def test_other_pairs_are_other_inputs(place):
    run(place)
    pairs = place / "pairs.json"
    pairs.write_text(json.dumps({f"m{i}.png": f"m{k}.jpg" for i, k in enumerate((1, 0, 2, 3))}))
    assert run(place, pairs=pairs)[0] == ["m0", "m1"]


def test_a_moved_input_of_the_same_bytes_changes_nothing(place):
    run(place)
    shutil.copytree(place / "in", place / "copy")
    shutil.rmtree(place / "in")
    (place / "copy").rename(place / "in")
    assert run(place)[0] == []
    shutil.copytree(place / "out", place / "second")
    shutil.rmtree(place / "out")
    (place / "second").rename(place / "out")
    assert run(place)[0] == []


def test_a_file_put_back_with_its_size_and_time_is_noticed(place):
    run(place)
    path = place / "in/masks/m3.png"
    run(place)                                          # its hash is remembered now
    before, data = path.stat(), bytearray(path.read_bytes())
    other = place / "in/masks/m0.png"
    data = other.read_bytes()[:before.st_size].ljust(before.st_size, b"\0")
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns
    assert [item.mask.stem for item in look(place)[1].todo] == ["m3"]


def test_hashes_are_remembered_and_planning_reads_no_picture(place, monkeypatch):
    monkeypatch.setattr(record, "SETTLED", -1)          # on a fast machine the inputs are younger than that
    run(place)
    run(place)
    read, sha256 = [], files.sha256
    monkeypatch.setattr(files, "sha256", lambda path, *a: (read.append(path), sha256(path, *a))[1])
    assert look(place)[1].todo == [] and read == []
    os.utime(place / "in/masks/m1.png")                 # another time, the same bytes
    assert look(place)[1].todo == [] and [path.name for path in read] == ["m1.png"]


def planning_calls(place, count):
    """The calls and returns of a plan if `count` results are there."""
    for name, suffix in (("masks", "png"), ("references", "jpg")):
        for i in range(4, count):
            target = place / f"in/{name}/m{i}.{suffix}"
            if not target.exists():
                shutil.copyfile(place / f"in/{name}/m0.{suffix}", target)
    run(place)
    run(place)                                          # the hashes are remembered now
    calls = [0]

    def counted(frame, event, argument):
        calls[0] += 1
    sys.setprofile(counted)
    try:
        plan = look(place)[1]
    finally:
        sys.setprofile(None)
    assert len(plan.done) == count and not plan.todo
    return calls[0]


def test_planning_takes_as_many_calls_for_each_result_however_many_there_are(place, monkeypatch):
    """Counted, since seconds depend on the machine: about 700 calls and returns each."""
    monkeypatch.setattr(record, "SETTLED", -1)
    few, some, more = (planning_calls(place, count) for count in (20, 40, 80))
    assert (more - some) / 40 < 1.1 * (some - few) / 20 and (more - some) / 40 < 1500


def test_other_settings_are_refused_in_one_line_that_names_them(place):
    run(place)
    with pytest.raises(UserError, match=r"out: .*\(rounds, seed\).*--overwrite"):
        look(place, seed=1, rounds=[])
    (place / "in/masks/m0.png").unlink()                # its result would stand among those of seed 1
    for name in NAMES[1:]:
        (place / f"out/{name}.png").unlink()
    with pytest.raises(UserError, match="seed"):
        look(place, seed=1)


def test_an_interrupted_overwrite_goes_on_and_makes_nothing_twice(place):
    run(place)
    assert run(place, seed=1, overwrite=True, dies_at=2)[0] == ["m0", "m1"]
    with pytest.raises(UserError, match="seed"):        # never mixed without a word
        look(place, seed=1)
    assert run(place, seed=1, overwrite=True)[0] == ["m2", "m3"]
    assert run(place, seed=1)[0] == [] and run(place, seed=1, overwrite=True)[0] == []
    assert all(images.read_image(place / f"out/{name}.png")[0, 0, 0] == 1 for name in NAMES)
    with pytest.raises(UserError, match="seed"):
        look(place, seed=0)


def test_a_kill_between_the_line_and_the_picture(place, monkeypatch):
    run(place)
    change_mask(place)
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(KeyboardInterrupt()))
    run(place)
    monkeypatch.setattr(os, "replace", replace)
    assert run(place)[0] == ["m1"] and run(place)[0] == []


def test_a_kill_in_the_middle_of_a_line(place):
    run(place)
    lines = place / "out/about/results.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole[:-30])                      # m3's line is torn: its picture is unknown
    (place / "out/m3.png").unlink()                     # and was not there yet
    assert run(place)[0] == ["m3"] and run(place)[0] == []
    for junk in (b"[[[", b'{"result": 3}\n{"result": "m0.png", "sha256": []}\n[]\n7\n\xff\xfe\n'):
        lines.write_bytes(whole + junk)
        assert run(place)[0] == []
    (place / "out/about/hashes.jsonl").write_bytes(b'{"file": 7}\n{"file": "x", "sha256": "y", "seen"')
    assert run(place)[0] == []


def test_pictures_that_the_record_does_not_know_are_neither_counted_nor_replaced(place):
    run(place)
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(place / "out/m2.png")
    with pytest.raises(UserError, match="out: holds 1 picture.*record"):
        look(place)
    assert run(place, overwrite=True)[0] == ["m2"]
    shutil.rmtree(place / "out/about")
    with pytest.raises(UserError, match="out: holds 4 pictures.*record"):
        look(place)
    (place / "out/inference.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match="out: holds 4 .*earlier version"):
        look(place)
    assert run(place, overwrite=True)[0] == NAMES and run(place)[0] == []


# ---- what decides about a result ---------------------------------------------------------------------------

@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    configs.save(folder / "config.yaml", {"image_size": [64, 48]})
    for part in ("unet", "autoencoder"):
        (folder / f"{part}.safetensors").write_text(part)
    (folder / "rounds.yaml").write_text("rounds: [{strength: 0.5, steps: 3}]")
    return folder


def identity(model, *overrides, seed=0, precision="fp32", **options):
    settings = rounds.load(model / "rounds.yaml", overrides)
    return record.digest(record.made_by(settings, model, seed, precision, **options))


def test_everything_that_decides_about_pixels_is_in_the_identity(model):
    first = identity(model)
    assert identity(model) == first
    made = [identity(model, seed=1), identity(model, precision="bf16"), identity(model, "pixels=entry"),
            identity(model, "rounds=[{strength: 0.5, steps: 4}]"), identity(model, "sampler=ddpm"),
            identity(model, unet=model / "autoencoder.safetensors"),
            identity(model, "rounds.0.guidance_interval=[0, 0.5]"),
            identity(model, reading=images.Reading(fit="crop"))]
    for text in ("image_size: [128, 96]", "schedule: cosine", "unet: {channels: 64}",
                 "autoencoder: {channels: 64}"):
        (model / "config.yaml").write_text(text)
        made.append(identity(model))
    configs.save(model / "config.yaml", {"image_size": [64, 48], "training": {"steps": 7}})
    assert identity(model) == first                     # how it was trained is in the weights
    for part in ("unet", "autoencoder"):
        (model / f"{part}.safetensors").write_text("other")
        made.append(identity(model))
    assert len({first, *made}) == len(made) + 1


def test_defaults_written_out_are_the_same_settings(model):
    first = identity(model)
    (model / "rounds.yaml").write_text("{sampler: ddim, eta: 0, pixels: exact, jpeg_between_rounds: 0, "
                                       "rounds: [{strength: 0.5, steps: 3, guidance: 1, spacing: time, "
                                       "guidance_interval: [0, 1]}]}")
    assert identity(model) == first


def test_keys_that_came_later_leave_earlier_results_as_they_are(model):
    """A result's identity is a hash: with a new key's default in it every picture would be one of others."""
    def kept(*overrides):
        settings = rounds.load(model / "rounds.yaml", overrides)
        return record.made_by(settings, model, 0)["rounds"][0]
    assert set(kept()) == {"respacing", "start", "strength", "steps", "spacing", "guidance", "color_transfer",
                           "from"}
    assert kept("rounds.0.guidance_interval=[0, 0.5]")["guidance_interval"] == [0, 0.5]


# ---- inputs are never results ------------------------------------------------------------------------------

def test_an_output_that_is_or_holds_an_input_is_refused(place):
    masks, references = place / "in/masks", place / "in/references"
    (place / "link").symlink_to(masks)
    (place / "up").symlink_to(place / "in")
    for output in (masks, references, place / "in", place, place / "link", place / "up", masks / "../masks",
                   place / "in/../in/references", place / "link/../masks"):
        with pytest.raises(UserError, match="choose another --output"):
            job.refuse_inputs(output, masks, references)
    with pytest.raises(UserError, match="choose another --output"):
        job.refuse_inputs(masks, place / "link", references)
    job.refuse_inputs(place / "out", masks, references)
    job.refuse_inputs(masks / "results", masks, references)


def test_masks_of_one_results_name(place):
    masks = place / "in/masks"
    for name in ("m0.PNG", "M1.png", "caf\u00e9.png", unicodedata.normalize("NFD", "caf\u00e9") + ".png"):
        shutil.copyfile(masks / "m0.png", masks / name)
    shutil.copyfile(place / "in/references/m0.jpg", place / "in/references/M1.jpg")
    shutil.copyfile(place / "in/references/m0.jpg", place / "in/references/caf\u00e9.jpg")
    made, plan = run(place)
    assert len(made) == 5 and len(plan.failures) == 3 and len(list((place / "out").glob("*.png"))) == 5
    assert all("rename" in str(failure) for failure in plan.failures)


def test_a_mask_named_as_the_overview_or_the_record(place):
    for name in ("overview", "results", "about", "result"):
        shutil.copyfile(place / "in/masks/m0.png", place / f"in/masks/{name}.png")
        shutil.copyfile(place / "in/references/m0.jpg", place / f"in/references/{name}.jpg")
    plan = run(place)[1]
    results = {path.name: path.read_bytes() for path in (place / "out").glob("*.png")}
    overview = job.overview(plan, place / "out")
    assert len(results) == 8 and overview.parent == place / "out/about"
    assert results == {path.name: path.read_bytes() for path in (place / "out").glob("*.png")}
    assert run(place)[0] == []


def test_the_zip_holds_the_results_and_nothing_else(place):
    plan = run(place)[1]
    job.overview(plan, place / "out")
    path = job.pack(plan, place / "out")
    first = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{name}.png" for name in NAMES] and archive.testzip() is None
        assert all(archive.read(name) == (place / "out" / name).read_bytes() for name in archive.namelist())
    assert job.pack(run(place)[1], place / "out").read_bytes() == first
    (place / "in/masks/m1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="result.zip: .*1 image"):
        job.pack(run(place)[1], place / "out")
    assert path.read_bytes() == first


def test_a_name_that_no_zip_can_hold_is_found_before_anything_is_made(place):
    name = os.fsdecode(b"\xb7\xe7")                      # in GBK, as a zip from Windows leaves it
    shutil.copyfile(place / "in/masks/m0.png", place / f"in/masks/{name}.png")
    shutil.copyfile(place / "in/references/m0.jpg", place / f"in/references/{name}.jpg")
    plan = look(place)[1]
    with pytest.raises(UserError, match="no zip file"):
        job.check_zip_names(plan)
    with pytest.raises(UserError, match="no zip file"):
        job.pack(run(place)[1], place / "out")
    assert not (place / "out/result.zip").exists() and len(list((place / "out").glob("*.png"))) == 5


def test_the_records_folder_is_no_link(place):
    (place / "elsewhere").mkdir()
    (place / "out").mkdir()
    (place / "out/about").symlink_to(place / "elsewhere")
    with pytest.raises(UserError, match="about: is a link"):
        run(place)
    assert list((place / "elsewhere").iterdir()) == []


def test_a_folder_for_the_record_that_cannot_be_one_is_found_before_anything_is_made(place):
    (place / "out").mkdir()
    (place / "out/about").write_text("a file of the user's")
    with pytest.raises(UserError, match="about"):
        run(place)
    assert [path.name for path in (place / "out").iterdir()] == ["about"]


# ---- several seeds, and no reference -----------------------------------------------------------------------

def names(folder):
    return sorted(path.name for path in (folder / "out").glob("*.png"))


def test_each_seed_has_a_result_of_its_own_name(place):
    made, plan = run(place, seeds=[0, 1, 7])
    assert made == [name for name in NAMES for _ in range(3)] and len(plan.done) == 12
    assert names(place) == sorted(f"{name}_seed{seed}.png" for name in NAMES for seed in (0, 1, 7))
    assert [images.read_image(place / f"out/m2_seed{seed}.png")[0, 0, 0] for seed in (0, 1, 7)] == [0, 1, 7]
    assert job.overview(plan, place / "out") == place / "out/about/overview.jpg"
    assert images.read_image(place / "out/about/overview.jpg").shape[1] == 5 * (256 + 6) + 6


def test_more_seeds_go_on_and_nothing_is_made_twice(place):
    run(place, seeds=[0, 1], dies_at=3)
    assert len(run(place, seeds=[0, 1])[0]) == 5 and run(place, seeds=[0, 1])[0] == []
    assert run(place, seeds=[1, 2])[0] == NAMES and len(names(place)) == 12
    change_mask(place)
    made, plan = run(place, seeds=[0, 1, 2])
    assert made == ["m1"] * 3 and plan.changed == 3


def test_one_seed_and_several_are_not_mixed(place):
    run(place, seeds=[0, 1])
    with pytest.raises(UserError, match=r"made otherwise \(seed\)"):
        run(place, seed=0)
    with pytest.raises(UserError, match=r"made otherwise \(rounds\)"):
        run(place, seeds=[0], rounds=[{"start": 4}])


def test_masks_whose_names_look_like_seeds(place):
    shutil.copy(place / "in/masks/m0.png", place / "in/masks/m1_seed0.png")
    shutil.copy(place / "in/references/m0.jpg", place / "in/references/m1_seed0.jpg")
    _, plan = run(place, seeds=[0, 1])
    assert len(plan.done) == len(names(place)) == 10 and plan.failures == []


def test_an_unreadable_mask_is_missing_for_each_seed_and_read_once(place, monkeypatch):
    (place / "in/masks/m1.png").write_bytes(b"no image")
    reads, read = [], images.read_labels
    monkeypatch.setattr(images, "read_labels", lambda path, *rest: (reads.append(path), read(path, *rest))[1])
    _, plan = look(place, seeds=[0, 1, 2])
    job.check(plan, (64, 48))
    assert len(plan.todo) == 9 and len(plan.failures) == 3 and len(reads) == 4


def test_one_reference_for_all_masks_needs_no_pairs(place):
    (place / "in/label_to_img.json").write_text('{"m0.png": "m1.jpg"}')
    assert run(place, references="in/references/m2.jpg")[0] == NAMES
    plan = look(place)[1]
    assert len(plan.todo) == 1 and len(plan.failures) == 3


def test_without_references(place):
    shutil.rmtree(place / "in/references")
    made, plan = run(place, references=None, seeds=[3, 4])
    assert len(made) == 8 and run(place, references=None, seeds=[3, 4])[0] == []
    job.overview(plan, place / "out")
    assert images.read_image(place / "out/about/overview.jpg").shape[1] == 3 * 2 * (256 + 6) + 6
    shutil.copy(place / "in/masks/m0.png", place / "in/masks/m0.bmp")
    (place / "in/masks/photo.jpg").write_bytes(b"")
    failures = look(place, references=None, seeds=[3, 4])[1].failures
    assert [failure.args[0].name for failure in failures] == ["photo.jpg", "m0.png"]
    shutil.rmtree(place / "in/masks")
    (place / "in/masks").mkdir()
    (place / "in/masks/notes.txt").touch()
    with pytest.raises(UserError, match="masks: holds no image"):
        look(place, references=None)
