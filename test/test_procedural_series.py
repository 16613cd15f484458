"""300 procedural landscapes of one series: classes, regions and colours as a whole."""
import numpy as np
import pytest

from ldm.datasets.procedural import PALETTES, make_scene, palette_name
from ldm.labels import NAMES, NUM_CLASSES

SMALL = 128, 96


@pytest.fixture(scope="module")
def many():
    """300 small scenes of one seed: (palette names, images, label maps)."""
    scenes = [make_scene(11, index, SMALL) for index in range(300)]
    names = np.array([palette_name(11, index) for index in range(300)])
    return names, np.stack([image for image, _ in scenes]), np.stack([labels for _, labels in scenes])


def test_every_class_in_one_scene_of_a_hundred(many):
    _, _, labels = many
    assert labels.max() == NUM_CLASSES - 1
    least = 6                                                    # pixels of 128 x 96
    counts = np.array([np.bincount(one.ravel(), minlength=NUM_CLASSES) for one in labels])
    scenes = (counts >= least).sum(axis=0)
    rare = {NAMES[k]: int(scenes[k]) for k in np.flatnonzero(scenes < 3)}
    assert not rare, f"of 300 scenes these are in fewer than 3: {rare}"


def test_regions_are_large(many):
    """Five regions cover most of a picture, and no class fills all of it."""
    _, _, labels = many
    shares = np.sort([np.bincount(one.ravel(), minlength=NUM_CLASSES) / one.size for one in labels], axis=1)
    assert shares[:, -5:].sum(axis=1).mean() > 0.9
    assert shares[:, -1].max() < 0.85


def test_palette_decides_the_colours(many):
    """Colour histograms (8 x 8 x 8) correlate within a palette and hardly across."""
    names, images, _ = many
    assert set(names) == set(PALETTES) and len(PALETTES) >= 8
    bins = (images.astype(np.int32) // 32) @ np.array([64, 8, 1])
    correlation = np.corrcoef([np.bincount(b.ravel(), minlength=512) for b in bins])
    same = names[:, None] == names[None]
    within, across = same & ~np.eye(len(names), dtype=bool), ~same
    assert correlation[within].mean() > correlation[across].mean() + 0.4
    for name in PALETTES:
        mine = names == name
        inside = correlation[np.ix_(mine, mine)].sum() - mine.sum()
        assert inside / (mine.sum() * (mine.sum() - 1)) > correlation[np.ix_(mine, ~mine)].mean() + 0.2, name


def test_palette_is_independent_of_what_is_shown(many):
    """Scenes of one palette show as much water, wood and building as others (chance: 0.08)."""
    names, _, labels = many
    for group in (("lake", "sea", "river", "water"), ("tree",), ("house", "building"), ("road", "path")):
        shows = np.isin(labels, [NAMES.index(n) for n in group]).mean(axis=(1, 2)) > 0.02
        shares = [shows[names == name].mean() for name in PALETTES]
        assert np.ptp(shares) < 0.5 and np.std(shares) < 0.2
