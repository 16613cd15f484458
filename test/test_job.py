"""Jobs of inference: inputs are never results, zips, several seeds, no reference. Needs no Jittor."""
import os
import shutil
import unicodedata
import zipfile

import job_standin
import pytest
from job_standin import NAMES, change_mask, look, run

from ldm import images
from ldm.errors import UserError
from ldm.inference import job

place = job_standin.place           # a fixture

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


@pytest.mark.parametrize("folder, name", [("masks", "m0.png"), ("references", "m0.jpg")])
def test_an_input_that_is_a_link_to_a_results_place_is_kept(place, folder, name):
    (place / "out").mkdir()
    link, kept = place / "in" / folder / name, place / "out/m0.png"
    os.replace(link, kept)
    link.symlink_to(kept)
    before = kept.read_bytes()
    with pytest.raises(UserError, match=f"m0.png: is read as .*{name}; choose another --output"):
        run(place, overwrite=True)
    assert kept.read_bytes() == before


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
