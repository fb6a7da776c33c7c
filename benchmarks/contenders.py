"""The ways of feeding a model that are held against each other."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from stages.images.views import ViewRecipe, crop_and_colour, draw_view_parameters, make_views
from stages.learning.barlow_twins import pretrain, weighted_barlow_twins
from stages.learning.batches import Pictures
from stages.learning.encoders import build_encoder, build_projector
from stages.learning.states import States
from stages.learning.training import compiled, mixed_precision

# Does a step each time that it is asked for the next; where True is sent, it rests until it is asked again.
Guest = Generator[None, bool | None, None]

CROP_MIN, JITTER, JITTER_PROBABILITY, GREY_PROBABILITY = 0.2, (0.4, 0.4, 0.4, 0.1), 0.8, 0.1


@dataclass(frozen=True)
class Setting:
    """What is trained; the same for all.

    Attributes:
        encoder, stem, projector: of the model.
        view_size: in pixels.
        batch_size: images in a step; twice as many views.
        steps: of an epoch, after which pretraining keeps its state.
        epochs: of pretraining.
        compile: whether the model, and our views, are compiled; nothing of that is timed.
    """

    encoder: str = "narrow"
    stem: str = "conv3_stride2"
    projector: tuple[int, ...] = (256, 256)
    view_size: int = 64
    batch_size: int = 64
    steps: int = 40
    epochs: int = 1
    compile: bool = False


def recipe(size: int) -> ViewRecipe:
    """Crop, flip, jitter and greyscale, as many do for small images."""
    strengths = dict(zip(("brightness", "contrast", "saturation", "hue"), JITTER, strict=True))
    return ViewRecipe(
        size,
        CROP_MIN,
        flip=True,
        jitter_probability=JITTER_PROBABILITY,
        greyscale_probability=GREY_PROBABILITY,
        **strengths,
    )


def usual_transform(size: int) -> transforms.Compose:
    """The same views by torchvision, from one PIL image at a time."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, (CROP_MIN, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(*JITTER)], JITTER_PROBABILITY),
            transforms.RandomGrayscale(GREY_PROBABILITY),
            transforms.ToTensor(),
        ]
    )


class Model:
    """An encoder with its projector, and the loss of two views."""

    def __init__(self, setting: Setting, device: torch.device) -> None:
        self.device = device
        self.encoder = build_encoder(setting.encoder, setting.stem).to(device)
        self.projector = build_projector(self.encoder.width, list(setting.projector)).to(device)
        self.weights = [*self.encoder.parameters(), *self.projector.parameters()]
        self._precision = mixed_precision(device)
        embed = nn.Sequential(self.encoder, self.projector)
        self._embed = compiled(embed) if setting.compile else embed

    def loss(self, views: Tensor) -> Tensor:
        """Of (2 B, 3, H, W) views, first and second one after another."""
        with self._precision:
            first, second = self._embed(views).float().chunk(2)
        return torch.stack(list(weighted_barlow_twins(first, second, 0.01).values())).sum()

    def backward(self, views: Tensor) -> None:
        self.loss(views).backward()
        for weight in self.weights:
            weight.grad = None


