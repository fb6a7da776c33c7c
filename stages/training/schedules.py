"""Learning rates and loss weights as pure functions of the step."""

from math import cos, exp, pi


def warmup_cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """Return the learning rate at `step` of 0..steps - 1.

    It climbs linearly to `peak` within `warmup` steps and falls along half a cosine to 0 at `steps`
    (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts).
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * 0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup)))


def gaussian_ramp(step: int, length: int) -> float:
    """Return a weight that grows from near 0 to 1 within `length` steps (Laine and Aila 2017, section 2.1)."""
    return exp(-5 * (1 - min(1.0, step / max(1, length))) ** 2)
