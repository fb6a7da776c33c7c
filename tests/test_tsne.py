"""Layouts by t-SNE: aligned from one checkpoint to the next, and as faithful as independent ones."""

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from stages.evaluation.tsne import aligned_layouts


@pytest.mark.parametrize("value", [0, 1])
def test_aligned_layouts_of_equal_features_are_points(value):
    alike = np.full((40, 8), value, np.float32)
    free = np.random.default_rng(0).random((40, 8), np.float32)
    first, second, third = aligned_layouts(
        [alike, free, np.outer(free[:, 0] + 1, np.ones(8)).astype(np.float32)], perplexity=5, iterations=250, seed=0
    )
    assert not first.any()
    assert np.isfinite(second).all()
    assert second.any()
    assert not third.any()


def test_aligned_layouts_are_aligned_and_faithful():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16)) * 6
    early = (centres[np.arange(120) % 4] + rng.normal(size=(120, 16))).astype(np.float32)
    late = early + 0.3 * rng.normal(size=early.shape).astype(np.float32)
    first, second = aligned_layouts([early, late], perplexity=10, iterations=300, seed=0)
    apart = aligned_layouts([late], perplexity=10, iterations=300, seed=0)[0]
    move = lambda a, b: np.linalg.norm(a - b, axis=1).mean()  # noqa: E731
    assert move(first, second) < 0.5 * move(first, apart) or move(first, second) < 0.3
    assert trustworthiness(late, second, metric="cosine") > 0.85
    assert np.allclose(second.mean(0), 0, atol=1e-3)
    again = aligned_layouts([early, late], perplexity=10, iterations=300, seed=0)
    assert np.array_equal(again[1], second)
