"""tools/infer.py as a user meets it: results, resuming, and everything that can be wrong with the input."""
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from tiny import make_model, make_pairs, one_error, run_tool, write_json

from ldm import images, weights


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def pairs(tmp_path):
    return make_pairs(tmp_path / "in")


def infer(model, pairs, output, *more):
    return run_tool("infer", "--model", model, "--rounds", model / "rounds.yaml", "--masks", pairs / "masks",
                    "--references", pairs / "references", "--output", output, *more)


def results(folder):
    return {p.name: images.read_image(p) for p in folder.glob("m*.*")}


def psnr(a, b):
    return 10 * np.log10(255 ** 2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    """(the inputs, the results of one run)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    pairs = make_pairs(folder / "in")
    done = infer(model, pairs, folder / "out", "--format", "png")
    assert done.returncode == 0, done.stderr
    return pairs, results(folder / "out"), folder / "out"


def test_makes_every_image_of_the_models_size(undisturbed):
    _, made, folder = undisturbed
    assert sorted(made) == ["m0.png", "m1.png", "m2.png", "m3.png"]
    assert all(x.shape == (48, 64, 3) and x.std() > 5 for x in made.values())
    assert images.read_image(folder / "about/overview.jpg").shape[1] > 6 * 256        # two triples a row
    assert not list(folder.glob(".*"))


def test_two_runs_are_identical(model, undisturbed, tmp_path):
    pairs, made, _ = undisturbed
    assert infer(model, pairs, tmp_path, "--format", "png").returncode == 0
    assert all(np.array_equal(made[name], again) for name, again in results(tmp_path).items())


def test_alone_and_in_a_batch_agree(model, undisturbed, tmp_path):
    pairs, made, _ = undisturbed
    assert infer(model, pairs, tmp_path, "--format", "png", "--batch-size", 4).returncode == 0
    assert all(psnr(made[name], again) >= 45 for name, again in results(tmp_path).items())


def test_seed_matters(model, undisturbed, tmp_path):
    pairs, made, _ = undisturbed
    assert infer(model, pairs, tmp_path, "--format", "png", "--seed", 1).returncode == 0
    assert all(psnr(made[name], again) < 40 for name, again in results(tmp_path).items())


def test_standing_results_are_kept_and_other_settings_refused(model, pairs, tmp_path):
    out = tmp_path / "out"
    assert "4 to make, 0 exist" in infer(model, pairs, out).stdout
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("m*")}
    (out / "m2.jpg").unlink()
    assert "1 to make, 3 exist" in infer(model, pairs, out).stdout
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("m*")}
    assert [name for name in before if before[name] != after[name]] == ["m2.jpg"]
    one_error(infer(model, pairs, out, "--seed", 5), out, "seed", "--overwrite")
    assert infer(model, pairs, out, "--seed", 5, "--overwrite").returncode == 0


def test_a_models_folder_takes_no_results(model, pairs):
    one_error(infer(model, pairs, model), "is or contains", "--output")
    assert not results(model)


def test_killed_and_started_again(model, undisturbed, tmp_path):
    pairs, made, _ = undisturbed
    command = [sys.executable, ROOT / "tools/infer.py", "--model", model, "--rounds", model / "rounds.yaml",
               "--masks", pairs / "masks", "--references", pairs / "references", "--output", tmp_path,
               "--format", "png"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not list(tmp_path.glob("m*.png")) and time.time() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    standing = {p: p.stat().st_mtime_ns for p in tmp_path.glob("m*.png")}
    assert 1 <= len(standing) < 4
    assert infer(model, pairs, tmp_path, "--format", "png").returncode == 0
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in standing.items())
    assert all(np.array_equal(made[name], again) for name, again in results(tmp_path).items())
    assert len(results(tmp_path)) == 4


@pytest.mark.parametrize("overrides", [["sampler=ddpm"], ["eta=1.0"], ["jpeg_between_rounds=75"]])
def test_other_settings_work_and_matter(model, undisturbed, tmp_path, overrides):
    pairs, made, _ = undisturbed
    assert infer(model, pairs, tmp_path, "--format", "png", *overrides).returncode == 0
    again = results(tmp_path)
    assert len(again) == 4 and all(5 < psnr(made[name], x) < 60 and x.std() > 5 for name, x in again.items())


def test_pure_noise_ignores_the_reference(model, undisturbed, tmp_path):
    pairs, made, _ = undisturbed
    rounds = tmp_path / "noise.yaml"
    rounds.write_text("rounds: [{respacing: ddim50, start: 50, guidance: 1.0, from: noise}]")
    other = tmp_path / "other"
    other.mkdir()
    for k in range(4):
        (other / f"m{k}.jpg").write_bytes((pairs / f"references/m{(k + 1) % 4}.jpg").read_bytes())
    for name, references in (("a", pairs / "references"), ("b", other)):
        assert run_tool("infer", "--model", model, "--rounds", rounds, "--masks", pairs / "masks",
                        "--references", references, "--output", tmp_path / name,
                        "--format", "png").returncode == 0
    first, second = results(tmp_path / "a"), results(tmp_path / "b")
    assert len(first) == 4 and all(np.array_equal(x, second[name]) for name, x in first.items())


@pytest.mark.parametrize("name", ["entry", "paper", "noise"])
def test_shipped_rounds_are_what_the_sources_say(name):
    from ldm.diffusion import Schedule
    from ldm.inference import rounds
    made = rounds.load(ROOT / f"configs/infer/{name}.yaml").for_schedule(Schedule.linear(1000))
    seen = [(int(r.chain.timesteps[r.noise_index]) if r.noise_index is not None else None,
             int(r.chain.timesteps[r.start - 1]), r.start, r.guidance, r.color_transfer) for r in made]
    assert seen == {"entry": [(600, 598, 300, 3.5, ""), (640, 638, 320, 3.7, "opencv8"),
                              (400, 380, 20, 3.7, "opencv8")],
                    "paper": [(319, 319, 320, 1.0, ""), (319, 319, 320, 1.0, "exact")],
                    "noise": [(None, 990, 100, 3.5, "")]}[name]


def test_entrys_spelling_and_pairs(model, pairs, tmp_path):
    root = tmp_path / "contest"
    root.mkdir()
    (pairs / "masks").rename(root / "val_B_labels_resized")
    (root / "train").mkdir()
    (pairs / "references").rename(root / "train" / "imgs")
    write_json(root / "label_to_img.json", {f"m{i}.png": f"m{3 - i}.jpg" for i in range(4)})
    done = run_tool("infer", "--model", model, "--rounds", model / "rounds.yaml", "--input_path", root,
                    "--img_path", root / "train", "--output_path", tmp_path / "out")
    assert (done.returncode == 0
            and sorted(results(tmp_path / "out")) == [f"m{i}.jpg" for i in range(4)]), done.stderr


def test_a_dry_run_opens_the_weights(model, pairs, tmp_path):
    """Their headers: missing, of another network, no weights at all."""
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    done = infer(copy, pairs, tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()[-2:]] == ["memory", "time"]
    for name, damage in (("unet", lambda path: path.unlink()),
                         ("autoencoder", lambda path: path.write_text("version https://git-lfs...")),
                         ("autoencoder", lambda path: shutil.copy(model / "unet.safetensors", path))):
        damage(copy / f"{name}.safetensors")
        one_error(infer(copy, pairs, tmp_path / "out", "--dry-run"), f"{name}.safetensors")
        shutil.copy(model / f"{name}.safetensors", copy)


def test_dry_run_writes_nothing(model, pairs, tmp_path):
    (pairs / "masks/m1.png").write_bytes((pairs / "masks/m1.png").read_bytes()[:60])
    done = infer(model, pairs, tmp_path / "out", "--dry-run")
    assert "3 to make, 0 exist already, 1 cannot be made; 64 x 48 pixels, 5 steps each" in done.stdout
    assert done.returncode == 2 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("reference", ["grey", "RGBA", "odd size", "palette"])
def test_any_reference_works(model, pairs, tmp_path, reference):
    image = Image.open(pairs / "references/m0.jpg")
    made = {"grey": image.convert("L"), "RGBA": image.convert("RGBA"), "odd size": image.resize((71, 33)),
            "palette": image.convert("P")}[reference]
    (pairs / "references/m0.jpg").unlink()
    made.save(pairs / "references/m0.png")
    for other in ("m1", "m2", "m3"):
        (pairs / f"masks/{other}.png").unlink()
    assert infer(model, pairs, tmp_path / "out").returncode == 0
    assert results(tmp_path / "out")["m0.jpg"].shape == (48, 64, 3)


def spoil_label(pairs):
    Image.fromarray(np.full((48, 64), 29, np.uint8)).save(pairs / "masks/m1.png")
    return "holds label 29"


def spoil_mode(pairs):
    Image.fromarray(np.full((48, 64, 3), (1, 2, 3), np.uint8)).save(pairs / "masks/m1.png")
    return "the colour (1, 2, 3)"


def spoil_reference(pairs):
    (pairs / "references/m1.jpg").unlink()
    return "no reference of the same name"


def spoil_truncated_mask(pairs):
    path = pairs / "masks/m1.png"
    path.write_bytes(path.read_bytes()[:-40])
    return "cannot be read as an image"


def spoil_truncated_reference(pairs):
    path = pairs / "references/m1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return "cannot be read as an image"


def spoil_json(pairs):
    write_json(pairs / "label_to_img.json",
               {f"m{i}.png": "gone.jpg" if i == 1 else f"m{i}.jpg" for i in range(4)})
    return "its reference 'gone.jpg' does not exist"


@pytest.mark.parametrize("spoil", [spoil_label, spoil_mode, spoil_reference, spoil_truncated_mask,
                                   spoil_truncated_reference, spoil_json], ids=lambda f: f.__name__[6:])
def test_one_bad_image_does_not_stop_the_others(model, pairs, tmp_path, spoil):
    words = spoil(pairs)
    done = infer(model, pairs, tmp_path / "out")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (len(errors) == 2 and words in errors[0] and "m1" in errors[0]
            and errors[1].startswith("error: 1 could not"))
    assert done.stderr.strip().splitlines()[-1] == errors[1]
    assert (sorted(results(tmp_path / "out")) == ["m0.jpg", "m2.jpg", "m3.jpg"]
            and not list((tmp_path / "out").glob(".*")))


def test_name_in_the_json_that_is_no_mask(model, pairs, tmp_path):
    write_json(pairs / "label_to_img.json",
               {**{f"m{i}.png": f"m{i}.jpg" for i in range(4)}, "lost.png": "m0.jpg"})
    done = infer(model, pairs, tmp_path / "out")
    assert done.returncode == 2 and "lost.png: is named in the pairs but is not a file" in done.stderr
    assert len(results(tmp_path / "out")) == 4


def test_empty_folder(model, pairs, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, words in (("empty", "holds no image"), ("none", "is not a folder")):
        one_error(run_tool("infer", "--model", model, "--references", pairs / "references", "--masks",
                           tmp_path / name), tmp_path / name, words)


def test_own_masks_are_not_painted_in_the_samples_styles(model, pairs, tmp_path):
    """They would be, where a mask has the name of a sample."""
    one_error(run_tool("infer", "--model", model, "--masks", pairs / "masks", "--output", tmp_path),
              "--references: is not given")


def test_unwritable_output(model, pairs, tmp_path):
    (tmp_path / "file").touch()
    one_error(infer(model, pairs, tmp_path / "file" / "out"), tmp_path / "file" / "out", "cannot be written")


def test_unknown_keys_and_wrong_values(model, pairs, tmp_path):
    out = tmp_path / "out"
    one_error(infer(model, pairs, out, "etta=0.5"), "etta", "eta, jpeg_between_rounds, pixels, rounds")
    one_error(infer(model, pairs, out, "eta=much"), "eta", "much")
    one_error(infer(model, pairs, out, "sampler=euler"), "'euler'", "ddpm, ddim")
    one_error(infer(model, pairs, out, "--batch-size", 0), "--batch-size")
    one_error(run_tool("infer", "--model", tmp_path), tmp_path / "config.yaml", "cannot be read")
    rounds = tmp_path / "rounds.yaml"
    for text, words in (("rounds: [{strength: 0.5, stepps: 3}]", "rounds.stepps"),
                        ("rounds: []", "has no rounds"), ("rounds: [{guidance: 3.0}]", "respacing and start"),
                        ("rounds: [{respacing: ddim50, start: 50}]", "1 to 49"),
                        ("rounds: [{strength: 0.5, steps: 3, color_transfer: exact}]", "first round"),
                        ("rounds: [", "cannot be read as YAML")):
        rounds.write_text(text)
        one_error(infer(model, pairs, out, "--rounds", rounds), words)
    assert not out.exists()


def spoilt_model(model, tmp_path, name, data):
    for path in model.iterdir():
        os.link(path, tmp_path / path.name)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(data)
    return tmp_path


def nan_weights(model, folder):
    state, config = weights.read_state(model / "unet.safetensors")
    raw = bytearray((model / "unet.safetensors").read_bytes())
    raw[-4:] = np.float32(np.nan).tobytes()
    return bytes(raw), "NaN"


@pytest.mark.parametrize("case", ["truncated", "other network", "pickle with code", "NaN", "missing"])
def test_bad_weights(model, pairs, tmp_path, case):
    good, folder = (model / "unet.safetensors").read_bytes(), tmp_path / "model"
    folder.mkdir()
    data, words = {
        "truncated": (good[:-1000], "truncated"),
        "other network": ((model / "autoencoder.safetensors").read_bytes(), "missing"),
        "pickle with code": (b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.",
                             "system"),
        "NaN": nan_weights(model, folder),
        "missing": (b"", "empty"),
    }[case]
    one_error(infer(spoilt_model(model, folder, "unet.safetensors", data), pairs, tmp_path / "out"),
              "unet.safetensors", words)
    assert not (tmp_path / "ran").exists() and not list((tmp_path / "out").glob("m*"))


def test_the_entrys_pixels_and_a_zip_of_them(model, pairs, tmp_path):
    out = tmp_path / "out"
    one_error(infer(model, pairs, out, "pixels=entry", "--format", "png"), "--format", "jpg")
    done = infer(model, pairs, out, "pixels=entry", "--zip")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == ["about", *(f"m{i}.jpg" for i in range(4)), "result.zip"]
    entrys, ours = Image.open(out / "m0.jpg"), Image.new("RGB", (8, 8))
    ours.save(tmp_path / "75.jpg", quality=75)
    assert entrys.quantization == Image.open(tmp_path / "75.jpg").quantization


def test_inputs_are_never_results(model, pairs):
    before = {p: p.read_bytes() for p in pairs.rglob("*.*")}
    for output in ("masks", "references", "."):
        done = infer(model, pairs, pairs / output, "--overwrite", "--format", "png")
        one_error(done, pairs / output, "--output")
    assert before == {p: p.read_bytes() for p in pairs.rglob("*.*")}


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
@pytest.mark.parametrize("section, key, value, file", [
    ("schedule", None, "cosine", "unet"), ("unet", "num_res_blocks", 2, "unet"),
    ("autoencoder", "codebook_size", 7, "autoencoder"), ("autoencoder", "codebook_size", 0, "autoencoder")])
def test_a_config_that_is_not_the_weights_own(model, pairs, tmp_path, options, section, key, value, file):
    """The error names the key, also of one that changes names and shapes of the weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = yaml.safe_load((model / "config.yaml").read_text())
    config[section] = {**config[section], key: value} if key else value
    text = yaml.safe_dump(config).encode()
    one_error(infer(spoilt_model(model, folder, "config.yaml", text), pairs, tmp_path / "out", *options),
              f"{file}.safetensors", f"other values of {section}{'.' + key if key else ''} than")
