"""Features of frozen models."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.images.views import ViewRecipe, center_crop_views, draw_views
from stages.models.batches import to_device
from stages.models.device import autocast, keep_freed_memory
from stages.pipeline.progress import progress

_CHUNK, _MAPPED_CHUNK = 500, 2000


def extract_features(model: nn.Module, images: Tensor, size: int) -> NDArray[np.float32]:
    """Return the outputs of a model in evaluation mode for the centre-cropped view of each image.

    Args:
        model: Encoder or classifier; its weights, statistics and mode stay as they are.
        images: (N, H, W, 3) uint8 images on the device of the model.
        size: Height and width of the views in pixels.

    Returns:
        (N, D) features, or logits of a classifier.
    """
    return _apply(model, images, lambda chunk: center_crop_views(chunk, size))


def extract_all(
    model: nn.Module, images: NDArray[np.uint8], size: int, device: torch.device, title: str
) -> NDArray[np.float32]:
    """Return the outputs of a model for many images, of which only a chunk is in memory at a time.

    Args:
        model: Encoder or classifier on the device.
        images: (N, H, W, 3) images, which may be memory-mapped.
        size: Height and width of the views in pixels.
        device: Device that the model runs on.
        title: Text shown before the progress bar.

    Returns:
        (N, D) features, or logits of a classifier.
    """
    found = []
    with progress(title=title, unit="img", total=len(images)) as bar:
        for start in range(0, max(1, len(images)), _MAPPED_CHUNK):
            chunk = to_device(images[start : start + _MAPPED_CHUNK], None, device)
            found.append(extract_features(model, chunk, size))
            bar.update(len(chunk))
    return np.concatenate(found)


def extract_view_features(
    model: nn.Module, images: Tensor, recipe: ViewRecipe, views: int, seed: int
) -> NDArray[np.float32]:
    """Return the outputs of a model in evaluation mode for random views of each image.

    Args:
        model: Encoder or classifier; its weights, statistics and mode stay as they are.
        images: (N, H, W, 3) uint8 images on the device of the model.
        recipe: Augmentation of the views.
        views: Number of views of each image; the second is made as the second of two, see `draw_view_parameters`.
        seed: Random seed for the augmentation.

    Returns:
        (views, N, D) features.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(second: bool) -> Callable[[Tensor], Tensor]:
        return lambda chunk: draw_views(chunk, recipe, generator, len(chunk) if second else 0)

    return np.stack([_apply(model, images, draw(view == 1)) for view in range(views)])


@torch.no_grad()
def _apply(model: nn.Module, images: Tensor, views: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
    keep_freed_memory()
    was_training = model.training
    model.eval()
    with autocast(images.device):
        chunks = [
            model(views(chunk).contiguous(memory_format=torch.channels_last)).float().cpu()
            for chunk in images.split(_CHUNK)
        ]
    model.train(was_training)
    features: NDArray[np.float32] = torch.cat(chunks).numpy()
    return features
