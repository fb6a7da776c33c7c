"""The losses against loops in float64 written from the formulae, and under gradients and low precision."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from stages.learning.losses import barlow_twins_terms, consistency, cross_correlation
from stages.learning.schedules import checkpoint_epochs, warmup_cosine
from stages.learning.semi_supervised import AdaptiveThreshold


def _twins(n=7, d=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(n, d, generator=generator, dtype=dtype) * 3 + 1
    return first, first + torch.randn(n, d, generator=generator, dtype=dtype)


def _correlation_by_loop(first, second):
    n, d = first.shape
    c = torch.zeros(d, d, dtype=torch.float64)
    for i in range(d):
        for j in range(d):
            a, b = first[:, i].tolist(), second[:, j].tolist()
            mean_a, mean_b = sum(a) / n, sum(b) / n
            spread_a = math.sqrt(sum((v - mean_a) ** 2 for v in a) / n + 1e-5)
            spread_b = math.sqrt(sum((v - mean_b) ** 2 for v in b) / n + 1e-5)
            c[i, j] = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / (n * spread_a * spread_b)
    return c


def test_cross_correlation_equals_a_loop():
    first, second = _twins()
    torch.testing.assert_close(
        cross_correlation(first, second), _correlation_by_loop(first, second), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("n", [3, 7], ids=["batch below width", "batch above width"])
def test_barlow_twins_terms_equal_a_loop(n):
    first, second = _twins(n)
    c = _correlation_by_loop(first, second)
    on = sum((1 - c[i, i].item()) ** 2 for i in range(5))
    off = sum(c[i, j].item() ** 2 for i in range(5) for j in range(5) if i != j)
    invariance, redundancy = barlow_twins_terms(first, second)
    assert invariance.item() == pytest.approx(on, abs=1e-12)
    assert redundancy.item() == pytest.approx(off, abs=1e-12)


@pytest.mark.parametrize("n", [4, 7], ids=["batch below width", "batch above width"])
def test_gradients_are_those_of_finite_differences(n):
    first, second = (t.requires_grad_() for t in _twins(n))
    assert torch.autograd.gradcheck(lambda a, b: sum(barlow_twins_terms(a, b)), (first, second))


def test_float32_is_exact_enough_where_the_batch_is_much_smaller_than_the_embedding():
    first, second = _twins(n=64, d=2048)
    exact = barlow_twins_terms(first, second)
    for found, expected in zip(barlow_twins_terms(first.float(), second.float()), exact, strict=True):
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_scale_and_shift_of_a_dimension_do_not_matter():
    first, second = _twins(n=64)
    moved = first * torch.tensor([2.0, 3, 4, 5, 6], dtype=torch.float64) - 7
    torch.testing.assert_close(cross_correlation(moved, second), cross_correlation(first, second), rtol=0, atol=1e-4)


def test_loss_is_float32_under_low_precision():
    first, second = _twins(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        low = cross_correlation(first.bfloat16(), second.bfloat16())
    assert low.dtype == torch.float32
    expected = _correlation_by_loop(first.bfloat16().double(), second.bfloat16().double())
    torch.testing.assert_close(low.double(), expected, rtol=0, atol=1e-5)


def test_consistency_counts_only_what_is_sure():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, -3.0]])
    found = consistency(logits, torch.tensor([0, 0, 1]), torch.tensor([1.0, 0.0, 1.0]))
    expected = (-F.log_softmax(logits, 1)[0, 0] - F.log_softmax(logits, 1)[2, 1]) / 3
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_adaptive_threshold_follows_the_formula():
    threshold = AdaptiveThreshold(2, 0.5)
    guess, sure = threshold(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.95, 0.05]]))
    confidence = 0.5 * 0.5 + 0.5 * (0.9 + 0.6 + 0.95) / 3
    share = [0.5 * 0.5 + 0.5 * 2.25 / 3, 0.5 * 0.5 + 0.5 * 0.75 / 3]
    per_class = [confidence, confidence * share[1] / share[0]]
    assert guess.tolist() == [0, 1, 0]
    assert sure.tolist() == [float(per_class[0] <= 0.9), float(per_class[1] <= 0.6), float(per_class[0] <= 0.95)]


def test_learning_rate_climbs_to_its_peak_and_falls_to_zero():
    rates = [warmup_cosine(step, 100, 10, 0.5) for step in range(101)]
    assert rates[10] == max(rates) == 0.5
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(("epochs", "count"), [(1, 8), (2, 8), (5, 1), (24, 8), (1000, 12), (3, 2)])
def test_checkpoints_begin_with_random_weights_and_end_with_the_last_epoch(epochs, count):
    kept = checkpoint_epochs(epochs, count)
    assert kept[-1] == epochs
    assert len(kept) <= count
    assert kept == sorted(set(kept))
    assert count == 1 or kept[0] == 0
