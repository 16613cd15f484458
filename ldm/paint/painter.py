"""The painter of the model process: a Pipeline, as in the Python API and in tools/infer.py."""
from __future__ import annotations

import io
import json
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np
from PIL import Image

from ldm.errors import UserError
from ldm.images import AS_IS
from ldm.inference import inputs, provenance
from ldm.inference.inputs import Wish
from ldm.inference.pipeline import Pipeline
from ldm.inference.pixels import NOT_FINITE
from ldm.paint import presets
from ldm.paint.protocol import Pipe
from ldm.paint.segmenters import Segmenters
from ldm.paint.uploads import png_bytes
from ldm.paint.worker import Step
from ldm.platform import runtime

FIRST = "First picture with the sampler {}: what it needs is compiled now, once ..."
SETTLED = 4                 # steps after which a sampler compiles no more, so that a cancelled job counts too
MINUTES = 1                 # that another sampler's operators take to compile, at most


class Painter:
    """A loaded model. See worker.Painter."""

    def __init__(self, pipeline: Pipeline, pipe: Pipe, segmenters: Segmenters) -> None:
        self.pipeline, self.pipe, self.answer = pipeline, pipe, segmenters.answer
        self.measured: list[Any] = []
        self.known: set[str] = set()            # what was compiled, see `notice`

    @classmethod
    def load(cls, pipe: Pipe, options: dict[str, Any]) -> Painter:
        """The model of the folder options["model"], tried once on a sample: that compiles what is to be
        compiled, and measures this machine."""
        pipeline = Pipeline.load(Path(options["model"]), presets.WARM_UP, precision=options["precision"])
        painter = cls(pipeline, pipe, Segmenters(options["segmenters"]))
        painter.warm_up(options["mask"], options["style"])
        return painter

    def warm_up(self, mask: str, style: str) -> None:
        """Make a picture of a sample twice: the second time nothing is compiled or loaded."""
        self.pipeline(mask, style, fit="crop")
        _ = self.pipeline.colors                # fitted now, not at the first preview
        started = time.monotonic()
        self.pipeline(mask, style, fit="crop")
        self.measured = [presets.plain(self.pipeline.settings), time.monotonic() - started]

    def facts(self) -> dict[str, Any]:
        return {"weights": dict(self.pipeline.model.weights), "measured": self.measured}

    def make(self, job: dict[str, Any], on_step: Callable[[Step], None]) -> list[tuple[bytes, bytes]]:
        """See worker.Painter."""
        pipeline = self.pipeline.with_rounds(job["rounds"])
        width, height = job["size"]
        mask = np.frombuffer(job["mask"], np.uint8).reshape(height, width)
        style = job["reference"] and Image.open(io.BytesIO(job["reference"]))
        found = [Wish(mask, style, seed, job["name"]) for seed in job["seeds"]]
        batch = inputs.batch(found, pipeline.size, pipeline.latent_size, AS_IS,
                             pipeline.settings.uses_reference)
        compiled = self.notice(job, pipeline)
        pictures: Any = []
        for count, step in enumerate(pipeline.refinement.steps(batch), 1):
            on_step(Step(step.round, step.rounds, step.index, step.count,
                         partial(previews, pipeline, step.clean)))
            pictures = step.pictures or []
            if count == SETTLED or step.pictures:
                compiled()
        return [files(pipeline, picture, wish, job) for picture, wish in zip(pictures, found)]

    def notice(self, job: dict[str, Any], pipeline: Pipeline) -> Callable[[], None]:
        """Tell the page if a job will compile something. Returns a function to call when that is done."""
        settings = pipeline.settings
        guided = sorted({guides for r in pipeline.refinement.rounds for guides in r.guides})
        key = f"page {self.pipeline.model.config['unet']} {settings.sampler} {guided} {len(job['seeds'])}"
        if key in self.known:
            return lambda: None
        if not runtime.is_compiled(key):
            self.pipe.send("compiling", job=job["job"], minutes=MINUTES)
        compiled = runtime.notice_compile(key, FIRST.format(settings.sampler))

        def done() -> None:
            if key not in self.known:
                self.known.add(key)
                compiled()
        return done


def previews(pipeline: Pipeline, clean: Callable[[], np.ndarray]) -> list[bytes]:
    """What each picture looks like so far, as PNGs of the latent's size."""
    return [png_bytes(Image.fromarray(colors)) for colors in pipeline.colors(clean())]


def files(pipeline: Pipeline, picture: Any, wish: Wish, job: dict[str, Any]) -> tuple[bytes, bytes]:
    """(PNG, JPEG) of a picture, with what made it. UserError where its numbers were not finite."""
    if picture is None:
        raise UserError(wish.name, *NOT_FINITE)
    about = {**json.loads(pipeline.text(wish.seed, wish.name)), "mask": job["mask_id"],
             "reference": job["reference_id"]}
    text, pixels = json.dumps(about), pipeline.refinement.pixels
    return provenance.encoded(pixels.result(picture), "png", text=text), pixels.file(picture, "jpg", text)
