"""The losses against loops in float64 written from the formulae, and under gradients and low precision."""

import math

import pytest
import torch
import torch.nn.functional as F

from stages.losses.barlow_twins import barlow_twins_loss, barlow_twins_terms, cross_correlation
from stages.losses.pseudo_labels import AdaptiveThreshold, consistency_loss


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


def test_cross_correlation_equals_loop():
    first, second = _twins()
    torch.testing.assert_close(
        cross_correlation(first, second), _correlation_by_loop(first, second), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("n", [3, 7], ids=["batch below width", "batch above width"])
def test_barlow_twins_terms_equal_loop(n):
    first, second = _twins(n)
    c = _correlation_by_loop(first, second)
    on = sum((1 - c[i, i].item()) ** 2 for i in range(5))
    off = sum(c[i, j].item() ** 2 for i in range(5) for j in range(5) if i != j)
    invariance, redundancy = barlow_twins_terms(first, second)
    assert invariance.item() == pytest.approx(on, abs=1e-12)
    assert redundancy.item() == pytest.approx(off, abs=1e-12)


def test_barlow_twins_loss_is_weighted_and_per_dimension():
    first, second = _twins()
    invariance, redundancy = barlow_twins_terms(first, second)
    found = barlow_twins_loss(first, second, 0.25)
    assert found["invariance"].item() == pytest.approx(invariance.item() / 5, abs=1e-12)
    assert found["redundancy"].item() == pytest.approx(0.25 * redundancy.item() / 5, abs=1e-12)


@pytest.mark.parametrize("n", [4, 7], ids=["batch below width", "batch above width"])
def test_barlow_twins_gradients_equal_finite_differences(n):
    first, second = (t.requires_grad_() for t in _twins(n))
    assert torch.autograd.gradcheck(lambda a, b: sum(barlow_twins_terms(a, b)), (first, second))


def test_barlow_twins_terms_are_exact_in_float32():
    first, second = _twins(n=64, d=2048)
    exact = barlow_twins_terms(first, second)
    for found, expected in zip(barlow_twins_terms(first.float(), second.float()), exact, strict=True):
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_cross_correlation_ignores_scale_and_shift():
    first, second = _twins(n=64)
    moved = first * torch.tensor([2.0, 3, 4, 5, 6], dtype=torch.float64) - 7
    torch.testing.assert_close(cross_correlation(moved, second), cross_correlation(first, second), rtol=0, atol=1e-4)


def test_cross_correlation_is_float32_under_autocast():
    first, second = _twins(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        low = cross_correlation(first.bfloat16(), second.bfloat16())
    assert low.dtype == torch.float32
    expected = _correlation_by_loop(first.bfloat16().double(), second.bfloat16().double())
    torch.testing.assert_close(low.double(), expected, rtol=0, atol=1e-5)


def test_consistency_loss_counts_confident_images_only():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, -3.0]])
    found = consistency_loss(logits, torch.tensor([0, 0, 1]), torch.tensor([1.0, 0.0, 1.0]))
    expected = (-F.log_softmax(logits, 1)[0, 0] - F.log_softmax(logits, 1)[2, 1]) / 3
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_adaptive_threshold_follows_formula():
    threshold = AdaptiveThreshold(2, 0.5)
    guess, sure = threshold(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.95, 0.05]]))
    confidence = 0.5 * 0.5 + 0.5 * (0.9 + 0.6 + 0.95) / 3
    share = [0.5 * 0.5 + 0.5 * 2.25 / 3, 0.5 * 0.5 + 0.5 * 0.75 / 3]
    per_class = [confidence, confidence * share[1] / share[0]]
    assert guess.tolist() == [0, 1, 0]
    assert sure.tolist() == [float(per_class[0] <= 0.9), float(per_class[1] <= 0.6), float(per_class[0] <= 0.95)]
