"""The ways of feeding a model that are compared."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from benchmarks.interleaver import Contender
from stages.images.views import ViewRecipe
from stages.losses.barlow_twins import barlow_twins_loss
from stages.methods.barlow_twins import pretrain
from stages.models.batches import ImagePool
from stages.models.device import autocast
from stages.models.encoders import build_encoder, build_projector
from stages.pipeline.params import EncoderChoice, Pretrain
from stages.training.checkpointer import Checkpointer
from stages.training.compilation import compiled

CROP_MIN, JITTER, JITTER_PROBABILITY, GREYSCALE_PROBABILITY = 0.2, (0.4, 0.4, 0.4, 0.1), 0.8, 0.1


@dataclass(frozen=True)
class Setting:
    """What is trained, the same for all contenders.

    Attributes:
        encoder: Name of the encoder.
        stem: Name of the encoder's stem.
        projector: Widths of the projector's layers.
        view_size: Height and width of a view in pixels.
        batch_size: Number of images in a step; there are twice as many views.
        steps: Number of steps in an epoch, after which pretraining saves its state.
        epochs: Number of epochs of pretraining.
        compile: Whether the model, and the views of the pipeline, are compiled; the time for that is not counted.
    """

    encoder: Literal["narrow", "resnet18"] = "narrow"
    stem: Literal["conv3_stride2", "conv3_pool"] = "conv3_stride2"
    projector: tuple[int, ...] = (256, 256)
    view_size: int = 64
    batch_size: int = 64
    steps: int = 40
    epochs: int = 1
    compile: bool = False


def pipeline_recipe(size: int) -> ViewRecipe:
    """Return a recipe of crop, flip, jitter and greyscale, as is common for small images."""
    brightness, contrast, saturation, hue = JITTER
    return ViewRecipe(
        size,
        CROP_MIN,
        flip=True,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=hue,
        jitter_probability=JITTER_PROBABILITY,
        greyscale_probability=GREYSCALE_PROBABILITY,
    )


def torchvision_transform(size: int) -> transforms.Compose:
    """Return torchvision's transform that makes the same views from one PIL image at a time."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, (CROP_MIN, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(*JITTER)], JITTER_PROBABILITY),
            transforms.RandomGrayscale(GREYSCALE_PROBABILITY),
            transforms.ToTensor(),
        ]
    )


class TwinModel:
    """An encoder with its projector, and the loss of two views.

    Attributes:
        weights: All parameters that are trained.
    """

    def __init__(self, setting: Setting, device: torch.device) -> None:
        encoder = build_encoder(setting.encoder, setting.stem).to(device)
        projector = build_projector(encoder.width, list(setting.projector)).to(device)
        self.weights = [*encoder.parameters(), *projector.parameters()]
        self._autocast = autocast(device)
        embed = nn.Sequential(encoder, projector)
        self._embed: Callable[[Tensor], Tensor] = compiled(embed) if setting.compile else embed

    def loss(self, views: Tensor) -> Tensor:
        """Return the loss of (2 B, 3, H, W) views, of which i and B + i are of the same image."""
        with self._autocast:
            first, second = self._embed(views).float().chunk(2)
        return torch.stack(list(barlow_twins_loss(first, second, 0.01).values())).sum()


