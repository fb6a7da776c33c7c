"""The statistics against independent computations, and their intervals against simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, bootstrap

from stages.evaluation.accuracy import correct, score, wilson_interval
from stages.evaluation.statistics import (
    by_method,
    calibration_error,
    class_accuracy,
    difference_interval,
    efficiency_table,
    labels_needed,
    mean_interval,
    method_score,
    paired_differences,
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
    interval = binomtest(3, 4).proportion_ci(0.95, "wilson")
    assert found["ci95"] == pytest.approx([interval.low, interval.high], abs=1e-6)
    assert method_score(predictions, 6).items() >= found.items()


@pytest.mark.parametrize(("share", "images"), [(0.5, 200), (0.8, 500), (0.95, 2000)])
def test_wilson_interval_covers(share, images):
    rng = np.random.default_rng(0)
    assert (
        0.93 <= _covered([wilson_interval(right, images) for right in rng.binomial(images, share, 4000)], share) <= 0.97
    )


@pytest.mark.parametrize("draws", [3, 10])
def test_mean_interval_covers(draws):
    rng = np.random.default_rng(1)
    assert 0.93 <= _covered([mean_interval(rng.normal(0.8, 0.02, draws)) for _ in range(4000)], 0.8) <= 0.97


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


def _study(curves):
    return efficiency_table(
        {
            ratio: {
                method: {"accuracy": share, "std": 0.0, "seeds": 1, "labels": int(1000 * ratio), "test_images": 10**6}
                for method, share in zip(("supervised", "semi_supervised"), shares, strict=True)
            }
            for ratio, shares in curves.items()
        }
    )


def test_labels_needed_interpolates_logarithmically():
    table = labels_needed(
        _study({1.0: (0.9, 0.95), 0.01: (0.5, 0.7), 0.1: (0.7, 0.8)}), "semi_supervised", "supervised"
    )
    assert table["labels"].tolist() == [10, 100, 1000]
    assert table["needed"].tolist() == pytest.approx([100, 10**2.5, float("inf")], rel=1e-3)
    assert (table["low"] <= table["needed"]).all()
    assert (table["needed"] <= table["high"]).all()
    assert table["high"].iloc[2] == float("inf")
    worse = labels_needed(_study({0.01: (0.5, 0.3), 0.1: (0.7, 0.6)}), "semi_supervised", "supervised")
    assert worse["needed"].tolist() == pytest.approx([0, 10**1.5], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 10])
def test_labels_needed_interval_covers(seeds):
    rng = np.random.default_rng(5)
    at, truth = np.array([10, 100, 1000]), {"supervised": np.array([0.5, 0.7, 0.85]), "semi_supervised": 0.76}
    needed = 10 ** (2 + (0.76 - 0.7) / (0.85 - 0.7))
    intervals = []
    for _ in range(600):
        study = {}
        for ratio, labels in enumerate(at, 1):
            study[ratio] = {}
            for method, share in truth.items():
                share = np.broadcast_to(share, 3)[ratio - 1]
                draws = rng.normal(share, 0.02, seeds) if seeds > 1 else rng.binomial(2000, share, 1) / 2000
                study[ratio][method] = {"accuracy": draws.mean(), "draws": draws, "seeds": seeds, "labels": labels}
                study[ratio][method]["test_images"] = 2000
        row = labels_needed(efficiency_table(study), "semi_supervised", "supervised").iloc[0]
        intervals.append((row["low"], row["high"]))
    assert 0.93 <= _covered(intervals, needed) <= 0.97


def test_efficiency_table_carries_spread_of_draws():
    draws = [0.7, 0.74, 0.78]
    row = efficiency_table(
        {0.1: {"probe": {"accuracy": 0.74, "std": 0.04, "seeds": 3, "draws": draws, "labels": 5, "test_images": 9}}}
    ).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx(
        (0.74 - 4.303 * 0.04 / 3**0.5, 0.74 + 4.303 * 0.04 / 3**0.5), abs=1e-4
    )


def test_by_method_has_one_row_per_ratio():
    row = {"accuracy": 0.5, "seeds": 1, "labels": 10, "test_images": 100}
    study = {0.1: {"supervised": row, "probe": row | {"accuracy": 0.7}}, 0.2: {"supervised": row, "probe": row}}
    wide = by_method(efficiency_table(study))
    assert list(wide) == [
        "ratio",
        "labels",
        "seeds",
        *(f"{m}{e}" for m in ("supervised", "probe") for e in ("", "_low", "_high")),
    ]
    assert wide["probe"].tolist() == [0.7, 0.5]
    assert (wide["probe_low"] < wide["probe"]).all()
