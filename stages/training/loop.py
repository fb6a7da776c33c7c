"""The training loop, shared by all methods."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stages.models import distributed
from stages.models.checkpoints import save_weights
from stages.models.device import device_name, keep_freed_memory, peak_memory
from stages.pipeline.errors import UserError
from stages.pipeline.files import require_space, write_json
from stages.pipeline.processes import is_main_process
from stages.pipeline.progress import progress
from stages.training.checkpointer import Checkpointer
from stages.training.compilation import is_compiler_error, one_line
from stages.training.history import History, write_history
from stages.training.schedules import warmup_cosine
from stages.training.task import Task

if TYPE_CHECKING:
    from tqdm import tqdm

_GPU_STEPS_PER_CHECK = 50


@dataclass(frozen=True)
class Plan:
    """How long a task is trained, and how fast it learns.

    Attributes:
        name: Section of the parameters, which names the run in messages, on the progress bar and in the scratch
            directory.
        steps: Number of optimizer steps.
        steps_per_row: Number of steps that one row of the history averages.
        unit: What rows are numbered by.
        images_per_step: Number of images in a step of all processes, for the rate on the progress bar.
        learning_rate: Peak of the learning rate.
        warmup: Number of steps in which the learning rate climbs to its peak; it falls along a cosine afterwards.
        weight_decay: Decay of weight matrices and kernels; biases and normalisation weights are not decayed.
    """

    name: str
    steps: int
    steps_per_row: int
    unit: Literal["epoch", "step"]
    images_per_step: int
    learning_rate: float
    warmup: int
    weight_decay: float

    @classmethod
    def by_steps(cls, name: str, steps: int, images_per_step: int, learning_rate: float, weight_decay: float) -> "Plan":
        """Plan a run of some steps, with 50 rows of history and a warm-up over a twentieth of the steps."""
        return cls(
            name=name,
            steps=steps,
            steps_per_row=max(1, steps // 50),
            unit="step",
            images_per_step=images_per_step,
            learning_rate=learning_rate,
            warmup=steps // 20,
            weight_decay=weight_decay,
        )

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate at `step` of 0..steps - 1."""
        return warmup_cosine(step, self.steps, self.warmup, self.learning_rate)


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves behind besides weights.

    Attributes:
        history: Rows of the training curve; see `History`.
        cost: Seconds, images per second and peak memory, which vary from run to run, and the device and version of
            PyTorch that they were measured with; for pretraining also whether it was compiled.
    """

    history: list[dict[str, float]]
    cost: dict[str, float | str | bool]

    @property
    def curve(self) -> pd.DataFrame:
        """The history as a table."""
        return pd.DataFrame(self.history)

    @property
    def seconds(self) -> float:
        """Duration of training."""
        return float(self.cost["seconds"])


def fit(task: Task, plan: Plan, scratch: Path, after_row: Callable[[int], None] = lambda rows: None) -> TrainingResult:
    """Minimise the sum of a task's loss terms by AdamW (Loshchilov and Hutter 2019).

    A checkpoint is written after every row of the history, and every five minutes if rows take longer. Called again
    with the same arguments, training resumes from there and ends in the same bytes as an uninterrupted run.

    Args:
        task: What is trained, on the device to train on.
        plan: How long and how fast.
        scratch: Directory for checkpoints, and for the last good weights if a loss is not finite.
        after_row: Function called with the number of rows, 0 before the first step and then after each row; where
            several processes train together, in the first of them.

    Raises:
        UserError: A loss or a weight is not finite, memory or disk is full, or the task cannot be compiled or resumed.
    """
    _configure_torch()
    weights = task.trained_parameters()
    device = weights[0].device
    optimizer = _adamw(weights, plan.weight_decay)
    history, meter = History(plan.unit, device), _CostMeter(device)
    checkpointer = Checkpointer(scratch / plan.name, task=task, optimizer=optimizer, history=history, cost=meter)
    done = _resume(checkpointer, plan, scratch, weights, after_row)
    meter.start()
    guard = _FiniteGuard(task, plan, scratch, done)

    with checkpointer, _progress_bar(plan, done) as bar:
        for step in range(done, plan.steps):
            # Forward and backward pass.
            rate = plan.learning_rate_at(step)
            with _explain_failures(plan.name, device):
                terms = task.loss_terms(step)
                torch.stack(list(terms.values())).sum().backward()

            # Optimizer step.
            distributed.average_gradients(weights)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            task.after_step()

            # Record the losses, and stop if one is not finite.
            history.add(terms)
            bar.update(plan.images_per_step)
            row_is_complete = step == plan.steps - 1 or len(history.pending) == plan.steps_per_row
            save = row_is_complete or (distributed.is_writer() and checkpointer.due())
            guard.check(history, step, rate, now=save)

            # Complete a row of the history, and save a checkpoint.
            if row_is_complete:
                row = history.close_row(step, rate)
                bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                guard.remember(step + 1)
                if distributed.is_writer():
                    after_row(len(history.rows))
            if save and distributed.is_writer():
                checkpointer.save(step + 1, last=step == plan.steps - 1)

    return TrainingResult(history.rows, meter.cost(plan.steps * plan.images_per_step))


def record_training(stage: str, result: TrainingResult) -> None:
    """Write the training curve to `plots/history/<stage>.csv` and the cost to `metrics/cost/<stage>.json`."""
    write_history(stage, result.history)
    write_json(f"metrics/cost/{stage}.json", result.cost)


def _configure_torch() -> None:
    """Make cuDNN use the same kernels in every run, and every step use the memory that the one before freed."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    keep_freed_memory()


