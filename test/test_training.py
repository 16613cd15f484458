"""Training end to end on a tiny model: resuming bit for bit, validation, what a run leaves, what stops it."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from tiny import CONFIG as TINY
from tiny import make_training, one_error, run_tool

from ldm import config as configs
from ldm import weights
from ldm.training.batch_order import batch_indices, generator

CONFIG = configs.override(TINY, ["training.held_out=2", "training.metrics_every=8"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """config.yaml, a data folder in the contest's form, and model/ with an autoencoder."""
    return make_training(tmp_path_factory.mktemp("training"), CONFIG)


def train(folder, output, *more):
    return run_tool("train", "--config", folder / "config.yaml", "--data", folder / "data", "--autoencoder",
                    folder / "model/autoencoder.safetensors", "--output", output, *more)


@pytest.fixture(scope="module")
def undisturbed(folder):
    done = train(folder, folder / "whole")
    assert done.returncode == 0, done.stderr
    return folder / "whole"


def log(run):
    return [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]


def same_state(a, b):
    (first, _), (second, _) = (weights.read_state(run / "state-0000008.safetensors") for run in (a, b))
    validation = [(run / "validation.jsonl").read_text() for run in (a, b)]
    return (first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)
            and validation[0] == validation[1])


def test_what_a_run_leaves(undisturbed):
    names = {p.name for p in undisturbed.iterdir()}
    assert {"config.yaml", "latents", "train.jsonl", "state-0000004.safetensors", "state-0000008.safetensors",
            "ema-0000004.safetensors", "ema-0000008.safetensors", "samples-0000008.jpg", "validation.jsonl",
            ".lock"} == names
    lines = log(undisturbed)
    assert [line["step"] for line in lines] == [2, 4, 6, 8] and all(line["mse"] > 0 for line in lines)
    state, config = weights.read_state(undisturbed / "ema-0000008.safetensors")
    assert config["unet"] == CONFIG["unet"] and abs(state["out.2.weight"]).max() > 0


def test_validation_of_a_run(undisturbed):
    text = (undisturbed / "validation.jsonl").read_text()
    losses, thorough = (json.loads(line) for line in text.splitlines())
    assert (losses["step"], losses["file"], losses["ema_rate"]) == (4, "ema-0000004.safetensors", 0.9)
    assert losses.keys() == {"step", "file", "ema_rate", "latents", "loss", "loss_q1", "loss_q2", "loss_q3",
                             "loss_q4"}
    assert thorough.keys() - losses.keys() == {"M", "FD-seg", "S"} and 0 <= thorough["M"] <= 100


def test_the_best_two_and_their_average(undisturbed, tmp_path):
    done = run_tool("average", "--best", 2, undisturbed, "--output", tmp_path / "best.safetensors")
    assert done.returncode == 0, done.stderr
    names, losses = zip(*(line.split(": loss ") for line in done.stdout.splitlines()[:3]))
    one, two, both = map(float, losses)
    assert names[2] == str(tmp_path / "best.safetensors") and one <= two and 0 < both < 2 * two
    first, second = (weights.read_state(undisturbed / f"ema-000000{step}.safetensors")[0] for step in (4, 8))
    for name, averaged in weights.read_state(tmp_path / "best.safetensors")[0].items():
        mean = (first[name].astype(np.float64) + second[name]) / 2
        np.testing.assert_array_equal(averaged, mean.astype(np.float32))


def test_a_dry_run_opens_the_segmenter(folder, tmp_path):
    (tmp_path / "segmenter.pth").write_bytes(b"no weights")
    done = train(folder, tmp_path / "run", "--dry-run", "--segformer", tmp_path / "segmenter.pth")
    one_error(done, "segmenter.pth")


def test_dry_run_says_what_it_will_need(folder, tmp_path):
    done = train(folder, tmp_path, "--dry-run", "training.checkpointing=blocks")
    assert done.returncode == 0 and list(tmp_path.iterdir()) == [], done.stderr
    count = sum(a.size for a in weights.read_state(folder / "model/unet.safetensors")[0].values())
    first, *others = done.stdout.splitlines()
    assert first.startswith(f"{count:,} parameters")
    assert [line.split(":")[0] for line in others] == ["memory", "disk", "time"]


@pytest.mark.parametrize("tool, more", [("train_autoencoder", ()), ("train_segmenter", ("--autoencoder",))])
def test_the_other_tools_say_what_they_need_too(folder, tmp_path, tool, more):
    config = {**CONFIG, "segmenter": {**configs.DEFAULTS["segmenter"], "patch": 3, "depths": [1] * 4}}
    configs.save(tmp_path / "c.yaml", config)
    more = [*more, folder / "model/autoencoder.safetensors"] if more else []
    given = ["--config", tmp_path / "c.yaml", "--data", folder / "data", "--output", tmp_path / "run", *more]
    done = run_tool(tool, *given, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()[-3:]] == ["memory", "disk", "time"]
    assert not list((tmp_path / "run").iterdir())
    if tool == "train_autoencoder":
        one_error(run_tool(tool, *given, "--dry-run", "autoencoder_training.lpips=[none.pth]"), "none.pth")
    else:
        one_error(run_tool(tool, *given[:-1], tmp_path / "none", "--dry-run"), "none")