def model_only(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> Contender:
    """(a) Forward and backward pass on a batch that is already on the device, without end."""
    model = TwinModel(setting, device)
    shape = (2 * setting.batch_size, 3, setting.view_size, setting.view_size)
    views = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
    while True:
        model.loss(views).backward()
        for weight in model.weights:
            weight.grad = None
        if (yield):
            yield


def pipeline(
    setting: Setting,
    images: NDArray[np.uint8],
    device: torch.device,
    scratch: Path,
    before_step: Callable[[bool], None] = lambda busy: None,
) -> float:
    """(b) Pretrain once as the pipeline does.

    Args:
        setting: What is trained.
        images: (N, H, W, 3) images, from which as many as an epoch has are drawn.
        device: Device to train on.
        scratch: Empty directory for checkpoints.
        before_step: Function that is called before every step, with whether a checkpoint is being written at the time.

    Returns:
        Images per second, with all that is done from the first step to the last.
    """
    chosen = np.random.default_rng(0).permutation(len(images))[: setting.steps * setting.batch_size]
    pool = _WatchedPool([(images, np.sort(chosen))], device)
    saving: list[Checkpointer] = []
    save = Checkpointer.save

    def watched_save(checkpointer: Checkpointer, step: int, *, last: bool = False) -> None:
        save(checkpointer, step, last=last)
        saving[:] = [checkpointer]

    pool.before_batch = lambda: before_step(any(checkpointer.is_writing for checkpointer in saving))
    choice, settings = EncoderChoice(name=setting.encoder, stem=setting.stem), _pretrain_section(setting)
    with mock.patch.object(Checkpointer, "save", watched_save):
        _, _, result = pretrain(pool, choice, pipeline_recipe(setting.view_size), settings, 0, scratch)
    return float(result.cost["images_per_second"])


def _pretrain_section(setting: Setting) -> Pretrain:
    return Pretrain(
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        learning_rate=0.001,
        warmup_epochs=0,
        weight_decay=0.0001,
        projector=list(setting.projector),
        redundancy_weight=0.01,
        compile=setting.compile,
        checkpoints=1,
    )


class _WatchedPool(ImagePool):
    """An image pool that reports when a batch is asked for."""

    before_batch: Callable[[], None]

    def batch(self, indices: Tensor, upcoming: Tensor | None = None) -> Tensor:
        self.before_batch()
        return super().batch(indices, upcoming)


def torchvision(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> Contender:
    """(c) torchvision's transforms on one image at a time, in as many workers as there are cores, without end."""
    return _train_on_loader(_Images(images, _TwoViews(torchvision_transform(setting.view_size))), setting, device)


def lightly(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> Contender:
    """(d) The same with lightly's transform for SimCLR, of the same strengths, and its data set."""
    from lightly.data import LightlyDataset
    from lightly.transforms import SimCLRTransform

    brightness, contrast, saturation, hue = JITTER
    transform = SimCLRTransform(
        input_size=setting.view_size,
        cj_prob=JITTER_PROBABILITY,
        cj_strength=1.0,
        cj_bright=brightness,
        cj_contrast=contrast,
        cj_sat=saturation,
        cj_hue=hue,
        min_scale=CROP_MIN,
        random_gray_scale=GREYSCALE_PROBABILITY,
        gaussian_blur=0.0,
        normalize=None,
    )
    return _train_on_loader(LightlyDataset.from_torch_dataset(_Images(images, transform)), setting, device)


class _Images(Dataset[tuple[list[Tensor], int]]):
    """Images without a label, each turned into its views."""

    def __init__(self, images: NDArray[np.uint8], transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self._transform(Image.fromarray(self._images[index])), 0


class _TwoViews:
    """Makes two views of an image."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self._transform = transform

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [self._transform(image), self._transform(image)]


def _train_on_loader(data: _Images, setting: Setting, device: torch.device) -> Contender:
    """Train on what a DataLoader brings; its workers stand still while this contender rests."""
    model = TwinModel(setting, device)
    optimizer = torch.optim.AdamW(model.weights, lr=0.001, fused=True)
    with _endless_batches(data, setting.batch_size, device) as (batches, workers):
        for batch, _ in batches:
            views = torch.cat(batch).to(device, memory_format=torch.channels_last, non_blocking=True)
            model.loss(views).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if (yield):
                _signal(workers, signal.SIGSTOP)
                yield
                _signal(workers, signal.SIGCONT)


@contextmanager
def _endless_batches(
    data: _Images, batch_size: int, device: torch.device
) -> Iterator[tuple[Iterator[tuple[list[Tensor], Tensor]], set[BaseProcess]]]:
    """Yield the batches, without end, of a DataLoader, and its worker processes."""
    loader = DataLoader(
        data,
        batch_size,
        sampler=RandomSampler(data, replacement=True, num_samples=2**40),
        num_workers=os.cpu_count() or 1,
        pin_memory=device.type == "cuda",
    )
    others = set(multiprocessing.active_children())
    batches = iter(loader)
    workers = set(multiprocessing.active_children()) - others
    try:
        yield batches, workers
    finally:
        _signal(workers, signal.SIGCONT)  # A worker that stands still could not be ended.


def _signal(workers: set[BaseProcess], number: signal.Signals) -> None:
    for worker in workers:
        if worker.pid is not None and worker.is_alive():
            os.kill(worker.pid, number)
