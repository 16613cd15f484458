"""The kinds of cases of fuzz.py: each changes a copy of the world and says what to run."""
from __future__ import annotations

import os
from typing import NamedTuple

import fuzz_inputs as bad
from tiny import CONFIG


class Case(NamedTuple):
    """tool and arguments; what must be there afterwards if the status is 0, `each`: also if some of many
    things failed (path -> bytes, None: any); folders and files that may change."""
    tool: str
    arguments: list
    expected: dict = {}
    each: bool = False
    output: tuple = ("out",)


def infer_arguments(output="out", **changes):
    """Options of infer.py with good values, but for `changes`."""
    options = {"model": "model", "rounds": "model/rounds.yaml", "masks": "data/masks",
               "references": "data/references", "output": output} | changes
    return [f"--{name}={value}" for name, value in options.items()]


def gan_arguments(output="out"):
    """Options of infer.py with good values for a GAN, whose pictures are 64 x 32."""
    given = infer_arguments(output, model="gans/gaugan")
    return [*(option for option in given if not option.startswith("--rounds")), "--fit=crop"]


def train_arguments(output="run", **changes):
    """Options of train.py with good values, but for `changes`."""
    options = {"config": "config.yaml", "data": "train", "autoencoder": "model/autoencoder.safetensors",
               "output": output} | changes
    return [f"--{name}={value}" for name, value in options.items()]


# ---- the kinds of cases: each changes `place`, a copy of the world, and says what to run

def infer(rng, world, place):
    """A text or a file of weights that all pictures need is bad."""
    which = bad.pick(rng, ("model/config.yaml", "model/rounds.yaml", "model/unet.safetensors",
                           "model/autoencoder.safetensors", "pairs.json"))
    path = place / which
    bend = {".yaml": bad.bent_yaml, ".json": bad.bent_json, ".safetensors": bad.bent_weights}[path.suffix]
    bad.replace(path, bend(rng, path.read_bytes()))
    more = ["--pairs=pairs.json"] if "pairs" in which else []
    if path.suffix == ".yaml" or rng.integers(2):      # a valid new size or number of steps would take long
        more.append("--dry-run")
    expected = {} if "--dry-run" in more or "pairs" in which else \
        {f"out/{name}": None for name in world.results}
    return Case("infer", infer_arguments() + more, expected)


def infer_images(rng, world, place):
    """One or two masks or references are bad; the others' results must be those of good input."""
    good = dict(world.results)
    for stem in rng.choice(world.stems, int(rng.integers(1, 3)), replace=False).tolist():
        path = place / bad.pick(rng, (f"data/masks/{stem}.png", f"data/references/{stem}.jpg"))
        way = rng.integers(8)
        data = path.read_bytes()
        path.unlink()
        if way == 0:
            os.mkfifo(path)
        elif way == 1:
            path.symlink_to(path.name)
        elif way == 2:
            path.symlink_to("/dev/zero")
        elif way > 3:                                                    # 3: it is not there
            path.write_bytes(bad.bent_picture(rng, data))
        good.pop(f"{stem}.jpg")
    return Case("infer", infer_arguments(), {f"out/{name}": data for name, data in good.items()}, each=True)


def infer_gan(rng, world, place):
    """The config or the weights of a GAN are bad."""
    path = place / "gans/gaugan" / bad.pick(rng, ("config.yaml", "generator.safetensors"))
    bend = bad.bent_yaml if path.suffix == ".yaml" else bad.bent_weights
    bad.replace(path, bend(rng, path.read_bytes()))
    more = ["--dry-run"] if path.suffix == ".yaml" else []
    return Case("infer", [*gan_arguments(), *more],
                {} if more else {f"out/{name}": None for name in world.results})