@pytest.mark.parametrize("tool", ["train", "train_autoencoder", "train_segmenter"])
def test_a_finished_model_is_not_trained_over(folder, tmp_path, tool):
    weights.save(tmp_path / "mine.safetensors", {"a": np.zeros(3)})
    more = ["--autoencoder", folder / "model/autoencoder.safetensors"] if tool == "train" else []
    done = run_tool(tool, "--config", folder / "config.yaml", "--data", folder / "data", "--output", tmp_path,
                    *more)
    one_error(done, "holds mine.safetensors", "--output")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"]


@pytest.mark.parametrize("arguments, words", [
    (["training.lerning_rate=1.0"], ("training.lerning_rate", "is not an option")),
    (["training.learning_rate=fast"], ("training.learning_rate", "a number")),
    (["training.batch_size=0"], ("training.batch_size: is 0", "from 1")),
    (["training.ema_rate=1.0"], ("training.ema_rate: is 1.0", "below 1")),
    (["image_size=[60,48]"], ("image_size: is [60, 48]", "multiples of 8")),
    (["training.loss=mae"], ("training.loss", "'mae'")),
    (["schedule=log"], ("schedule", "'log'")),
    (["training.held_out=5"], ("held_out", "takes 5 of 5 images")),
    (["--config", "missing.yaml"], ("missing.yaml", "cannot be read")),
    (["--data", "missing"], ("missing",)),
    (["--output", "/dev/null/run"], ("/dev/null/run", "cannot be written")),
])
def test_bad_input_is_one_line(folder, tmp_path, arguments, words):
    one_error(train(folder, tmp_path / "run", *arguments), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments, words", [
    (["--autoencoder", "missing.safetensors"], ("missing.safetensors",)),
])
def test_bad_input_found_later_is_one_line_too(folder, tmp_path, arguments, words):
    one_error(train(folder, tmp_path / "run", *arguments), *words)


def test_stopped_and_resumed_is_bit_for_bit_the_same(folder, undisturbed, tmp_path):
    command = [sys.executable, ROOT / "tools/train.py", "--config", folder / "config.yaml",
               "--data", folder / "data", "--autoencoder", folder / "model/autoencoder.safetensors",
               "--output", tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not (tmp_path / "state-0000004.safetensors").exists() and time.time() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "state-0000004.safetensors").exists()
    resumed = train(folder, tmp_path)
    assert resumed.returncode == 0 and "continuing at step" in resumed.stderr, resumed.stderr
    assert same_state(undisturbed, tmp_path)


def test_a_run_in_sizes_goes_on_bit_for_bit(folder, tmp_path):
    """Small pictures in the first three steps; one run ends in each size and goes on, the other is whole."""
    sizes = "training.sizes=[{until: 3, size: [32, 24], batch_size: 4}]"
    for run, ends in (("whole", [8]), ("parted", [2, 5, 8])):
        for end in ends:
            done = train(folder, tmp_path / run, sizes, f"training.steps={end}")
            assert done.returncode == 0, done.stderr
    (first, _), (second, _) = (weights.read_state(tmp_path / run / "state-0000008.safetensors")
                               for run in ("whole", "parted"))
    assert first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)
    assert {path.name for path in (tmp_path / "whole").glob("latents*")} == {"latents", "latents-32x24"}
    lines = [json.loads(line) for line in (tmp_path / "whole/validation.jsonl").read_text().splitlines()]
    assert [(line["step"], line["latents"]) for line in lines] == [(3, [8, 6]), (4, [16, 12]), (8, [16, 12])]


def test_sizes_that_no_run_can_have(folder, tmp_path):
    def refused(sizes, *words):
        one_error(train(folder, tmp_path / "run", f"training.sizes={sizes}"), "training.sizes", *words)
    refused("[{until: 3, size: [20, 15], batch_size: 4}]", "multiples of 8")
    refused("[{until: 3, size: [32, 32], batch_size: 4}]", "proportions")
    refused("[{until: 3, size: [32, 24], batch_size: 0}]", "batch_size")
    refused("[{until: 3, size: [32, 24], batch_size: 4}, {until: 3, size: [32, 24], batch_size: 4}]", "until")
    refused("[{until: 3, size: [32, 24]}]", "until, size, batch_size")
    refused("[{until: x, size: [32, 24], batch_size: 1}]", "until")
    refused("[[3, 32, 24]]", "a mapping")
    assert not (tmp_path / "run").exists()


