"""Random images to train on."""

import numpy as np
import torch

from stages.models.batches import ImagePool


def random_images(count: int, size: int, seed: int) -> torch.Tensor:
    """Return (count, size, size, 3) random bytes."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8))


def random_pool(count: int, size: int, seed: int) -> ImagePool:
    """Return the same images as a pool on the CPU."""
    return ImagePool([(random_images(count, size, seed).numpy(), np.arange(count))], torch.device("cpu"))
