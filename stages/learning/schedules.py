"""Learning rates and weights as pure functions of the step."""

from math import cos, exp, pi


def warmup_cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """The learning rate at `step` of 0..steps - 1.

    It climbs linearly to `peak` within `warmup` steps and falls along half a cosine to 0 at `steps`
    (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts).
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * 0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup)))


def gaussian_ramp(step: int, length: int) -> float:
    """A weight that grows from near 0 to 1 within `length` steps (Laine and Aila 2017, Temporal Ensembling, section 2.1)."""
    return exp(-5 * (1 - min(1.0, step / max(1, length))) ** 2)


def checkpoint_epochs(epochs: int, count: int) -> list[int]:
    """Epochs after which to keep the encoder: 0 (random weights), early ones densely, and the last.

    Spacing is geometric, so that early change is seen; at most `count` of 0..epochs, fewer where they would coincide.
    """
    if count == 1:
        return [epochs]
    early = {round(epochs ** (i / (count - 2))) for i in range(count - 2)} if count > 2 else set()
    return sorted({0, *early, epochs})