def test_sigterm_saves_and_ends_well(folder, undisturbed, tmp_path):
    command = [sys.executable, ROOT / "tools/train.py", "--config", folder / "config.yaml",
               "--data", folder / "data", "--autoencoder", folder / "model/autoencoder.safetensors",
               "--output", tmp_path, "training.steps=100000", "training.save_every=100000",
               "training.log_every=1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not (tmp_path / "train.jsonl").exists() and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, process.stderr.read()
    assert len(list(tmp_path.glob("state-*"))) == 1


def test_other_config_is_refused_and_named(folder, undisturbed):
    one_error(train(folder, undisturbed, "training.ema_rate=0.5", "training.label_drop=0.1"),
              "state-0000008.safetensors", "training.ema_rate, training.label_drop")


def test_a_run_can_be_given_more_steps(folder, undisturbed, tmp_path):
    for path in undisturbed.iterdir():
        if path.is_file():
            os.link(path, tmp_path / path.name)
    longer = train(folder, tmp_path, "training.steps=10", "training.save_every=5")
    assert longer.returncode == 0 and "continuing at step 8" in longer.stderr, longer.stderr
    assert (tmp_path / "state-0000010.safetensors").exists()


def test_truncated_state_falls_back_and_says_so(folder, undisturbed, tmp_path):
    for path in undisturbed.iterdir():
        if path.is_file():
            os.link(path, tmp_path / path.name)
    whole = (tmp_path / "state-0000008.safetensors").read_bytes()
    (tmp_path / "state-0000008.safetensors").unlink()
    (tmp_path / "state-0000008.safetensors").write_bytes(whole[:-100])
    done = train(folder, tmp_path)
    assert done.returncode == 0 and "continuing at step 4" in done.stderr, done.stderr
    assert any(line.startswith("warning: ") and "state-0000008.safetensors" in line and "truncated" in line
               for line in done.stderr.splitlines())
    assert same_state(undisturbed, tmp_path)


def test_exploding_loss_stops_the_run(folder, tmp_path):
    one_error(train(folder, tmp_path, "training.learning_rate=1.0e+30"), "the loss is", "at step")


def test_missing_partner_and_bad_labels(folder, tmp_path):
    for name in ("imgs", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in (folder / "data" / name).iterdir():
            os.link(path, tmp_path / "data" / name / path.name)
    (tmp_path / "data/imgs/m3.jpg").unlink()
    arguments = ("--config", folder / "config.yaml", "--data", tmp_path / "data",
                 "--output", tmp_path / "run")
    one_error(run_tool("train_autoencoder", *arguments), "labels/m3.png: has no partner")
    (tmp_path / "data/labels/m3.png").unlink()
    (tmp_path / "data/labels/m2.png").unlink()
    Image.fromarray(np.full((48, 64), 77, np.uint8)).save(tmp_path / "data/labels/m2.png")
    one_error(run_tool("train", *arguments, "--autoencoder", folder / "model/autoencoder.safetensors"),
              "m2.png", "holds label 77")


def test_further_pictures_are_checked_before_training(folder, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (48, 48)).save(tmp_path / "square.png")
    Image.new("RGB", (128, 96)).save(tmp_path / "whole.png")
    done = run_tool("train_autoencoder", "--config", folder / "config.yaml", "--data", folder / "data",
                    "--pictures", tmp_path, "--output", tmp_path / "run")
    one_error(done, "2 files", "broken.jpg")
    assert not (tmp_path / "run").exists()


def test_autoencoder_training_and_its_resume(folder, tmp_path):
    arguments = ("--config", folder / "config.yaml", "--data", folder / "data", "--output", tmp_path)
    assert run_tool("train_autoencoder", *arguments).returncode == 0
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [2, 4] and lines[0]["codebook"] == 0 < lines[1]["codebook"]
    again = run_tool("train_autoencoder", *arguments)
    assert again.returncode == 0 and "continuing at step 4" in again.stderr


def test_every_item_once_an_epoch():
    seen = np.concatenate([batch_indices(step, 3, 10, seed=1) for step in range(10)])    # three epochs of ten
    assert all(sorted(seen[k:k + 10]) == list(range(10)) for k in (0, 10, 20))
    assert not np.array_equal(seen[:10], seen[10:20])
    assert not np.array_equal(batch_indices(0, 10, 10, seed=1), batch_indices(0, 10, 10, seed=2))


def test_the_order_of_an_epoch_has_random_numbers_of_its_own():
    for epoch in range(5):
        order = batch_indices(epoch, 20, 20, seed=1)
        assert not any(np.array_equal(order, generator(epoch, 1, purpose).permutation(20))
                       for purpose in range(10))


def test_the_order_goes_on_with_another_batch_size():
    first, second = (np.concatenate([batch_indices(step, size, 10, 1, seen) for step in range(steps)])
                     for size, steps, seen in ((3, 2, 0), (2, 7, 6)))
    assert np.array_equal(np.concatenate([first, second]), batch_indices(0, 20, 10, seed=1))
