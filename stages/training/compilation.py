"""Fusing operations by torch.compile, and explaining what it refuses."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from stages.models import distributed


def can_compile(device: torch.device, key: str) -> bool:
    """Return whether torch.compile works here; if not, a line on standard error says why.

    Args:
        device: Device to compile for.
        key: Parameter that asks for it, for the line.
    """
    if distributed.world_size() > 1:
        reason = "several processes share each batch"
    else:
        try:
            compiled(lambda values: values.sin().sum())(torch.ones(64, device=device, requires_grad=True)).backward()
            return True
        except Exception as error:  # Compilers, and what they depend on, fail in many ways.
            reason = one_line(error)
    if distributed.is_writer():
        print(f"{key}: not compiled, since {reason}", file=sys.stderr, flush=True)
    return False


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the function with its operations fused by torch.compile (Ansel et al. 2024), which changes its rounding.

    Kernels are compiled when the function is first called. Each shape has kernels of its own, and none is chosen by
    timing, so that a resumed run uses those that it started with.
    """
    options: dict[str, str | int | bool | Callable[..., object]] = {
        "deterministic": True,
        "cpp.threads": torch.get_num_threads(),
    }
    return torch.compile(function, dynamic=False, options=options)


def is_compiler_error(error: Exception) -> bool:
    """Return whether torch.compile raised the error."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def one_line(error: Exception) -> str:
    """Return the message of an error in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