def limit(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> Guest:
    """(a) Forward and backward pass on a batch that is already there, endlessly, a step at a time."""
    model = Model(setting, device)
    size = setting.view_size
    views = torch.rand(2 * setting.batch_size, 3, size, size, device=device)
    views = views.contiguous(memory_format=torch.channels_last)
    while True:
        model.backward(views)
        if (yield):
            yield


def ours(
    setting: Setting,
    images: NDArray[np.uint8],
    device: torch.device,
    scratch: Path,
    between_steps: Callable[[bool], None] = lambda busy: None,
) -> float:
    """(b) Pretraining as the pipeline runs it, once: images per second, with all that it does from its first step to its last.

    States are kept in the empty directory `scratch`; `between_steps` is called before every step, with whether one is being written.
    """
    chosen = np.random.default_rng(0).permutation(len(images))[: setting.steps * setting.batch_size]
    pictures = _Watched([(images, np.sort(chosen))], device)
    kept: list[States] = []
    pictures.before_batch = lambda: between_steps(bool(kept) and kept[-1].writing)
    save = States.save

    def watched(states: States, *given: object, **named: object) -> None:
        save(states, *given, **named)
        kept.append(states)

    with mock.patch.object(States, "save", watched):
        _, _, trained = pretrain(
            pictures,
            encoder=setting.encoder,
            stem=setting.stem,
            projector=list(setting.projector),
            views=recipe(setting.view_size),
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            learning_rate=0.001,
            warmup_epochs=0,
            weight_decay=0.0001,
            redundancy_weight=0.01,
            compile=setting.compile,
            seed=0,
            scratch=scratch,
            keep=lambda epoch, encoder, projector: None,
        )
    return float(trained.cost["images_per_second"])


class _Watched(Pictures):
    """Pictures that say when a batch is asked for."""

    before_batch: Callable[[], None]

    def batch(self, chosen: Tensor, ahead: Tensor | None = None) -> Tensor:
        self.before_batch()
        return super().batch(chosen, ahead)


def usual(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> Guest:
    """(c) torchvision's transforms, one picture at a time, in as many workers as there are cores; endlessly, a step at a time."""
    return _loaded(_Pictures(images, _Twice(usual_transform(setting.view_size))), setting, device)


def lightly(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> Guest:
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
        random_gray_scale=GREY_PROBABILITY,
        gaussian_blur=0.0,
        normalize=None,
    )
    return _loaded(LightlyDataset.from_torch_dataset(_Pictures(images, transform)), setting, device)


class _Pictures(Dataset):
    """Pictures without a label, each made into its views."""

    def __init__(self, images: NDArray[np.uint8], transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self._transform(Image.fromarray(self._images[index])), 0


class _Twice:
    """Two views of a picture."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self._transform = transform

    def __call__(self, picture: Image.Image) -> list[Tensor]:
        return [self._transform(picture), self._transform(picture)]


def _loaded(data: Dataset, setting: Setting, device: torch.device) -> Guest:
    """Training on what a DataLoader brings. While it rests its workers stand still."""
    model = Model(setting, device)
    optimizer = torch.optim.AdamW(model.weights, lr=0.001, fused=True)
    endless = RandomSampler(data, replacement=True, num_samples=2**40)
    loader = DataLoader(
        data,
        setting.batch_size,
        sampler=endless,
        num_workers=os.cpu_count() or 1,
        pin_memory=device.type == "cuda",
    )
    others = set(multiprocessing.active_children())
    batches = iter(loader)
    workers = set(multiprocessing.active_children()) - others
    try:
        for batch in batches:
            views = torch.cat(batch[0]).to(device, memory_format=torch.channels_last, non_blocking=True)
            model.loss(views).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if (yield):
                _signal(workers, signal.SIGSTOP)
                yield
                _signal(workers, signal.SIGCONT)
    finally:
        _signal(workers, signal.SIGCONT)


def _signal(workers: set[multiprocessing.Process], what: signal.Signals) -> None:
    for worker in workers:
        if worker.is_alive():
            os.kill(worker.pid, what)


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def parts_of_a_step(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> dict[str, float]:
    """Where the time of a step goes: milliseconds of each part, the device being waited for after each, mean of ten steps."""
    model, views_recipe = Model(setting, device), recipe(setting.view_size)
    change_all = compiled(crop_and_colour) if setting.compile else crop_and_colour
    optimizer = torch.optim.AdamW(model.weights, lr=0.001, fused=True)
    pictures = Pictures([(images, np.arange(len(images)))], device)
    generator = torch.Generator().manual_seed(0)
    spent: dict[str, float] = {}

    def timed(part: str, work: Callable[[], object]) -> object:
        began = now(device)
        result = work()
        spent[part] = spent.get(part, 0.0) + now(device) - began
        return result

    for step in range(11):
        if step == 1:
            spent.clear()
        chosen = torch.randperm(len(images), generator=generator)[: setting.batch_size]
        batch = timed("reading", lambda chosen=chosen: pictures.batch(chosen))
        drawn = timed(
            "drawing parameters",
            lambda: draw_view_parameters(2 * setting.batch_size, *images.shape[1:3], views_recipe, generator),
        )
        views = timed("views", lambda batch=batch, drawn=drawn: make_views(batch, drawn, setting.view_size, change_all))
        loss = timed("forward", lambda views=views: model.loss(views))
        timed("backward", loss.backward)
        timed("optimizer", optimizer.step)
        optimizer.zero_grad(set_to_none=True)
    return {part: round(100 * seconds, 2) for part, seconds in spent.items()}
