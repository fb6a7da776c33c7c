"""Random seeds: one for each use of randomness, all derived from the parameter `seed`."""

import numpy as np


def derive_seed(seed: int, purpose: str, draw: int = 0) -> int:
    """Derive the seed of one use of randomness, independent of those of all other uses.

    Args:
        seed: The parameter `seed`.
        purpose: What the seed is for, such as the name of a stage.
        draw: Number of the repetition: 0 for the main run, 1, 2, ... for the draws of the study.

    Returns:
        A number below 2**32, by NumPy's SeedSequence, so that neither `seed` and `seed + 1`, nor two draws, nor two
        purposes share a random stream.
    """
    return int(np.random.SeedSequence([seed, draw, *purpose.encode()]).generate_state(1)[0])
