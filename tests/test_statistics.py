"""The statistics against independent computations, and their intervals against simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, bootstrap
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from stages.evaluation.accuracy import correct, image_variance, mean_over_draws, score, wilson_interval
from stages.evaluation.statistics import (
    accuracy_over_runs,
    by_method,
    calibration_error,
    class_accuracy,
    difference_interval,
    efficiency_over_runs,
    efficiency_table,
    labels_needed,
    mean_interval,
    method_score,
    paired_differences,
    paired_differences_over_runs,
    reliability,
)


def _predictions(right, confidence=None):
    right = np.asarray(right, bool)
    confidence = np.full(len(right), 0.9) if confidence is None else confidence
    return pd.DataFrame(
        {"actual": ["a"] * len(right), "predicted": np.where(right, "a", "b"), "confidence": confidence}
    )


def _covered(intervals, truth):
    low, high = np.transpose(intervals)
    return ((low <= truth) & (truth <= high)).mean()


def test_score_counts_correct_predictions():
    predictions = _predictions([1, 1, 0, 1], [0.9, 0.9, 0.6, 0.9])
    assert correct(predictions).tolist() == [True, True, False, True]
    found = score(predictions, 6)
    assert found.keys() == {"accuracy", "ci95", "labels", "test_images"}
    assert (found["accuracy"], found["labels"], found["test_images"]) == (0.75, 6, 4)
    assert found["ci95"] == pytest.approx(wilson_interval(3, 4), abs=1e-6)
    assert method_score(predictions, 6).items() >= found.items()


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (3, 4), (0, 50), (50, 50), (1853, 2000)])
def test_wilson_interval_equals_scipy(successes, trials):
    interval = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    assert wilson_interval(successes, trials) == pytest.approx((interval.low, interval.high), abs=1e-12)


@pytest.mark.parametrize(("share", "images"), [(0.5, 200), (0.8, 500), (0.95, 2000)])
def test_wilson_interval_covers(share, images):
    rng = np.random.default_rng(0)
    assert (
        0.93 <= _covered([wilson_interval(right, images) for right in rng.binomial(images, share, 4000)], share) <= 0.97
    )


def _simulate(rng, draws, *, spread, shared, images=2000, mean=0.85):
    """Simulate whether `draws` classifiers are correct on the same images.

    Args:
        rng: Random generator.
        draws: Number of classifiers.
        spread: Standard deviation of their accuracy, in logits.
        shared: Standard deviation of the difficulty of an image, in logits.
        images: Number of images.
        mean: Accuracy of the average classifier on the average image.

    Returns:
        (draws, images) outcomes.
    """
    logits = np.log(mean / (1 - mean)) + spread * rng.normal(size=(draws, 1)) + shared * rng.normal(size=(1, images))
    return rng.random((draws, images)) < 1 / (1 + np.exp(-logits))


def _expected(spread, shared, mean=0.85):
    """Return the accuracy that `_simulate` has in the mean over all classifiers and images."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    logits = np.log(mean / (1 - mean)) + np.hypot(spread, shared) * nodes
    return float((weights / (1 + np.exp(-logits))).sum() / weights.sum())


@pytest.mark.parametrize(("spread", "shared"), [(0.0, 1.5), (0.1, 1.5), (0.3, 1.5), (0.3, 0.0)])
@pytest.mark.parametrize("draws", [3, 5, 10])
def test_mean_interval_covers_draws_and_images(spread, shared, draws):
    rng = np.random.default_rng(1)
    intervals = []
    for _ in range(2000):
        found = mean_over_draws(_simulate(rng, draws, spread=spread, shared=shared, images=500), 1)
        intervals.append(mean_interval(found["draws"], found["image_error"]))
    assert 0.93 <= _covered(intervals, _expected(spread, shared)) <= 0.97


@pytest.mark.parametrize("same_images", [True, False])
def test_intervals_over_runs_cover(same_images, monkeypatch):
    """Pipelines are tested on the same images, or, as generated ones are, each on its own."""
    monkeypatch.setattr("gc.collect", lambda: 0)  # Statsmodels calls it for each of the 1,500 simulations.
    rng = np.random.default_rng(2)
    accuracies, differences = [], []
    truth = _expected(0.3, 1.5), _expected(0.2, 1.5, 0.7)
    for _ in range(1500):
        difficulty = 1.5 * rng.normal(size=(1 if same_images else 5, 500))
        hits = {}
        for method, spread, mean in (("one", 0.3, 0.85), ("two", 0.2, 0.7)):
            logits = np.log(mean / (1 - mean)) + spread * rng.normal(size=(5, 1)) + difficulty
            hits[method] = rng.random((5, 500)) < 1 / (1 + np.exp(-logits))
        found = accuracy_over_runs(hits)["one"]
        accuracies.append((found["low"], found["high"]))
        row = paired_differences_over_runs(hits).iloc[0]
        assert row["first"] == "one"
        differences.append((row["low"], row["high"]))
    assert 0.93 <= _covered(accuracies, truth[0]) <= 0.97
    assert 0.93 <= _covered(differences, truth[0] - truth[1]) <= 0.97


