"""Random pictures to train on."""

import numpy as np
import torch

from stages.learning.batches import Pictures


def random_images(count: int, size: int, seed: int) -> torch.Tensor:
    """(count, size, size, 3) bytes."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8))


def random_pictures(count: int, size: int, seed: int) -> Pictures:
    """The same, to draw batches from on the CPU."""
    return Pictures([(random_images(count, size, seed).numpy(), np.arange(count))], torch.device("cpu"))
