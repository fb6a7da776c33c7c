"""Several processes that train one model together, each on its share of every batch (torch.distributed).

All start from the same weights and draw the same random numbers. Each computes the loss on its share, with the statistics of the
whole batch, and the gradients of the weights are averaged over the processes. So the gradient is that of the mean of the
processes' losses; what `gather` and `average` pass back is right for that mean, whether a loss belongs to the whole batch, as
that of Barlow Twins, or to the share. Only the first process writes.

Where torchrun has not launched several processes there is one, and nothing here changes anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.files import UserError


def launched() -> int:
    """How many processes torchrun launched, on all machines."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def joined() -> Iterator[None]:
    """For the length of the block, be one of the processes that torchrun launched; each GPU belongs to one of them.

    Raises:
        UserError: there are fewer GPUs on this machine than processes.
    """
    if launched() == 1:
        yield
        return
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(
                f"torchrun launched {os.environ['LOCAL_WORLD_SIZE']} processes here, but there are {gpus} GPUs: "
                f"set --nproc-per-node to at most {gpus}"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(batch: Tensor) -> Tensor:
    """This process's part of a batch; see `require_even`."""
    return batch.chunk(count())[dist.get_rank()] if count() > 1 else batch


def require_even(batch_size: int, key: str) -> None:
    """Refuse a batch that the processes cannot share evenly.

    Raises:
        UserError: naming the parameter and the sizes nearby that would do.
    """
    if batch_size % count():
        below = batch_size - batch_size % count()
        fitting = " or ".join(str(size) for size in (below, below + count()) if size)
        raise UserError(f"{key} is {batch_size}, which {count()} processes cannot share evenly: set it to {fitting}")


def gather(shares: Tensor) -> Tensor:
    """The whole batch, (N, ...), from the processes' shares of it, (N / processes, ...); carries gradients."""
    return _Gather.apply(shares) if count() > 1 else shares


def average(tensor: Tensor) -> Tensor:
    """The mean of the processes' tensors; carries gradients."""
    return _Average.apply(tensor) if count() > 1 else tensor


def average_gradients(weights: list[nn.Parameter]) -> None:
    """Give every process the mean of the gradients, where there is one."""
    if count() == 1:
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    whole = torch.cat([gradient.reshape(-1) for gradient in gradients])
    _sum_over_processes(whole)
    parts = (whole / count()).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def from_first(found: object) -> object:
    """What the first process found, in all of them."""
    if count() == 1:
        return found
    shared = [found]
    _communicate(partial(dist.broadcast_object_list, shared, src=0))
    return shared[0]


def with_whole_batch_statistics(module: nn.Module) -> nn.Module:
    """The module with batch normalisation by the statistics of the whole batch; weights keep their names, and may be shared with it."""
    if count() == 1:
        return module
    if next(module.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.__class__ = _WholeBatchNorm
    return module


class _WholeBatchNorm(_BatchNorm):
    """Batch normalisation by the statistics of the whole batch on a CPU, where torch's SyncBatchNorm does not run."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        values = input if input.dtype == torch.float64 else input.float()
        mean = average(values.mean(axes))
        centred = values - mean.view(shape)
        variance = average(centred.square().mean(axes))
        size = input.numel() // input.shape[1] * count()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * size / (size - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any that has channels."""


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: object, shares: Tensor) -> Tensor:
        parts = [torch.empty_like(shares, memory_format=torch.contiguous_format) for _ in range(count())]
        _communicate(partial(dist.all_gather, parts, shares.contiguous()))
        return torch.cat(parts)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        whole = gradient.clone(memory_format=torch.contiguous_format)
        _sum_over_processes(whole)
        return share(whole)


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(context: object, tensor: Tensor) -> Tensor:
        whole = tensor.clone()
        _sum_over_processes(whole)
        return whole / count()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return _Average.forward(context, gradient)


def _sum_over_processes(tensor: Tensor) -> None:
    _communicate(partial(dist.all_reduce, tensor))


def _communicate(operation: partial) -> None:
    """Run a collective operation.

    Raises:
        UserError: another process is gone.
    """
    try:
        operation()
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(
            f"one of the {count()} processes is gone ({cause}): what it said last is above; run again, it goes on from the last epoch"
        ) from error
