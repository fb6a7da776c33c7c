"""Which images take part."""

from itertools import pairwise

import numpy as np
import pytest

from stages.images.subsets import draw_labeled, draw_unlabeled, pick_evenly, unlabeled_pool
from stages.pipeline.errors import UserError

BALANCED = np.repeat(np.arange(10), 25)
UNEVEN = np.repeat([0, 1, 2], [100, 40, 10])


@pytest.mark.parametrize("labels", [BALANCED, UNEVEN])
def test_draw_labeled_is_nested(labels):
    drawn = [set(draw_labeled(labels, ratio, 0)) for ratio in (0.1, 0.2, 0.35, 0.9, 1.0)]
    assert all(a < b for a, b in pairwise(drawn))
    assert drawn[-1] == set(range(len(labels)))


@pytest.mark.parametrize("labels", [BALANCED, UNEVEN])
@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5, 0.77])
@pytest.mark.parametrize("seed", range(5))
def test_draw_labeled_is_stratified(labels, ratio, seed):
    drawn = draw_labeled(labels, ratio, seed)
    assert len(drawn) == int(ratio * len(labels) + 0.5)
    counts, totals = np.bincount(labels[drawn]), np.bincount(labels)
    assert (np.abs(counts - ratio * totals) <= 1 + 1e-9).all()


def test_draw_labeled_follows_seed():
    assert np.array_equal(draw_labeled(BALANCED, 0.2, 1), draw_labeled(BALANCED, 0.2, 1))
    assert not np.array_equal(draw_labeled(BALANCED, 0.2, 1), draw_labeled(BALANCED, 0.2, 2))


@pytest.mark.parametrize("labels", [BALANCED, UNEVEN])
def test_draw_labeled_names_smallest_ratio(labels):
    with pytest.raises(UserError, match="smallest ratio that works is") as caught:
        draw_labeled(labels, 0.005, 3)
    smallest = float(str(caught.value).rsplit(" ", 1)[1])
    assert len(np.unique(labels[draw_labeled(labels, smallest, 3)])) == len(np.unique(labels))
    with pytest.raises(UserError):
        draw_labeled(labels, smallest - 1.01 / len(labels), 3)


def test_draw_labeled_takes_predefined_fold_first():
    labels = np.arange(500) % 10
    folds = np.stack([np.random.default_rng(k).permutation(500)[:100] for k in range(3)])
    for seed in range(3):
        fold = set(folds[seed])
        assert set(draw_labeled(labels, 0.2, seed, folds=folds)) == fold
        assert set(draw_labeled(labels, 0.1, seed, folds=folds)) < fold
        assert set(draw_labeled(labels, 0.5, seed, folds=folds)) > fold
    counts = np.bincount(labels[draw_labeled(labels, 0.04, 0, folds=folds)])
    assert counts.min() >= 1
    lacking = np.flatnonzero(labels != 3)[None, :100]
    with pytest.raises(UserError, match="fold 0 of the image set first, and leaves class '3' with none"):
        draw_labeled(labels, 0.2, 0, folds=lacking)


def test_draw_labeled_repeats_no_predefined_fold():
    labels = np.arange(500) % 10
    folds = np.stack([np.random.default_rng(k).permutation(500)[:100] for k in range(3)])
    drawn = {(seed, draw): set(draw_labeled(labels, 0.2, seed, draw, folds)) for seed in range(7) for draw in range(4)}
    assert len({tuple(sorted(found)) for found in drawn.values()}) == len(drawn)
    assert sum(found in [set(fold) for fold in folds] for found in drawn.values()) == 3


def test_draws_of_neighbouring_seeds_differ():
    drawn = {tuple(draw_labeled(BALANCED, 0.2, seed, draw)) for seed in range(4) for draw in range(4)}
    assert len(drawn) == 16


def test_draw_unlabeled_is_sample_without_replacement():
    drawn = draw_unlabeled(100, 30, 0)
    assert len(set(drawn)) == 30
    assert drawn.min() >= 0
    assert drawn.max() < 100
    assert np.array_equal(draw_unlabeled(7, None, 0), np.arange(7))
    with pytest.raises(UserError, match="at most 100"):
        draw_unlabeled(100, 101, 0)


def test_pick_evenly_balances_classes():
    assert set(np.bincount(BALANCED[pick_evenly(BALANCED, 50, 0)])) == {5}
    assert len(pick_evenly(UNEVEN, 1000, 0)) == len(UNEVEN)


def test_unlabeled_pool_joins_sample_and_hidden_training_images():
    unlabeled, train = np.arange(5)[:, None, None, None], 10 + np.arange(4)[:, None, None, None]
    pool = unlabeled_pool(unlabeled, np.array([1, 3]), train, np.array([0, 2]))
    assert [images[chosen].ravel().tolist() for images, chosen in pool] == [[1, 3], [11, 13]]
