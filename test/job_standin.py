"""A job on four pairs with a stand-in for the pipeline, which makes pictures without Jittor."""
import os

import numpy as np
import pytest
from PIL import Image
from tiny import make_pairs

from ldm.inference import job, pixels, record

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


def change_mask(place):
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(place / "in/masks/m1.png")
