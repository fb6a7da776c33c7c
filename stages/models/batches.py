"""Batches of images: where they are stored, in which order they come, and on which device they end up."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.pipeline.errors import UserError
from stages.pipeline.image_set import ImageSet

_SHARE_OF_FREE_MEMORY = 0.5


def to_device(images: NDArray[np.uint8], indices: NDArray[np.int64] | None, device: torch.device) -> Tensor:
    """Return the images at `indices`, or all for None, as an (N, H, W, 3) uint8 tensor on the device."""
    return torch.from_numpy(np.array(images) if indices is None else images[indices]).to(device)


def spread_indices(available: int, count: int) -> NDArray[np.int64]:
    """Return `count` of the indices 0..available - 1 at even distances, or all if there are fewer."""
    return np.arange(min(count, available)) * available // min(count, available)


class LabeledImages(NamedTuple):
    """Images and their labels on the same device.

    Attributes:
        images: (N, H, W, 3) uint8 images.
        labels: (N,) class numbers.
    """

    images: Tensor
    labels: Tensor


def visible_images(images: ImageSet, labeled: NDArray[np.int64], device: torch.device) -> LabeledImages:
    """Return the training images whose label is visible.

    Args:
        images: Image set.
        labeled: Indices of the training images whose label is visible.
        device: Device of the result.
    """
    labels = torch.from_numpy(images.train_labels[labeled]).to(device)
    return LabeledImages(to_device(images.train, labeled, device), labels)


class ImagePool:
    """Many images as bytes: on the GPU if they fit into half of its free memory, otherwise memory-mapped on disk.

    From disk, a thread reads the next batch while the current one is trained on, so that neither the disk nor the copy
    to the device stalls training. Only the images of these two batches are ever in memory.

    Attributes:
        device: Device that batches are returned on.
    """

    def __init__(self, parts: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64]]], device: torch.device) -> None:
        """Create a pool; nothing is read yet if the images stay on disk.

        Args:
            parts: Arrays of (N, H, W, 3) uint8, memory-mapped, each with the indices of the images to use. They are
                concatenated.
            device: Device that batches are returned on.
        """
        self.device = device
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(members) for _, members in parts)])
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="image-pool")
        self._prefetched: tuple[Tensor, Future[Tensor]] | None = None

        size = sum(len(members) * images[:1].nbytes for images, members in parts)
        fits = device.type == "cuda" and size < _SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]
        self._all = self._read(torch.arange(len(self))).to(device) if fits else None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def spread(self, count: int) -> Tensor:
        """Return `count` images at even distances, or all if there are fewer, as (N, H, W, 3) uint8 on the device."""
        return self.batch(torch.from_numpy(spread_indices(len(self), count)))

    def batch(self, indices: Tensor, upcoming: Tensor | None = None) -> Tensor:
        """Return the images at `indices`: (B,) to (B, H, W, 3) uint8 on the device.

        Args:
            indices: Indices on the CPU.
            upcoming: Indices of the next batch, if they are known, to be read ahead.
        """
        if self._all is not None:
            return self._all[indices.to(self.device, non_blocking=True)]
        if self._prefetched is not None and torch.equal(self._prefetched[0], indices):
            images = self._prefetched[1].result()
        else:
            images = self._read(indices)
        self._prefetched = None if upcoming is None else (upcoming, self._reader.submit(self._read, upcoming))
        return images.to(self.device, non_blocking=True)

    def _read(self, indices: Tensor) -> Tensor:
        """Read images into memory, pinned if a GPU is to copy them."""
        chosen = indices.numpy()
        found = np.empty((len(chosen), *self._parts[0][0].shape[1:]), np.uint8)
        part = np.searchsorted(self._starts, chosen, side="right") - 1
        for number, (images, members) in enumerate(self._parts):
            here = part == number
            found[here] = images[members[chosen[here] - self._starts[number]]]
        read = torch.from_numpy(found)
        return read.pin_memory() if self.device.type == "cuda" else read


class ShuffledBatches:
    """Endless batches of indices into 0..n - 1, reshuffled every epoch; an incomplete last batch is dropped.

    A batch larger than n takes every image at least `batch_size` // n times.
    """

    def __init__(self, n: int, batch_size: int, generator: torch.Generator) -> None:
        """Create the batches; the order of an epoch is drawn when its first batch is.

        Args:
            n: Number of images.
            batch_size: Number of indices in a batch.
            generator: Source of the order.
        """
        self._n, self._batch_size, self._generator = n, batch_size, generator
        self._order, self._position = torch.empty(0, dtype=torch.long), 0

    def __next__(self) -> Tensor:
        """Return the next (batch_size,) indices."""
        if self._position + self._batch_size > len(self._order):
            passes = -(-self._batch_size // self._n)
            orders = [torch.randperm(self._n, generator=self._generator) for _ in range(passes)]
            self._order, self._position = torch.cat(orders), 0
        self._position += self._batch_size
        return self._order[self._position - self._batch_size : self._position]

    def upcoming(self) -> Tensor | None:
        """Return the indices that come next; None before the first batch of an epoch, whose order is not drawn yet."""
        if self._position + self._batch_size > len(self._order):
            return None
        return self._order[self._position : self._position + self._batch_size]

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return the order of the epoch and the position in it."""
        return {"order": self._order, "position": self._position}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restore what `state_dict` returned."""
        self._order, self._position = torch.as_tensor(state["order"]), int(state["position"])


def require_batch(batch_size: int, available: int, key: str, what: str) -> None:
    """Refuse a batch that is larger than the data.

    Raises:
        UserError: The batch is too large; the message names the parameter `key` and its largest possible value.
    """
    if batch_size > available:
        raise UserError(f"{key} is {batch_size}, but there are only {available} {what}: set it to at most {available}")