def test_image_variance_equals_analysis_of_variance():
    hits = _simulate(np.random.default_rng(3), 4, spread=0.3, shared=1.0, images=60)
    table = pd.DataFrame(
        [(draw, image, float(hits[draw, image])) for draw in range(4) for image in range(60)],
        columns=["draw", "image", "hit"],
    )
    squares = anova_lm(ols("hit ~ C(draw) + C(image)", table).fit())
    mean_squares = squares["sum_sq"] / squares["df"]
    assert image_variance(hits) == pytest.approx((mean_squares["C(image)"] - mean_squares["Residual"]) / (4 * 60))


def test_mean_over_draws_by_hand():
    found = mean_over_draws(np.array([[1, 1, 0, 1], [1, 0, 0, 1]], bool), 6)
    assert (found["accuracy"], found["seeds"], found["labels"], found["test_images"]) == (0.625, 2, 6, 4)
    assert found["draws"] == [0.75, 0.5]
    assert found["std"] == pytest.approx(np.std([0.75, 0.5], ddof=1), abs=1e-6)
    alone = mean_over_draws(np.array([[1, 1, 0, 1]], bool), 6)
    assert alone["std"] is None
    assert alone["image_error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5, abs=1e-6)


def test_runs_that_do_not_differ_have_no_spread():
    same = np.tile(np.arange(40) < 30, (3, 1))
    found = accuracy_over_runs({"one": same})["one"]
    assert (found["mean"], found["std"]) == (0.75, 0)
    assert found["low"] <= 0.75 <= found["high"]
    row = paired_differences_over_runs({"one": same, "two": same}).iloc[0]
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)
    right = accuracy_over_runs({"one": np.ones((3, 40), bool)})["one"]
    assert (right["low"], right["high"]) == (1, 1)
    few = accuracy_over_runs({"one": np.array([[1, 0, 1, 1], [1, 1, 1, 1]], bool)})["one"]
    assert 0 <= few["low"] <= few["high"] <= 1
    assert mean_over_draws(np.array([[1], [0]], bool), 2)["image_error"] == 0


def test_paired_differences_over_runs_by_hand():
    one = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 1]], bool)
    two = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]], bool)
    row = paired_differences_over_runs({"two": two, "one": one}).iloc[0]
    assert (row["first"], row["second"], row["runs"], row["ahead"]) == ("one", "two", 3, 2)
    assert row["difference"] == pytest.approx((0.5 + 0.25 - 0.25) / 3)
    assert row["std"] == pytest.approx(np.std([0.5, 0.25, -0.25], ddof=1))
    assert row["low"] < row["difference"] < row["high"]


@pytest.mark.slow
def test_difference_interval_covers():
    rng = np.random.default_rng(2)
    intervals = []
    for _ in range(2000):
        outcome = rng.choice(4, 400, p=[0.65, 0.15, 0.08, 0.12])
        intervals.append(difference_interval(np.isin(outcome, [0, 1]), np.isin(outcome, [0, 2])))
    assert 0.93 <= _covered(intervals, 0.15 - 0.08) <= 0.97


def test_paired_differences_by_hand():
    one, two, three = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 0, 0, 0], [1] * 10
    table = paired_differences({"one": _predictions(one), "two": _predictions(two), "three": _predictions(three)})
    raw = {
        ("one", "two"): binomtest(6, 6).pvalue,
        ("three", "one"): binomtest(3, 3).pvalue,
        ("three", "two"): binomtest(9, 9).pvalue,
    }
    order = sorted(raw, key=raw.get)
    holm = np.maximum.accumulate([(3 - rank) * raw[pair] for rank, pair in enumerate(order)]).clip(max=1)
    expected = dict(zip(order, holm, strict=True))
    for row in table.itertuples():
        assert row.p == pytest.approx(expected[row.first, row.second])
        assert row.low <= row.difference <= row.high
    assert table.set_index(["first", "second"]).loc[("one", "two"), "difference"] == pytest.approx(0.6)


def test_difference_interval_equals_scipy_bootstrap():
    rng = np.random.default_rng(4)
    one, two = rng.random(300) < 0.8, rng.random(300) < 0.7
    row = paired_differences({"one": _predictions(one), "two": _predictions(two)}).iloc[0]
    gain = one.astype(float) - two
    interval = bootstrap((gain,), np.mean, n_resamples=10_000, method="percentile", rng=rng).confidence_interval
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), abs=0.005)


