"""The training loop, shared by every model, and what it depends on of the machine."""

import ctypes
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.files import UserError, require_space
from stages.learning import processes
from stages.learning.batches import pick_device
from stages.learning.checkpoints import save_weights
from stages.learning.states import Stateful, States
from stages.progress import progress

_GPU_STEPS_PER_CHECK = 50
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind beside the weights.

    Attributes:
        history: one row per epoch or per stretch of steps, with the mean of every loss term over it.
        cost: seconds, images per second and peak memory, compiling included, which vary from run to run; and what they are of: the
            device, the version of torch, and for pretraining whether it was compiled.
    """

    history: list[dict[str, float]]
    cost: dict[str, float | str | bool]


def keep_freed_memory() -> None:
    """Have the C library keep what one step frees for the next, where it is glibc (mallopt(3)); elsewhere nothing changes.

    Otherwise it gives large blocks back to the system, and every step waits for thousands of empty pages to be handed out again.
    This holds for the rest of the process.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_MMAP_MAX, 0)


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 for the model's matrix products where the hardware has it, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_has_bfloat16(device))


def can_compile(device: torch.device, key: str) -> bool:
    """Whether torch.compile finds here what it needs; if not, a line on standard error says why.

    Args:
        device: to compile for.
        key: the parameter that asks for it, for the line.
    """
    if processes.count() > 1:
        reason = "several processes share each batch"
    else:
        try:
            compiled(lambda values: values.sin().sum())(torch.ones(64, device=device, requires_grad=True)).backward()
            return True
        except Exception as error:  # Compilers, and what they run on, fail in many ways.
            reason = _in_a_line(error)
    if processes.is_first():
        print(f"{key}: not compiled, since {reason}", file=sys.stderr, flush=True)
    return False


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function with its operations fused by torch.compile (Ansel et al. 2024) when it is first called, which changes its rounding.

    Each shape has kernels of its own, and none is chosen by timing, so that a run that goes on uses those that it began with.
    """
    options = {"deterministic": True, "cpp.threads": torch.get_num_threads()}
    return torch.compile(function, dynamic=False, options=options)


@dataclass(frozen=True)
class WayOfComputing:
    """Whether a training is compiled, which its state remembers: the two ways round differently, so one may not end what the other began."""

    compiled: bool

    def state_dict(self) -> dict[str, bool]:
        return {"compiled": self.compiled}

    def load_state_dict(self, state: dict[str, bool]) -> None:
        """Raises UserError where the state is of the other way."""
        if state["compiled"] != self.compiled:
            ways = {True: "compiled", False: "not compiled"}
            raise UserError(
                f"the interrupted training was {ways[state['compiled']]}, and here it would be {ways[self.compiled]}, which rounds "
                "differently: make the compiler what it was and run again, or begin anew after `make clean-scratch`"
            )


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _has_bfloat16(device: torch.device) -> bool:
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()


def optimise(
    losses: Callable[[int], dict[str, Tensor]],
    modules: list[nn.Module],
    *,
    generator: torch.Generator,
    memory: Sequence[Stateful],
    scratch: Path,
    title: str,
    steps: int,
    steps_per_row: int,
    row_name: str,
    images_per_step: int,
    learning_rate: Callable[[int], float],
    weight_decay: float,
    after_step: Callable[[], None] = lambda: None,
    after_row: Callable[[int], None] = lambda row: None,
) -> Trained:
    """Minimise the sum of the `losses` by AdamW (Loshchilov and Hutter 2019) for a number of steps.

    Biases and normalisation weights are not decayed. Kernels are the repeatable ones. On a GPU losses stay on the device and are
    looked at every 50 steps, so that it need not wait; on a CPU, where looking costs nothing, at every step.

    Its whole state is written down, while it goes on, after every row, and every five minutes where rows are longer. Called again with the same
    arguments it goes on from there, and ends in the same bytes as if it had not been interrupted; what is complete is not trained
    again.

    Where several processes train together (see `processes`), each calls this with losses on its share of a batch, and the first writes.

    Args:
        losses: the number of steps before, 0..steps - 1, to the weighted terms of this one, scalars that carry gradients.
        modules: what is trained.
        generator: of all random numbers that a step draws.
        memory: whatever else a step changes: batches, averages, thresholds.
        scratch: directory for states, and for the last good weights if a loss is not finite; `title` names the part of it that is used.
        title: shown beside the progress bar.
        steps: optimizer steps.
        steps_per_row: steps that one row of the history sums up.
        row_name: what such a stretch is called: `epoch` or `step`.
        images_per_step: on all processes, for the rate on the progress bar.
        learning_rate: the step, 0..steps - 1, to the learning rate.
        weight_decay: of weight matrices and kernels.
        after_step, after_row: called then, the latter with the number of rows so far, 0 before the first; again where a row is trained again.

    Raises:
        UserError: a loss is not finite (names step, term, learning rate and the file with the weights before), or a step does not fit
            into memory, or cannot be compiled.
    """
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    keep_freed_memory()
    weights = [p for module in modules for p in module.parameters()]
    device = weights[0].device
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.0,
        fused=True,
    )
    trained = nn.ModuleList(modules)
    states = States(scratch / title, [trained, optimizer, *memory], generator)
    history: list[dict[str, float]] = []
    pending: list[Tensor] = []
    unseen, done, before, peak = 0, 0, 0.0, 0
    writes = processes.is_first()
    if (kept := states.load()) is not None:
        history, pending = kept["history"], [terms.to(device) for terms in kept["pending"]]
        done, before, peak = kept["step"], kept["seconds"], kept["peak_memory"]
        if writes:
            print(f"{title}: going on after {done:,} of {steps:,} steps", file=sys.stderr, flush=True)
    elif writes:
        # Two states are kept while a third is written, each with the weights, AdamW's two averages of gradients, and perhaps one of weights.
        what = f"what {title} keeps to go on after an interruption"
        require_space(scratch, 12 * sum(weight.nbytes for weight in weights), what)
        after_row(0)
    good = done, deepcopy(trained.state_dict())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter() - before
    bar = progress(title=title, unit="img", total=steps * images_per_step, done=done * images_per_step, shown=writes)
    with states, bar:
        for step in range(done, steps):
            rate = learning_rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with _explained(title, device):
                terms = losses(step)
                torch.stack(list(terms.values())).sum().backward()
            processes.average_gradients(weights)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            after_step()
            pending.append(torch.stack([term.detach().float() for term in terms.values()]))
            unseen += 1
            bar.update(images_per_step)
            complete = len(pending) == steps_per_row or step == steps - 1
            due = step == steps - 1 or states.due(complete)
            if complete or due or device.type == "cpu" or unseen == _GPU_STEPS_PER_CHECK:
                where = f"{title} at a learning rate of {rate:.2g}"
                rescued = scratch / title / "last_good.safetensors"
                _require_finite(pending, unseen, list(terms), weights if due else [], where, step, good, rescued)
                unseen = 0
            if complete:
                values = torch.stack(pending).double().cpu().numpy()
                row = {row_name: len(history) + 1 if row_name == "epoch" else step + 1}
                row |= {"loss": float(values.sum(1).mean())}
                row |= {name: float(value) for name, value in zip(terms, values.mean(0), strict=True)}
                history.append(row | {"learning_rate": rate})
                bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                pending.clear()
                good = step + 1, deepcopy(trained.state_dict())
                if writes:
                    after_row(len(history))
            if due and writes:
                seconds, peak = time.perf_counter() - began, max(peak, peak_memory(device))
                numbers = {
                    "step": step + 1,
                    "seconds": seconds,
                    "peak_memory": peak,
                    "history": history,
                    "pending": pending,
                }
                states.save(step + 1, numbers, last=step == steps - 1)
    seconds = time.perf_counter() - began
    return Trained(
        history,
        {
            "seconds": round(seconds, 2),
            "images_per_second": round(steps * images_per_step / max(seconds, 1e-9), 1),
            "peak_memory_mib": round(max(peak, peak_memory(device)) / 2**20, 1),
            "device": device_name(device),
            "torch": torch.__version__,
        },
    )


@contextmanager
def _explained(title: str, device: torch.device) -> Iterator[None]:
    """Turn running out of memory, and what a compiler refuses, into a line that says what to change."""
    try:
        yield
    except RuntimeError as error:  # A GPU raises a class of its own below it, a CPU none.
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            why = f"model and views could not be compiled: set {title}.compile to false ({_in_a_line(error)})"
            raise UserError(why) from error
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        used = f" ({peak_memory(device) / 2**30:.1f} GiB were in use)"
        raise UserError(
            f"a training step does not fit into the memory of {device_name(device)}{used}: lower {title}.batch_size first, then "
            "views.size, or take a smaller encoder.name; what was trained is kept where none of these changes"
        ) from error


def _require_finite(
    pending: list[Tensor],
    unseen: int,
    names: list[str],
    weights: list[Tensor],
    where: str,
    step: int,
    good: tuple[int, dict[str, Tensor]],
    path: Path,
) -> None:
    """Stop at the first loss term that is not finite, or at weights that are not, and keep the weights from before.

    Args:
        pending: the terms of each step of this row, the last being those of `step`.
        unseen: how many of them, from the end, were not looked at yet.
        names: of the terms.
        weights: as they are after this step.
        where: for the message.
        step: counted from 0.
        good: steps that were taken before this row, and the weights then.
        path: where they go.

    Raises:
        UserError: naming step, term, and the file.
    """
    found = torch.stack(pending[-unseen:]).isfinite().cpu().numpy()
    if not found.all():
        row, column = np.argwhere(~found)[0]
        what = f"the loss is no longer finite at step {step + 1 - unseen + row} (term {names[column]})"
    elif not all(bool(weight.isfinite().all()) for weight in weights):
        what = f"the weights are no longer finite after step {step + 1}"
    else:
        return
    before, safe = good
    if processes.is_first():
        save_weights(safe, path, {"step": before})
    raise UserError(
        f"{where}: {what}: lower the learning rate; {path} holds the weights after {before} steps, the last good ones"
    )


def machine() -> str:
    """What rounding depends on beside parameters, data and code: device, precision, instruction set, version of torch."""
    device = pick_device()
    precision = "bfloat16" if _has_bfloat16(device) else "float32"
    together = f", {processes.launched()} processes" if processes.launched() > 1 else ""
    return f"{device_name(device)}, {torch.backends.cpu.get_cpu_capability()}, {precision}, torch {torch.__version__}{together}"


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def peak_memory(device: torch.device) -> int:
    """The most memory taken so far, in bytes: tensors on a GPU, else what this process held in main memory.

    Linux's getrusage(2) would count what the parent held before it started this process, so VmHWM (proc(5)) is asked first.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists() and (line := re.search(rb"VmHWM:\s+(\d+) kB", status.read_bytes())):
        return int(line[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
