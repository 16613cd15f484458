"""Results know what made them: what is kept, made anew and refused, and what can never be a result.

Needs no Jittor.
"""
import json
import os
import shutil
import sys

import job_standin
import numpy as np
import pytest
from job_standin import NAMES, change_mask, look, run
from PIL import Image

from ldm import config as configs
from ldm import files, images
from ldm.errors import UserError
from ldm.inference import record, rounds

place = job_standin.place           # a fixture


def test_nothing_is_made_twice(place):
    assert run(place)[0] == NAMES
    made, plan = run(place)
    assert made == [] and [item.mask.stem for item in plan.done] == NAMES and plan.changed == 0
    (place / "out/m2.png").unlink()
    assert run(place)[0] == ["m2"]


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
