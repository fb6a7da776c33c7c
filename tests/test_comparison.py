"""Sentences of the comparison: one method is called better only where all runs bear it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.evaluation.accuracy import METHODS
from stages.pipeline.image_set import ImageSet
from stages.reporting.comparison import difference_sentences, labels_sentence, other_result_sentence, summarise_runs
from stages.reporting.runs import _packed, find_runs, images_checksum, setting_parameters, unpacked_hits


def _run(seed, shares, images=400):
    """Return a run in which each method is correct on a share of the images, at random."""
    rng = np.random.default_rng(seed)
    return {
        "seed": seed,
        "labels": 50,
        "test_images": images,
        "hits": {method: _packed(rng.random(images) < share) for method, share in zip(METHODS, shares, strict=True)},
        "study": {
            10: {"supervised": 0.5, "probe": 0.5, "fine_tune": 0.5, "semi_supervised": 0.6},
            250: {"supervised": 0.9, "probe": 0.9, "fine_tune": 0.9, "semi_supervised": 0.95},
        },
        "seconds": {"supervised": 10.0, "pretrain": 100.0, "fine_tune": 5.0, "semi_supervised": 50.0},
        "device": "cpu",
        "torch": "2",
    }


def _sentence(runs, one, other):
    differences = summarise_runs(runs, from_random=False).differences
    row = differences[differences["first"].isin([one, other]) & differences["second"].isin([one, other])]
    return difference_sentences(row)[0]


def test_packed_hits_come_back():
    runs = [_run(0, (0.1, 0.4, 0.7, 1.0), images=13), _run(1, (0.1, 0.4, 0.7, 1.0), images=13)]
    hits = unpacked_hits(runs)
    assert hits["probe"].shape == (2, 13)
    assert hits["semi_supervised"].all()
    assert np.array_equal(hits["probe"][1], np.random.default_rng(1).random((4, 13))[1] < 0.4)


def test_runs_are_summarised_from_two_on():
    assert summarise_runs([], from_random=False) is None
    assert summarise_runs([_run(0, (0.5,) * 4)], from_random=False) is None
    runs = summarise_runs([_run(seed, (0.5, 0.6, 0.7, 0.8)) for seed in (3, 4)], from_random=False)
    assert runs.seeds == [3, 4]
    assert runs.seconds == {"supervised": 10, "probe": 100, "fine_tune": 105, "semi_supervised": 150}
    assert runs.efficiency["labels"].unique().tolist() == [10, 50, 250]


def test_better_is_said_if_every_run_agrees():
    runs = [_run(seed, (0.5, 0.6, 0.7, 0.9)) for seed in range(5)]
    found = _sentence(runs, "supervised", "semi_supervised")
    assert found.startswith("Semi-supervised is better than supervised: ahead in each of the 5 runs")


def test_better_is_not_said_if_one_run_disagrees():
    runs = [_run(seed, (0.5, 0.6, 0.7, 0.9)) for seed in range(9)] + [_run(9, (0.9, 0.6, 0.7, 0.5))]
    found = _sentence(runs, "supervised", "semi_supervised")
    assert "do not tell which is better" in found
    assert "ahead in 9 of 10" in found


def test_better_is_not_said_of_two_small_agreeing_differences():
    runs = [_run(seed, (0.6, 0.6, 0.6, 0.65)) for seed in (0, 1)]
    assert "do not tell" in _sentence(runs, "supervised", "semi_supervised")


def test_labels_sentence_gives_median_and_extremes():
    found = [_run(seed, (0.5, 0.6, 0.7, share)) for seed, share in enumerate((0.7, 0.8, 0.97))]
    runs = summarise_runs(found, from_random=False)
    found = labels_sentence(runs)
    assert "supervised needs" in found
    assert "more than 250)" in found
    assert found.endswith("interpolated between 10 and 250 labels.")


def test_runs_with_other_parameters_are_left_out():
    parameters = {"seed": 0, "label_ratio": 0.2, "supervised.steps": 10, "tsne.perplexity": 3.0, "study.seeds": 1}
    photos, more = (ImageSet(Path(), "folder", (), {}, {"train.npy": digest}) for digest in ("a", "b"))
    shared, checksum = setting_parameters(parameters), images_checksum(photos)
    settings = [
        {"parameters": shared, "images": checksum, "runs": [_run(1, (0.5,) * 4), _run(0, (0.5,) * 4)]},
        {"parameters": shared | {"label_ratio": 0.1}, "images": checksum, "runs": [_run(2, (0.5,) * 4)]},
    ]
    assert [run["seed"] for run in find_runs(settings, parameters, photos)] == [0, 1]
    elsewhere = parameters | {"seed": 7, "tsne.perplexity": 9.0}
    assert [run["seed"] for run in find_runs(settings, elsewhere, photos)] == [0, 1]
    assert find_runs(settings, parameters | {"supervised.steps": 11}, photos) == []
    assert find_runs(settings, parameters, more) == []


def test_images_checksum_of_generated_images_is_shared_by_seeds():
    one, other = (ImageSet(Path(), "shapes", (), {}, {"train.npy": digest}) for digest in ("a", "b"))
    assert images_checksum(one) == images_checksum(other)


@pytest.mark.parametrize("same", [True, False])
def test_other_result_of_same_seed_is_said(same):
    run = _run(0, (0.5, 0.6, 0.7, 0.8))
    kept = {method: hits[0] for method, hits in unpacked_hits([run]).items()}
    predictions = {
        method: pd.DataFrame({"actual": "a", "predicted": np.where(hits if same else ~hits, "a", "b")})
        for method, hits in kept.items()
    }
    assert bool(other_result_sentence(0, predictions, [run])) != same
    assert other_result_sentence(1, predictions, [run]) == ""
