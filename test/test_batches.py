"""Batches that the device's memory does not hold: halved, and nothing made twice or counted twice."""
import numpy as np
import pytest
from tiny import make_pairs

from ldm import images
from ldm.errors import UserError
from ldm.inference import job, pixels


class Pipeline:
    """Makes grey pictures in two steps, of so many images at a time as it `holds`."""
    size = latent_size = (32, 24)

    def __init__(self, holds):
        self.holds, self.sizes = holds, []

    def files(self, batch, suffix, on_step):
        names = batch.names
        self.sizes.append(len(names))
        on_step()
        if len(names) > self.holds:
            raise MemoryError(f"{len(names)} images at a time")
        on_step()
        return [pixels.encoded(np.full((24, 32, 3), 128, np.uint8), suffix, 95)] * len(names)


@pytest.fixture
def plan(tmp_path):
    pairs = make_pairs(tmp_path / "in", count=11)
    return job.plan(pairs / "masks", pairs / "references", None, tmp_path / "out", "png")


def test_a_batch_is_halved_until_it_fits(plan, caplog):
    pipeline, steps, items = Pipeline(holds=2), [], list(plan.todo)
    assert sum(job.run(plan, pipeline, 8, steps.append)) == 11
    assert pipeline.sizes == [8, 4, 2, 2, 2, 2, 2, 1]           # the second batch begins with what fitted
    assert plan.done == items and plan.failures == [] and sum(steps) == 2 * 11
    assert all(images.read_image(item.result, (32, 24)).mean() == 128 for item in items)
    assert [r.message for r in caplog.records] == [
        "8 images at a time do not fit into the device's memory; trying 4",
        "4 images at a time do not fit into the device's memory; trying 2"]


def test_one_image_that_does_not_fit_ends_the_job(plan):
    with pytest.raises(UserError, match=f"{plan.todo[0].mask}: does not fit into the device's memory"):
        list(job.run(plan, Pipeline(holds=0), 4))
    assert plan.done == []