def infer_record(rng, world, place):
    """What a folder's record says of results that are there is bent: they are kept, or all is refused."""
    path = place / "good/about" / bad.pick(rng, ("results.jsonl", "hashes.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    which = int(rng.integers(len(lines)))
    lines[which] = bad.bent_json(rng, lines[which]) + (b"\n" if rng.integers(2) else b"")
    bad.replace(path, b"".join(lines))
    more = ["--seed=1"] if not rng.integers(4) else []
    expected = {} if more else {f"good/{name}": data for name, data in world.results.items()}
    return Case("infer", infer_arguments("good") + more, expected, output=("good/about",))


def infer_names(rng, world, place):
    """A pair more, of an odd name."""
    name = bad.pick(rng, bad.NAMES)
    masks, references = (os.fsencode(place / "data" / part) for part in ("masks", "references"))
    os.link(os.path.join(masks, b"m0.png"), os.path.join(masks, name + b".png"))
    if rng.integers(4):
        os.link(os.path.join(references, b"m0.jpg"), os.path.join(references, name + b".jpg"))
    expected = {f"out/{name}": data for name, data in world.results.items()}
    return Case("infer", infer_arguments(), expected, each=True)


def convert(rng, world, place):
    """A bent file of weights of any kind."""
    which = bad.pick(rng, ("weights_lightning.ckpt", "weights_legacy.pt", "weights_jittor.pkl",
                           "model/autoencoder.safetensors"))
    bad.replace(place / which, bad.bent_weights(rng, (place / which).read_bytes()))
    more = [f"--container={bad.pick(rng, ('ema', bad.ESCAPE, 'state_dict', '.', 'k' * 3000))}"] \
        if not rng.integers(4) else []
    return Case("convert", [which, "--output=out/w.safetensors", *more], {"out/w.safetensors": None})


def average(rng, world, place):
    """One of two checkpoints is bent, or the numbers are odd."""
    which = place / "model/unet.safetensors"
    (place / "other.safetensors").write_bytes(bad.bent_weights(rng, which.read_bytes()))
    more = ["--weights=" + bad.pick(rng, ("1", "1,2,3", "nan,1", "1e999,1", "-1,2", "0,0", "a,b", ","))] \
        if not rng.integers(3) else []
    return Case("average", [str(which), "other.safetensors", "--output=out/w.safetensors", *more],
                {"out/w.safetensors": None})


def evaluate(rng, world, place):
    """Results, masks, references or training pictures are bad; without networks."""
    for stem in rng.choice(world.stems, int(rng.integers(1, 3)), replace=False).tolist():
        path = place / bad.pick(rng, (f"data/masks/{stem}.png", f"data/references/{stem}.jpg",
                                      f"good/{stem}.jpg", f"train/imgs/{stem}.jpg"))
        bad.replace(path, bad.bent_picture(rng, path.read_bytes()))
    return Case("evaluate", ["--results=good", "--masks=data/masks", "--references=data/references",
                             "--train-images=train/imgs", "--models=data", "--cache=out", "--json"])


def encode(rng, world, place):
    """Training pictures are bad, or the index or a shard of a cache."""
    if rng.integers(2):
        stem = bad.pick(rng, world.stems)
        path = place / bad.pick(rng, (f"train/labels/{stem}.png", f"train/imgs/{stem}.jpg"))
        bad.replace(path, bad.bent_picture(rng, path.read_bytes()))
    else:
        path = place / "run/latents" / bad.pick(rng, ("index.json", "shard-00000.npy"))
        bend = bad.bent_json if path.suffix == ".json" else bad.bent
        bad.replace(path, bend(rng, path.read_bytes()))
    return Case("encode_latents", ["--config=config.yaml", "--data=train",
                                   "--autoencoder=model/autoencoder.safetensors", "--output=run/latents"],
                output=("run",))


def train(rng, world, place):
    """The config, an override or the weights of a run that is only planned are bad."""
    more = ["--dry-run"]
    if rng.integers(2):
        path = place / bad.pick(rng, ("config.yaml", "model/autoencoder.safetensors"))
        bend = bad.bent_yaml if path.suffix == ".yaml" else bad.bent_weights
        bad.replace(path, bend(rng, path.read_bytes()))
    else:
        key = bad.pick(rng, [f"{part}.{key}" for part in ("unet", "autoencoder", "training")
                             for key in CONFIG[part]] + ["image_size", "schedule", "x", "unet", "="])
        value = str(bad.pick(rng, bad.VALUES[:-1])).replace("\0", "")
        more.append(f"{key}={value}")
    return Case("train", train_arguments("out") + more)


def train_state(rng, world, place):
    """A state, log or the cache of a run that has ended is bad: it goes on from an older state, or not."""
    names = ("run/state-0000008.safetensors", "run/train.jsonl", "run/latents/index.json", "run/config.yaml",
             "run/latents/shard-00000.npy")
    path = place / bad.pick(rng, names)
    bend = {".json": bad.bent_json, ".yaml": bad.bent_yaml,
            ".safetensors": bad.bent_weights}.get(path.suffix, bad.bent)
    bad.replace(path, bend(rng, path.read_bytes()))
    return Case("train", train_arguments(), {f"run/{name}": data for name, data in world.state.items()},
                output=("run",))


def landscapes(rng, world, place):
    """Odd numbers of scenes that are drawn."""
    options = {"count": "1", "seed": "0", "start": "0", "output": "out", "size": None, "split": "train"}
    name = bad.pick(rng, ("count", "seed", "start", "split", "size", "processes"))
    options[name] = bad.pick(rng, ("-1", "x", "", "1e3", "0", "9" * 30, bad.ESCAPE, "nan", "\u00b2"))
    arguments = [f"--{key}={value}" for key, value in options.items() if value is not None and key != "size"]
    size = [options["size"], "48"] if options["size"] is not None else ["64", "48"]
    return Case("make_landscapes", [*arguments, "--size", *size])


def doctor(rng, world, place):
    """Odd options of the doctor, which are refused before it looks around."""
    names = "", "nothing", bad.ESCAPE, "x" * 3000, "numpy", "-", "a b", "../x", "numpy>=1"
    return Case("doctor", ["--packages", bad.pick(rng, names)])


PLACES = {
    "infer": (infer_arguments, ("model", "rounds", "masks", "references", "output", "pairs", "input_path",
                                "img_path")),
    "train": (lambda: [*train_arguments("out"), "--dry-run"], ("config", "data", "autoencoder", "output",
                                                               "latents", "segformer")),
    "encode_latents": (lambda: ["--config=config.yaml", "--data=train", "--output=out",
                                "--autoencoder=model/autoencoder.safetensors"],
                       ("config", "data", "autoencoder", "output")),
    "convert": (lambda: ["model/unet.safetensors", "--output=out/w.safetensors"], ("output", "config")),
    "average": (lambda: ["model/unet.safetensors", "model/unet.safetensors", "--output=out/w.safetensors"],
                ("output",)),
    "evaluate": (lambda: ["--results=good", "--masks=data/masks", "--references=data/references",
                          "--train-images=train/imgs", "--models=data", "--cache=out"],
                 ("results", "masks", "references", "train-images", "pairs", "segformer", "nima", "inception",
                  "cache")),
    "make_landscapes": (lambda: ["--count=1", "--size", "64", "48", "--output=out"], ("output",)),
    "train_autoencoder": (lambda: ["--config=config.yaml", "--data=train", "--output=out", "--dry-run"],
                          ("config", "data", "pictures", "init", "output")),
    "train_segmenter": (lambda: ["--config=config.yaml", "--data=train", "--output=out", "--dry-run"],
                        ("config", "data", "autoencoder", "output")),
    "train_baseline": (lambda: ["--config=gans/gaugan/config.yaml", "--data=train", "--fit=crop",
                                "--output=out", "--dry-run"],
                       ("config", "data", "vgg", "segformer", "output")),
    "ablation": (lambda: ["--model=model", "--rounds=model/rounds.yaml", "--data=test", "--count=2",
                          "--train-images=train/imgs", "--models=data", "--output=out"],
                 ("model", "checkpoint", "rounds", "data", "train-images", "models", "output")),
    "compare": (lambda: ["--model=model", "--rounds=model/rounds.yaml", "--data=test", "--gans=gans",
                         "--train-images=train/imgs", "--models=data", "--output=out"],
                ("model", "checkpoint", "rounds", "gans", "data", "reference-masks", "train-images", "models",
                 "output")),
    "label_photos": (lambda: ["--photos=data/references", "--output=out", "--size", "64", "48"],
                     ("photos", "segmenter", "mapping", "output")),
    "sheet": (lambda: ["--model=model", "--rounds=model/rounds.yaml", "--masks=data/masks/m0.png",
                       "--references=data/references/m0.jpg", "--output=out/sheet.png"],
              ("model", "rounds", "masks", "references", "output")),
    "reconstruct": (lambda: ["--model=model", "--images=data/references", "--output=out"],
                    ("model", "autoencoder", "config", "images", "output")),
    "plot": (lambda: ["run", "--output=out/curves.png"], ("output",)),
    "doctor": (lambda: ["--model=model", "--photos=data/references"], ("model", "photos")),
    "get_weights": (lambda: ["nima", "--file=weights_legacy.pt", "--models=out"], ("file", "models")),
}


def places(rng, world, place):
    """An option names what is no file, or a name that leads nowhere."""
    tool = bad.pick(rng, list(PLACES))
    arguments, options = PLACES[tool]
    option = bad.pick(rng, options)
    kept = [a for a in arguments() if not a.startswith(f"--{option}=")]
    more = ["--part=unet"] if (tool, option) == ("convert", "config") else []
    return Case(tool, [*kept, f"--{option}={bad.odd_place(rng, place)}", *more],
                output=("out", "odd" if option == "output" else "odd3"))


def options(rng, world, place):
    """An option has an odd value, or is none."""
    tool = bad.pick(rng, list(PLACES))
    arguments, _ = PLACES[tool]
    odd = bad.pick(rng, ("--seed=-1", "--batch-size=0", "--batch-size=x", "--format=gif", "--unknown",
                         "--processes=0", "--gpus=-3", "--memory-limit=-1", "--precision=fp8", "--part=x",
                         "--dtype=int4", "extra=1", "eta=.nan", "jpeg_quality=500", "guidance=.inf",
                         "rounds=[]", "=", "a=b=c", "eta=" + "[" * 6000, "eta=0x_", bad.ESCAPE, "\u202e",
                         "--seed=" + "9" * 5000, "-", "--"))
    more = ["--dry-run"] if tool == "infer" else []
    return Case(tool, [*arguments(), *more, odd])


KINDS = {"infer": infer, "infer_images": infer_images, "infer_gan": infer_gan, "infer_record": infer_record,
         "infer_names": infer_names, "convert": convert, "average": average, "evaluate": evaluate,
         "encode": encode, "train": train, "train_state": train_state, "landscapes": landscapes,
         "doctor": doctor, "places": places, "options": options}
SHARES = {"convert": 3, "infer": 2, "places": 4, "options": 2, "train": 2, "infer_images": 2}