def test_paired_differences_of_same_predictions_are_zero():
    row = paired_differences({"one": _predictions([1, 0, 1]), "two": _predictions([1, 0, 1])}).iloc[0]
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


def test_calibration_error_equals_loop():
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.1, 1, 500).round(6)
    confidence[:3] = [1.0, 0.0, 1 / 3]
    right = rng.random(500) < confidence**2
    table = _predictions(right, confidence)
    total = 0.0
    for number in range(10):
        inside = (confidence > number / 10) & (confidence <= (number + 1) / 10)
        inside |= (number == 0) & (confidence == 0)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert calibration_error(table, 10) == pytest.approx(total)
    assert reliability(table, 10)["images"].sum() == 500
    assert calibration_error(_predictions([1] * 8, np.ones(8))) == 0
    assert calibration_error(_predictions([0] * 8, np.ones(8))) == 1


def test_class_accuracy_by_hand():
    table = pd.DataFrame({"actual": ["x", "x", "y", "x"], "predicted": ["x", "y", "y", "x"], "confidence": 0.5})
    found = class_accuracy({"probe": table}).set_index("class")
    assert found["accuracy"].to_dict() == pytest.approx({"x": 2 / 3, "y": 1.0}, abs=1e-6)
    assert found["images"].to_dict() == {"x": 3, "y": 1}
    assert found.loc["x", ["low", "high"]].tolist() == pytest.approx(wilson_interval(2, 3), abs=1e-6)


def test_labels_needed_interpolates_logarithmically():
    assert labels_needed([10, 100, 1000], [0.5, 0.7, 0.9], 0.7) == pytest.approx(100)
    assert labels_needed([10, 100, 1000], [0.5, 0.7, 0.9], 0.8) == pytest.approx(10**2.5)
    assert labels_needed([10, 100, 1000], [0.5, 0.7, 0.9], 0.91) == float("inf")
    assert labels_needed([10, 100, 1000], [0.5, 0.7, 0.9], 0.4) == 0
    assert labels_needed([10, 100, 1000], [0.5, 0.4, 0.9], 0.5) == pytest.approx(10)
    assert labels_needed([10, 100, 1000], [0.5, 0.4, 0.9], 0.7) == pytest.approx(10**2.5)


ROW = {"accuracy": 0.74, "std": 0.04, "seeds": 3, "draws": [0.7, 0.74, 0.78], "labels": 5, "test_images": 9}
ONE = ROW | {"accuracy": 0.8, "std": None, "seeds": 1, "draws": [0.8], "image_error": 0.1}
SCORE = {"accuracy": 0.6, "ci95": [0.5, 0.7], "labels": 7, "test_images": 9}


def test_efficiency_table_has_intervals_of_several_draws_alone():
    study = {0.1: {"probe": ROW | {"image_error": 0.0}}, 0.2: {"probe": ONE | {"labels": 9}}}
    table = efficiency_table({"probe": SCORE}, study)
    assert table["labels"].tolist() == [5, 7, 9]
    assert table["accuracy"].tolist() == [0.74, 0.6, 0.8]
    low, high = 0.74 - 4.303 * 0.04 / 3**0.5, 0.74 + 4.303 * 0.04 / 3**0.5
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([low, high], abs=1e-4)
    assert table.loc[1:, ["low", "high"]].isna().all().all()
    twice = efficiency_table({"probe": SCORE}, study | {0.201: {"probe": ONE | {"labels": 9}}})
    assert twice["labels"].tolist() == [5, 7, 9]
    assert efficiency_table({"probe": SCORE | {"labels": 9}}, study)["accuracy"].tolist() == [0.74, 0.8]


def test_efficiency_over_runs_gives_mean_and_extremes():
    runs = [{5: {"probe": 0.5}, 9: {"probe": 0.7}}, {5: {"probe": 0.6}, 9: {"probe": 0.9}, 11: {"probe": 1.0}}]
    table = efficiency_over_runs(runs)
    assert table[["labels", "accuracy", "low", "high", "seeds"]].to_numpy().tolist() == [
        [5, 0.55, 0.5, 0.6, 2],
        [9, 0.8, 0.7, 0.9, 2],
    ]


def test_by_method_has_one_row_per_number_of_labels():
    study = {0.1: {"supervised": ONE, "probe": ONE | {"accuracy": 0.7}}}
    scores = {"supervised": SCORE, "probe": SCORE}
    wide = by_method(efficiency_table(scores, study))
    columns = [f"{method}{end}" for method in ("supervised", "probe") for end in ("", "_low", "_high")]
    assert sorted(wide) == sorted(["labels", "seeds", *columns])
    assert wide["probe"].tolist() == [0.7, 0.6]
