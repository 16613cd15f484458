"""The metrics against the golden numbers; nothing here imports Jittor."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ldm.errors import UserError
from ldm.evaluation import MaskAccuracy, Moments, frechet_distance, mean_score, style_similarity, total_score
from ldm.evaluation.fid import cached_moments, files_hash
from ldm.evaluation.style import VARIANTS

GOLDEN = Path(__file__).parent / "golden" / "eval"
FRECHET = json.loads((GOLDEN / "frechet.json").read_text())
STYLE = json.loads((GOLDEN / "style.json").read_text())
SCORES = json.loads((GOLDEN / "total_score.json").read_text())


def moments_of(*batches):
    moments = Moments()
    for batch in batches:
        moments.add(batch)
    return moments.result("features")


def test_no_jittor_is_imported():
    code = "import sys, ldm.evaluation; sys.exit('jittor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=GOLDEN.parents[2]).returncode == 0


@pytest.mark.parametrize("case", FRECHET)
def test_frechet_distance(case):
    arrays = np.load(GOLDEN / "frechet.npz")
    if f"{case}.x1" in arrays:
        first, second = moments_of(arrays[f"{case}.x1"]), moments_of(arrays[f"{case}.x2"])
        exact = FRECHET[case]["exact_from_samples"]
        assert frechet_distance(*first, *second) == pytest.approx(exact, rel=1e-11)
    else:
        first, second = ([arrays[f"{case}.{name}{i}"] for name in ("mu", "s")] for i in (1, 2))
    assert frechet_distance(*first, *second) == pytest.approx(FRECHET[case]["exact"], rel=1e-6, abs=1e-10)


def test_frechet_distance_of_few_images_in_many_dimensions():
    """Two samples of rank 5 in 300 dimensions, against the exact value from their 6 x 6 product of
    samples."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((6, 300)), 3 + 2 * rng.standard_normal((6, 300))
    (mu1, s1), (mu2, s2) = moments_of(a), moments_of(b)
    overlap = np.linalg.svd((a - a.mean(0)) @ (b - b.mean(0)).T / 5, compute_uv=False).sum()
    exact = ((mu1 - mu2) ** 2).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum() - 2 * overlap
    assert frechet_distance(mu1, s1, mu2, s2) == pytest.approx(exact, rel=1e-12)
    assert frechet_distance(mu1, s1, mu1, s1) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(mu1, 0 * s1, mu1, s1) == pytest.approx(np.trace(s1), rel=1e-12)


def test_frechet_distance_refuses_what_is_no_moment():
    mu, sigma = np.zeros(3), np.eye(3)
    with pytest.raises(ValueError, match="shapes"):
        frechet_distance(mu, sigma, np.zeros(4), np.eye(4))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(mu, sigma * np.nan, mu, sigma)


def test_moments_do_not_depend_on_the_batches():
    x = 1000 + np.random.default_rng(1).standard_normal((50, 7))
    mu, sigma = moments_of(x[:1], x[1:9], x[9:])
    np.testing.assert_allclose(mu, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(sigma, np.cov(x, rowvar=False), rtol=0, atol=1e-13)


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_has_no_covariance(count):
    moments = Moments()
    if count:
        moments.add(np.ones((count, 4)))
    with pytest.raises(UserError, match=rf"results: {count} image"):
        moments.result("results")


def test_statistics_are_computed_once_for_a_list_of_files(tmp_path):
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for path in paths:
        path.write_bytes(b"x")
    calls = []

    def compute():
        calls.append(1)
        return np.arange(3.0), np.eye(3) * len(calls), ["b.jpg: is corrupt"]

    cache = tmp_path / "cache"
    first = cached_moments(cache, paths, "n" * 64, compute)
    again = cached_moments(cache, paths, "n" * 64, compute)
    assert len(calls) == 1 and again[2] == ["b.jpg: is corrupt"]
    np.testing.assert_array_equal(first[1], again[1])
    cached_moments(cache, paths, "m" * 64, compute)                    # another network
    paths[1].write_bytes(b"xy")                                        # another file
    cached_moments(cache, paths, "n" * 64, compute)
    cached_moments(cache, paths[:1], "n" * 64, compute)                # a shorter list
    assert len(calls) == 4


def test_damaged_statistics_are_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    file = tmp_path / f"moments-{files_hash([path])[:16]}-{'n' * 16}.npz"
    file.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(UserError, match="is not a statistics file.*delete it"):
        cached_moments(tmp_path, [path], "n" * 64, None)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pair", STYLE)
def test_style_similarity(pair, variant):
    images = np.load(GOLDEN / "style.npz")
    value = style_similarity(images[f"{pair}.a"], images[f"{pair}.b"], variant)
    assert value == pytest.approx(STYLE[pair][variant], abs=1e-6)


def test_style_default_is_the_contest():
    images = np.load(GOLDEN / "style.npz")
    similarity = style_similarity(images["brighter.a"], images["brighter.b"])
    assert similarity == pytest.approx(0.8330330467, abs=1e-6)


@pytest.mark.parametrize("row", SCORES["paper"] + SCORES["random"])
def test_total_score(row):
    exact = row.get("T_eq8", row.get("T"))
    assert total_score(row["M"], row["A"], row["FID"], row["S"]) == pytest.approx(exact, abs=1e-9)


def test_total_score_of_the_two_rows_printed_65_27():
    rows = [row for row in SCORES["paper"] if row["T_printed"] == 65.27]
    assert [round(total_score(r["M"], r["A"], r["FID"], r["S"]), 4) for r in rows] == [65.2224, 65.2224]
    assert len(SCORES["paper"]) == 11


def test_total_score_needs_every_number():
    numbers = [94.15, 50.43, 30.75, 63.76]
    for i in range(4):
        assert total_score(*numbers[:i], None, *numbers[i + 1:]) is None
    assert total_score(100, 50, 250, 0) == total_score(100, 50, 100, 0) == 25


def test_mask_accuracy():
    accuracy = MaskAccuracy()
    assert accuracy.mean() is None
    given = np.array([[0, 0, 1], [1, 28, 28]], np.uint8)
    assert accuracy.add(np.array([[0, 1, 1], [1, 28, 0]], np.uint8), given) == pytest.approx(4 / 6)
    assert accuracy.add(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8)) == 1
    assert accuracy.mean() == pytest.approx(100 * (4 / 6 + 1) / 2)
    assert accuracy.per_class()[:3] == [pytest.approx(100 * 5 / 6), 100, None]
    assert accuracy.iou()[:3] == [pytest.approx(100 * 5 / 7), pytest.approx(100 * 2 / 3), None]
    confusion = accuracy.confusion
    assert confusion[28, 0] == 1 and confusion[0, 28] == 0 and confusion.sum() == 10
    with pytest.raises(ValueError, match="differ in size"):
        accuracy.add(given[:1], given)


def test_mask_accuracy_of_the_golden_predictions():
    golden = np.load(GOLDEN / "segformer.npz")
    accuracy = MaskAccuracy()
    shares = [accuracy.add(p, g) for p, g in zip(golden["b0_pred"], golden["b0_gt"])]
    np.testing.assert_allclose(shares, golden["b0_accuracy"], rtol=1e-12)


def test_mean_score():
    golden = np.load(GOLDEN / "nima.npz")
    np.testing.assert_allclose(mean_score(golden["dist_p"]), golden["dist_mean"], rtol=1e-12)