def _resume(
    checkpointer: Checkpointer,
    plan: Plan,
    scratch: Path,
    weights: list[nn.Parameter],
    after_row: Callable[[int], None],
) -> int:
    """Restore the last checkpoint if there is one, and return the number of steps that it completed."""
    done = checkpointer.load()
    if distributed.is_writer():
        if done is not None:
            print(f"{plan.name}: resuming after {done:,} of {plan.steps:,} steps", file=sys.stderr, flush=True)
        else:
            # Two checkpoints while a third is written, each with weights, AdamW's two averages, and perhaps an EMA.
            size = 12 * sum(weight.nbytes for weight in weights)
            require_space(scratch, size, f"what {plan.name} keeps to resume after an interruption")
            after_row(0)
    return done or 0


def _progress_bar(plan: Plan, done: int) -> "tqdm[int]":
    return progress(
        title=plan.name,
        unit="img",
        total=plan.steps * plan.images_per_step,
        done=done * plan.images_per_step,
        shown=is_main_process(),
    )


def _adamw(weights: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


@contextmanager
def _explain_failures(name: str, device: torch.device) -> Iterator[None]:
    """Turn a lack of memory, or what a compiler refuses, into a line that says what to change."""
    try:
        yield
    except RuntimeError as error:  # A GPU raises a subclass when memory runs out, a CPU does not.
        if is_compiler_error(error):
            raise UserError(
                f"model and views could not be compiled: set {name}.compile to false ({one_line(error)})"
            ) from error
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        used = f" ({peak_memory(device) / 2**30:.1f} GiB were in use)"
        raise UserError(
            f"a training step does not fit into the memory of {device_name(device)}{used}: lower {name}.batch_size "
            "first, then views.size, or choose a smaller encoder.name; completed steps are kept if none of them changes"
        ) from error


class _FiniteGuard:
    """Stops training when a loss term, or a weight, is not finite, and keeps the weights from before."""

    def __init__(self, task: Task, plan: Plan, scratch: Path, done: int) -> None:
        self._task, self._plan = task, plan
        self._rescued = scratch / plan.name / "last_good.safetensors"
        self._weights = task.trained_parameters()
        self._on_cpu = self._weights[0].device.type == "cpu"
        self._unchecked = 0
        self.remember(done)

    def remember(self, done: int) -> None:
        """Keep a copy of the present state as the last good one, after `done` steps."""
        tensors = {name: value for name, value in self._task.state_dict().items() if isinstance(value, Tensor)}
        self._good = done, deepcopy(tensors)

    def check(self, history: History, step: int, rate: float, *, now: bool) -> None:
        """Check the losses that were not checked yet, and, if it has to be `now`, the weights too.

        On a CPU, where it costs nothing, losses are checked at every step. On a GPU they stay there and are checked
        every 50 steps, so that the CPU need not wait for it.

        Raises:
            UserError: A value is not finite; the message names step, term, learning rate and the file with the last
                good weights.
        """
        self._unchecked += 1
        if not (now or self._on_cpu or self._unchecked == _GPU_STEPS_PER_CHECK):
            return
        finite = torch.stack(history.pending[-self._unchecked :]).isfinite().cpu().numpy()
        first = step + 1 - len(finite)
        self._unchecked = 0

        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            what = f"the loss is no longer finite at step {first + row + 1} (term {history.names[column]})"
        elif now and not all(bool(weight.isfinite().all()) for weight in self._weights):
            what = f"the weights are no longer finite after step {step + 1}"
        else:
            return

        done, tensors = self._good
        if distributed.is_writer():
            save_weights(tensors, self._rescued, {"step": done})
        raise UserError(
            f"{self._plan.name} at a learning rate of {rate:.2g}: {what}: lower the learning rate; "
            f"{self._rescued} holds the weights after {done} steps, the last good ones"
        )


class _CostMeter:
    """Measures seconds and peak memory of a training run, interrupted or not."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before, self._peak, self._began = 0.0, 0, 0.0

    def start(self) -> None:
        """Begin to measure, after what an interrupted run has taken was restored."""
        self._began = time.perf_counter()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def state_dict(self) -> dict[str, float]:
        """Return seconds and peak memory so far."""
        self._peak = max(self._peak, peak_memory(self._device))
        return {"seconds": self._before + time.perf_counter() - self._began, "peak_memory": self._peak}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Count what an interrupted run took."""
        self._before, self._peak = state["seconds"], int(state["peak_memory"])

    def cost(self, images: int) -> dict[str, float | str | bool]:
        """Return what processing `images` images cost."""
        state = self.state_dict()
        return {
            "seconds": round(state["seconds"], 2),
            "images_per_second": round(images / max(state["seconds"], 1e-9), 1),
            "peak_memory_mib": round(state["peak_memory"] / 2**20, 1),
            "device": device_name(self._device),
            "torch": torch.__version__,
        }
