"""Learning rates and loss weights as functions of the step."""

import math
from itertools import pairwise

import pytest

from stages.training.schedules import gaussian_ramp, warmup_cosine


def test_warmup_cosine_climbs_to_peak_and_falls_to_zero():
    rates = [warmup_cosine(step, 100, 10, 0.5) for step in range(101)]
    assert rates[10] == max(rates) == 0.5
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0, abs=1e-15)


def test_gaussian_ramp_grows_to_one_and_stays():
    weights = [gaussian_ramp(step, 20) for step in range(40)]
    assert weights[0] == pytest.approx(math.exp(-5))
    assert all(a < b for a, b in pairwise(weights[:21]))
    assert set(weights[20:]) == {1.0}
