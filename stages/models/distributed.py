"""Several processes, launched by torchrun, that train one model together or share out work (torch.distributed).

In `process_group` they train together, each on its shard of every batch. All processes start from the same weights and
draw the same random numbers. Each computes the loss on its shard, with the statistics of the whole batch, and gradients
are averaged over the processes. The gradient is thus that of the mean of the processes' losses. What `gather` and
`average` pass back is correct for that mean, whether a loss is of the whole batch, as that of Barlow Twins, or of the
shard. Only one process writes files.

In `share_out` each process takes units of work that the others have not taken, and trains alone.

If torchrun has not launched several processes, the world size is 1 and nothing here changes anything.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm

from stages.pipeline.errors import ProcessDiedError, UserError
from stages.pipeline.processes import is_main_process, launched_processes

Found = TypeVar("Found")
Unit = TypeVar("Unit")
Answer = TypeVar("Answer")
Module = TypeVar("Module", bound=nn.Module)

_SECONDS_BETWEEN_LOOKS = 0.2


def launched_together() -> str:
    """Return the number of processes as a part of a description, empty if torchrun has not launched several."""
    processes = launched_processes()
    return f", {processes} processes" if processes > 1 else ""


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun launched for the duration of the block; each process uses one GPU.

    Raises:
        UserError: This machine has fewer GPUs than processes.
    """
    if launched_processes() == 1:
        yield
        return

    _use_own_gpu()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def share_out(work: str, units: Iterable[Unit]) -> Iterator[Unit]:
    """Yield the units of work that no other process has taken; each process uses one GPU.

    It begins when the main process asks for a unit, and ends when all processes have finished what they took. Without
    torchrun it yields all units.

    Args:
        work: Name of the work, another one for each call.
        units: The units, the same in all processes, each with a text of its own.

    Raises:
        UserError: This machine has fewer GPUs than processes.
        ProcessDiedError: The process that keeps account, torchrun's, has died.
    """
    if launched_processes() == 1:
        yield from units
        return

    _use_own_gpu()
    store, _, processes = _communicate(lambda: next(rendezvous("env://")))

    def count(what: str, amount: int) -> int:
        name = f"{work}, launch {os.environ['TORCHELASTIC_RESTART_COUNT']}: {what}"
        counted: int = _communicate(partial(store.add, name, amount))
        return counted

    def wait_for(what: str, wanted: int) -> None:
        while count(what, 0) < wanted:
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    if is_main_process():
        count("begun", 1)
    wait_for("begun", 1)
    for unit in units:
        if count(f"{unit} taken", 1) == 1:
            yield unit
    count("finished", 1)
    wait_for("finished", processes)


def _use_own_gpu() -> None:
    """Use the GPU of this process's number on this machine, if there are GPUs.

    Raises:
        UserError: This machine has fewer GPUs than processes.
    """
    if torch.cuda.is_available():
        local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= gpus:
            raise UserError(
                f"torchrun launched {os.environ['LOCAL_WORLD_SIZE']} processes here, but there are {gpus} GPUs: "
                f"set --nproc-per-node to at most {gpus}"
            )
        torch.cuda.set_device(local_rank)


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_writer() -> bool:
    """Return whether this process writes the files of a training: the first of those that train together."""
    return not dist.is_initialized() or dist.get_rank() == 0


def local_shard(batch: Tensor) -> Tensor:
    """Return this process's shard of a batch: (N, ...) to (N / world size, ...)."""
    return batch.chunk(world_size())[dist.get_rank()] if world_size() > 1 else batch


def require_even(batch_size: int, key: str) -> None:
    """Refuse a batch that cannot be split evenly between the processes.

    Raises:
        UserError: The batch size is not a multiple of the world size; the message names the parameter `key` and sizes
            that are.
    """
    if batch_size % world_size():
        below = batch_size - batch_size % world_size()
        fitting = " or ".join(str(size) for size in (below, below + world_size()) if size)
        raise UserError(
            f"{key} is {batch_size}, which {world_size()} processes cannot share evenly: set it to {fitting}"
        )


def gather(shard: Tensor) -> Tensor:
    """Return the whole batch from the shards, (N / world size, ...) to (N, ...); gradients flow through it."""
    if world_size() == 1:
        return shard
    whole: Tensor = _Gather.apply(shard)
    return whole


def average(tensor: Tensor) -> Tensor:
    """Return the mean of the processes' tensors; gradients flow through it."""
    if world_size() == 1:
        return tensor
    mean: Tensor = _Average.apply(tensor)
    return mean


def average_gradients(weights: list[nn.Parameter]) -> None:
    """Replace the gradients by their mean over the processes, where there are any."""
    if world_size() == 1:
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    whole = torch.cat([gradient.reshape(-1) for gradient in gradients])
    _all_reduce(whole)
    parts = (whole / world_size()).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def broadcast(found: Found) -> Found:
    """Return the main process's object in all processes."""
    if world_size() == 1:
        return found
    shared = [found]
    _communicate(partial(dist.broadcast_object_list, shared, src=0))
    return shared[0]


def sync_batch_norm(module: Module) -> Module:
    """Make batch normalisation use the statistics of the whole batch; weights keep their names."""
    if world_size() == 1:
        return module
    if next(module.parameters()).is_cuda:
        converted: Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.__class__ = _SyncBatchNormOnCpu
    return module


class _SyncBatchNormOnCpu(_BatchNorm):
    """Batch normalisation by the statistics of the whole batch on a CPU, where torch's SyncBatchNorm does not run."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)

        # Mean and variance of the whole batch, in at least float32.
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        values = input if input.dtype == torch.float64 else input.float()
        mean = average(values.mean(axes))
        centred = values - mean.view(shape)
        variance = average(centred.square().mean(axes))

        # Running statistics, as torch keeps them: with the unbiased variance.
        size = input.numel() // input.shape[1] * world_size()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * size / (size - 1), self.momentum)
            self.num_batches_tracked.add_(1)

        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any input with channels."""


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: FunctionCtx, shard: Tensor) -> Tensor:
        parts = [torch.empty_like(shard, memory_format=torch.contiguous_format) for _ in range(world_size())]
        _communicate(partial(dist.all_gather, parts, shard.contiguous()))
        return torch.cat(parts)

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> Tensor:
        whole = gradient.clone(memory_format=torch.contiguous_format)
        _all_reduce(whole)
        return local_shard(whole)


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(context: FunctionCtx, tensor: Tensor) -> Tensor:
        whole = tensor.clone()
        _all_reduce(whole)
        return whole / world_size()

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> Tensor:
        return _Average.forward(context, gradient)


def _all_reduce(tensor: Tensor) -> None:
    _communicate(partial(dist.all_reduce, tensor))


def _communicate(operation: Callable[[], Answer]) -> Answer:
    """Run an operation that involves other processes, and return what it returns.

    Raises:
        ProcessDiedError: Another process has died.
    """
    try:
        return operation()
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[0]
        raise ProcessDiedError(
            f"one of the {launched_processes()} processes has died ({cause}): see its last message above; "
            "run again to resume"
        ) from error
