"""The Python API: a mask and a style reference in, a landscape out."""
from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Union

import numpy as np
from PIL import Image

from ldm import config as configs
from ldm import files, images, values, weights
from ldm.diffusion import Schedule
from ldm.documents import short
from ldm.errors import UserError
from ldm.files import Name
from ldm.inference import fastest, inputs, preview, provenance
from ldm.inference import rounds as rounds_of
from ldm.inference.batch import Batch
from ldm.inference.inputs import Wish
from ldm.inference.pixels import NOT_FINITE
from ldm.inference.refinement import Progress, Refinement
from ldm.inference.rounds import Settings, Source
from ldm.networks import Autoencoder, UNet
from ldm.networks.blocks import blank
from ldm.networks.onednn import for_inference
from ldm.networks.precision import apply as apply_precision
from ldm.networks.precision import shrink
from ldm.weights.agreement import with_config

ENTRY = "iidm"                          # the entry's own weights, which are not in a clone
MODELS = Path(__file__).resolve().parents[2] / "models"     # of a clone: a name there is enough
Made = Union[Image.Image, List[Image.Image]]


class Model:
    """What a pipeline keeps about its model's folder besides the networks."""

    def __init__(self, folder: Path, config: dict, precision: str = "fp32",
                 unet: Optional[Name] = None, hashes: Optional[Mapping[str, str]] = None) -> None:
        self.folder, self.config, self.precision = folder, config, precision     # config: that of training
        self.paths = {"unet": Path(unet or folder / "unet.safetensors"),
                      "autoencoder": folder / "autoencoder.safetensors"}
        self.hashes = hashes

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.folder.resolve().name

    @functools.cached_property
    def weights(self) -> Mapping[str, str]:
        """Hashes of the files of weights, by network. Computed once: files of 2 GB take seconds."""
        return self.hashes or {part: files.sha256(path, 32) for part, path in self.paths.items()}

    def networks(self, size: Sequence[int]) -> tuple[Any, Any]:
        """The U-Net and the autoencoder, ready to compute pictures of `size` = (width, height)."""
        networks: tuple[Any, Any] = (blank(UNet(**self.config["unet"])),
                                     blank(Autoencoder(**self.config["autoencoder"])))
        for network, (part, path) in zip(networks, self.paths.items()):
            weights.load(path, network, taken=shrink(network, self.precision),
                         agrees=with_config(path, self.config, part, self.folder / "config.yaml"))
            network.eval()
            apply_precision(network, self.precision, inference=True)
        (width, height), factor = size, networks[1].factor
        return (for_inference(networks[0], height // factor, width // factor, consume=True),
                for_inference(networks[1], height, width, consume=True))


def model_folder(name: Name) -> Path:
    """The folder at a path, or that of a name in the clone's models/. UserError if there is neither."""
    if not isinstance(name, (str, os.PathLike)):
        raise UserError("model", f"is {short(name)}", "give a folder")
    kind = files.kind_of(name)
    if kind == "folder":
        return Path(name)
    known = sorted(path.parent.name for path in MODELS.glob("*/unet.safetensors"))
    if kind is None and str(name) in known:
        return MODELS / str(name)
    if str(name) == ENTRY:
        raise UserError(MODELS / ENTRY, "does not exist", f"get it with python tools/get_weights.py {ENTRY}")
    raise UserError(name, "is not a model folder", "give a folder with config.yaml, unet.safetensors and "
                    "autoencoder.safetensors" + (f", or one of {', '.join(known)}" if known else ""))


class Step:
    """One step in making one or more pictures. Rounds and steps count from 1."""

    def __init__(self, progress: Progress, pipeline: Pipeline, found: Sequence[Wish]) -> None:
        self.round, self.rounds = progress.round, progress.rounds
        self.index, self.count = progress.index, progress.count         # of the steps of this round
        self._clean, self._pipeline = progress.clean, pipeline
        self.images: Optional[list[Image.Image]] = None         # after the very last step
        if progress.pictures is not None:
            self.images = pipeline.finished(progress.pictures, found)

    @property
    def image(self) -> Optional[Image.Image]:
        """The first picture; None before the very last step."""
        return self.images[0] if self.images else None

    def preview(self) -> Image.Image:
        """The present state of the first picture, of the latent's size."""
        return self.previews()[0]

    def previews(self) -> list[Image.Image]:
        """The present state of each picture, of the latent's size."""
        return [Image.fromarray(array) for array in self._pipeline.colors(self._clean())]


class Pipeline:
    """Masks and style references in, landscapes out.

        pipe = Pipeline.load("models/demo", rounds="fast")
        image = pipe("mask.png", "photo.jpg", seed=7)

    A mask is a path, a Pillow image or an array of classes (or of class colours), of any size in the model's
    proportions. A style is a path, a Pillow image or an array H x W x 3 uint8, of any size; None with rounds
    that start from noise. All errors that a user can cause are UserErrors.
    """

    def __init__(self, model: Model, refinement: Refinement) -> None:
        self.model, self.refinement = model, refinement

    @classmethod
    def load(cls, model: Name, rounds: Optional[Source] = None, *, size: Optional[Sequence[int]] = None,
             precision: str = "fp32", unet: Optional[Name] = None, memory_limit: Optional[int] = None,
             hashes: Optional[Mapping[str, str]] = None) -> Pipeline:
        """From a model folder: config.yaml, autoencoder.safetensors, unet.safetensors.

        rounds: the name of a file in configs/infer, a path, or plain data; by default those that the model's
        config names. size: (width, height) of the pictures, if not the size of training. precision: one of
        runtime.PRECISIONS, or fastest.AUTO. unet: another file of the U-Net's weights. memory_limit: see
        Refinement. hashes: of the weights by network, where known.
        """
        fastest.check(precision, "precision")
        if memory_limit is not None and not (isinstance(memory_limit, int) and memory_limit >= 0):
            raise UserError("memory_limit", f"is {short(memory_limit)}", "give a number of MiB from 0")
        settings, folder = None if rounds is None else rounds_of.load(rounds), model_folder(model)
        config = configs.load(folder / "config.yaml", networks=("unet", "autoencoder"))
        settings = settings or rounds_of.of_model(config, folder / "config.yaml")
        schedule = Schedule.named(config["schedule"])
        settings.for_schedule(schedule)                         # refuses before anything is loaded
        size = config["image_size"] if size is None else values.resized(config, size)["image_size"]
        precision = fastest.chosen(precision, {**config, "image_size": list(size)})
        loaded = Model(folder, config, precision, unet, hashes)
        return cls(loaded, Refinement(*loaded.networks(size), schedule, settings, size, memory_limit))

    @property
    def settings(self) -> Settings:
        """The rounds, with all defaults."""
        return self.refinement.settings

    @property
    def size(self) -> tuple[int, ...]:
        """Width and height of the pictures."""
        return self.refinement.size

    @property
    def latent_size(self) -> tuple[int, ...]:
        """Width and height of latents, of previews, and of the label maps that the network sees."""
        return self.refinement.latent_size

    @property
    def step_count(self) -> int:
        """How many steps a picture takes in all rounds."""
        return sum(r.start for r in self.refinement.rounds)

    def with_rounds(self, rounds: Optional[Source] = None, **overrides: Any) -> Pipeline:
        """The same weights with other rounds; nothing is loaded again.

        rounds: as in `load`; None: the present ones. overrides: keys of the file (`sampler="ddpm"`), keys of
        a round for every round (`guidance=2.5`), or dotted ones (`**{"rounds.0.steps": 8}`).
        """
        settings = rounds_of.load(self.settings if rounds is None else rounds,
                                  rounds_of.assignments(overrides))
        return type(self)(self.model, self.refinement.with_settings(settings))

    def __call__(self, mask: Any, style: Any = None, *, seed: Any = 0, name: Any = None, keep: Any = None,
                 fit: str = "refuse", ignore: Sequence[int] = (), mask_colors: Any = None) -> Made:
        """Make one picture, or a list of them if a list of masks, styles or seeds is given.

        seed: a number, or several for variations of each mask. name: the second half of the seed; by default
        the mask file's stem, or "image". keep: where the style's own pixels stay, the light part of a picture
        or what is not zero in an array; all else is painted to fit (inpainting). fit, ignore, mask_colors:
        how masks are read, as by the options of the tools (images.reading). The pictures are Pillow images
        whose .info["iidm"] says what made them.
        """
        found, one = inputs.wishes(mask, style, seed, name, keep)
        made: list[Image.Image] = []
        for step in self._steps(found, images.reading(ignore, fit, mask_colors)):
            made = step.images or []
        return made[0] if one else made

    def steps(self, mask: Any, style: Any = None, *, seed: Any = 0, name: Any = None, keep: Any = None,
              fit: str = "refuse", ignore: Sequence[int] = (), mask_colors: Any = None) -> Iterator[Step]:
        """As a call, but step by step. Leaving the loop cancels the rest."""
        found, _ = inputs.wishes(mask, style, seed, name, keep)
        return self._steps(found, images.reading(ignore, fit, mask_colors))

    def _steps(self, found: Sequence[Wish], reading: images.Reading) -> Iterator[Step]:
        """Read all inputs now, and return an iterator that makes the pictures."""
        batch = inputs.batch(found, self.size, self.latent_size, reading, self.settings.uses_reference)
        return self._made(found, batch)

    def _made(self, found: Sequence[Wish], batch: Batch) -> Iterator[Step]:
        try:
            for progress in self.refinement.steps(batch):
                yield Step(progress, self, found)
        except MemoryError as e:
            raise UserError("pictures", f"do not fit into the device's memory ({e})",
                            "make fewer at a time") from None

    def finished(self, pictures: Sequence[Optional[np.ndarray]], found: Sequence[Wish]) -> list[Image.Image]:
        """The last round's pictures as Pillow images. UserError for one whose numbers were not finite."""
        made = []
        for picture, wish in zip(pictures, found):
            if picture is None:
                raise UserError(wish.name, *NOT_FINITE)
            image = Image.fromarray(self.refinement.pixels.result(picture))
            image.info[provenance.KEY] = self.text(wish.seed, wish.name)
            made.append(image)
        return made

    def files(self, batch: Batch, suffix: str = "jpg",
              on_step: Callable[[], None] = lambda: None) -> list[Optional[bytes]]:
        """The bytes of each picture's file, "jpg" or "png"; None for one whose numbers were not finite.

        MemoryError: see Refinement.steps.
        """
        pictures = self.refinement.pictures(batch, on_step)
        return [None if picture is None else
                self.refinement.pixels.file(picture, suffix, self.text(seed, name))
                for picture, seed, name in zip(pictures, batch.seeds, batch.names)]

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """The part of the pictures' text that all pictures of this pipeline share."""
        return provenance.about(self.model.name, self.model.weights, self.settings, self.size,
                                self.model.precision)

    def text(self, seed: int, name: str) -> str:
        """The text about how a picture was made, as JSON."""
        return json.dumps({**self.about, "seed": seed, "name": name})

    @functools.cached_property
    def colors(self) -> preview.LatentColors:
        """The colours of latents, for previews. Fitted once for each model, and kept in its folder."""
        return preview.of_model(self.model.folder, self.model.weights["autoencoder"], self.size,
                                self.refinement.encode)

    @staticmethod
    def grid(pictures: Sequence[Image.Image], columns: Optional[int] = None) -> Image.Image:
        """Pictures of one size in one, row by row; by default at most 4 a row."""
        if not isinstance(pictures, (list, tuple)) or not all(isinstance(x, Image.Image) for x in pictures):
            raise UserError("pictures", "are not a list of Pillow images", "give such a list")
        arrays = [np.asarray(picture.convert("RGB")) for picture in pictures]
        columns = min(4, len(arrays)) if columns is None else columns
        if len({array.shape for array in arrays}) != 1:
            raise UserError("pictures", "have several sizes, or there are none", "give pictures of one size")
        if type(columns) is not int or columns < 1:
            raise UserError("columns", f"is {short(columns)}", "give a number from 1")
        return Image.fromarray(images.grid([arrays[i:i + columns] for i in range(0, len(arrays), columns)]))

    @staticmethod
    def save(picture: Image.Image, path: Name) -> None:
        """Write a picture as PNG or JPEG, by the suffix, with what made it (`provenance.read`)."""
        provenance.save(picture, path)
