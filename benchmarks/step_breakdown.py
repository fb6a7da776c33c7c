"""Where the time of a training step goes."""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders import Setting, TwinModel, pipeline_recipe
from benchmarks.interleaver import now
from stages.images.views import crop_and_colour, draw_view_parameters, make_views
from stages.models.batches import ImagePool
from stages.training.compilation import compiled

_STEPS = 10


def step_breakdown(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> dict[str, float]:
    """Return the milliseconds that each part of a step takes, the mean of ten steps after one to warm up.

    The device is waited for after each part, so that the sum is above the time of a step in training.
    """
    model, recipe = TwinModel(setting, device), pipeline_recipe(setting.view_size)
    transform = compiled(crop_and_colour) if setting.compile else crop_and_colour
    optimizer = torch.optim.AdamW(model.weights, lr=0.001, fused=True)
    pool = ImagePool([(images, np.arange(len(images)))], device)
    generator = torch.Generator().manual_seed(0)
    watch = _Stopwatch(device)
    height, width = images.shape[1:3]
    for step in range(1 + _STEPS):
        if step == 1:
            watch.seconds.clear()
        chosen = torch.randperm(len(images), generator=generator)[: setting.batch_size]

        watch.start()
        batch = pool.batch(chosen)
        watch.lap("reading")
        parameters = draw_view_parameters(2 * setting.batch_size, height, width, recipe, generator)
        watch.lap("drawing parameters")
        views = make_views(batch, parameters, setting.view_size, transform)
        watch.lap("views")
        loss = model.loss(views)
        watch.lap("forward")
        loss.backward()
        watch.lap("backward")
        optimizer.step()
        watch.lap("optimizer")

        optimizer.zero_grad(set_to_none=True)
    return {part: round(1000 * seconds / _STEPS, 2) for part, seconds in watch.seconds.items()}


class _Stopwatch:
    """Adds up the seconds of the parts of a step.

    Attributes:
        seconds: Seconds so far by the name of the part.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device, self._last = device, 0.0

    def start(self) -> None:
        """Begin the first part."""
        self._last = now(self._device)

    def lap(self, part: str) -> None:
        """End a part, once the device has done it, and begin the next."""
        time = now(self._device)
        self.seconds[part] = self.seconds.get(part, 0.0) + time - self._last
        self._last = time
