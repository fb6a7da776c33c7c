"""Where the images of a batch come from, and on which device they are."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.files import UserError
from stages.images.layout import ImageSet

_SHARE_OF_FREE_MEMORY = 0.5


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES asks for a GPU that cannot be used.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    asked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if asked not in ("", "-1"):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES asks for GPU {asked}, but PyTorch finds none: unset it, or set it to -1 for the CPU"
        )
    return torch.device("cpu")


def on_device(images: NDArray[np.uint8], indices: NDArray[np.int64] | None, device: torch.device) -> Tensor:
    """The chosen images (all for None) as (N, H, W, 3) bytes on the device."""
    return torch.from_numpy(np.array(images) if indices is None else images[indices]).to(device)


def visible_images(images: ImageSet, labeled: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
    """The training images whose label is visible, (N, H, W, 3) bytes, and their class numbers (N,), on the device."""
    return on_device(images.train, labeled, device), torch.from_numpy(images.train_labels[labeled]).to(device)


class Pictures:
    """Many images as bytes: all on the GPU where they fit into half of its free memory, else on disk, mapped.

    From disk a batch is read by a thread of its own while the one before is trained on, so that neither the disk nor the copy to
    the device is waited for. What a batch needs is all that is ever in memory.

    Attributes:
        device: where batches go.
    """

    def __init__(self, parts: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64]]], device: torch.device) -> None:
        """Nothing is read yet where the images stay on disk.

        Args:
            parts: arrays of (N, H, W, 3) bytes, mapped from disk, and which of each to take; they follow one another.
            device: where batches go.
        """
        self.device = device
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(chosen) for _, chosen in parts)])
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._ahead: tuple[Tensor, Future[Tensor]] | None = None
        size = sum(len(chosen) * images[:1].nbytes for images, chosen in parts)
        fits = device.type == "cuda" and size < _SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]
        self._whole = self._read(torch.arange(len(self))).to(device) if fits else None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def first(self, count: int) -> Tensor:
        """The first `count` images, or all if there are fewer: (N, H, W, 3) bytes on the device."""
        return self.batch(torch.arange(min(count, len(self))))

    def batch(self, indices: Tensor, ahead: Tensor | None = None) -> Tensor:
        """Chosen images: (B,) indices to (B, H, W, 3) bytes on the device.

        Args:
            indices: on the CPU.
            ahead: what will be asked for next, if that is known.
        """
        if self._whole is not None:
            return self._whole[indices.to(self.device, non_blocking=True)]
        if self._ahead is not None and torch.equal(self._ahead[0], indices):
            images = self._ahead[1].result()
        else:
            images = self._read(indices)
        self._ahead = None if ahead is None else (ahead, self._reader.submit(self._read, ahead))
        return images.to(self.device, non_blocking=True)

    def _read(self, indices: Tensor) -> Tensor:
        """In memory, from which a GPU copies without the CPU where there is one."""
        chosen = indices.numpy()
        found = np.empty((len(chosen), *self._parts[0][0].shape[1:]), np.uint8)
        part = np.searchsorted(self._starts, chosen, side="right") - 1
        for number, (images, members) in enumerate(self._parts):
            here = part == number
            found[here] = images[members[chosen[here] - self._starts[number]]]
        read = torch.from_numpy(found)
        return read.pin_memory() if self.device.type == "cuda" else read


class ShuffledBatches:
    """Endless (batch_size,) indices into 0..n - 1, shuffled anew each epoch; the rest of an epoch is left out."""

    def __init__(self, n: int, batch_size: int, generator: torch.Generator) -> None:
        self._n, self._batch_size, self._generator = n, batch_size, generator
        self._order, self._taken = torch.empty(0, dtype=torch.long), 0

    def __next__(self) -> Tensor:
        if self._taken + self._batch_size > len(self._order):
            self._order, self._taken = torch.randperm(self._n, generator=self._generator), 0
        self._taken += self._batch_size
        return self._order[self._taken - self._batch_size : self._taken]

    def ahead(self) -> Tensor | None:
        """What comes next, unless that is the first batch of an epoch, whose order has not been drawn yet."""
        if self._taken + self._batch_size > len(self._order):
            return None
        return self._order[self._taken : self._taken + self._batch_size]

    def state_dict(self) -> dict:
        return {"order": self._order, "taken": self._taken}

    def load_state_dict(self, state: dict) -> None:
        self._order, self._taken = state["order"], state["taken"]


def require_batch(batch_size: int, available: int, key: str, what: str) -> None:
    """Refuse a batch that is larger than the data.

    Raises:
        UserError: naming the parameter and the most it can be.
    """
    if batch_size > available:
        raise UserError(f"{key} is {batch_size}, but there are only {available} {what}: set it to at most {available}")
