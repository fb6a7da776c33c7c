"""The device that models run on: which one, in what precision, and how much memory was used."""

import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from stages.models import distributed
from stages.pipeline.errors import UserError
from stages.pipeline.processes import is_main_process

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_DRIVER, _PCI = Path("/proc/driver/nvidia/version"), Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # Vendor, and the first byte of the class, of PCI devices.


def pick_device() -> torch.device:
    """Return the GPU if there is one, otherwise the CPU.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES asks for a GPU that PyTorch cannot use.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    requested = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if requested not in ("", "-1"):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES asks for GPU {requested}, but PyTorch finds none: "
            "unset it, or set it to -1 for the CPU"
        )
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        _report_unused_gpu()
    return torch.device("cpu")


@cache
def _report_unused_gpu() -> None:
    """Say once if there is an NVIDIA GPU although PyTorch finds none."""
    if not (is_main_process() and _has_nvidia_gpu()):
        return
    if torch.version.cuda is None:
        cause = "this PyTorch has no CUDA"
    else:
        cause = "its driver may be too old (docs/performance.md#drivers), or a container or a job was not given the GPU"
    print(
        f"WARNING: there is an NVIDIA GPU, but PyTorch finds none and uses the CPU: {cause}. "
        "CUDA_VISIBLE_DEVICES=-1 asks for the CPU",
        file=sys.stderr,
    )


def _has_nvidia_gpu() -> bool:
    """Return whether Linux has NVIDIA's driver or a display controller of its make."""
    try:
        vendors_and_classes = [
            [(device / name).read_text().strip() for name in ("vendor", "class")] for device in _PCI.glob("*")
        ]
    except OSError:
        return _DRIVER.exists()
    cards = [kind for vendor, kind in vendors_and_classes if vendor == _NVIDIA and kind.startswith(_DISPLAY)]
    return _DRIVER.exists() or bool(cards)


def autocast(device: torch.device) -> torch.autocast:
    """Return a context that runs a model's matrix products in bfloat16 if the hardware has it, in float32 otherwise."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies matrices of bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def half_of_threads() -> Iterator[None]:
    """Run models on half of the threads within the block, so that they do not wait for cores that decode images."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Make the C library keep what one step frees for the next one, if it is glibc (mallopt(3)).

    Otherwise it returns large blocks to the system, and every step waits for thousands of empty pages to be mapped
    again. This holds for the rest of the process.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_MMAP_MAX, 0)


def device_name(device: torch.device) -> str:
    """Return the name that the device reports; for a CPU also the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def machine_fingerprint() -> str:
    """Return what rounding depends on besides parameters, data and code, for what one process computes.

    It names device, instruction set, precision and version of PyTorch.
    """
    device = pick_device()
    precision = "bfloat16" if has_bfloat16(device) else "float32"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{device_name(device)}, {capability}, {precision}, torch {torch.__version__}"


def group_fingerprint() -> str:
    """Return the same for what all processes compute together, with their number."""
    return machine_fingerprint() + distributed.launched_together()


def peak_memory(device: torch.device) -> int:
    """Return the most memory in use so far in bytes: of tensors on a GPU, otherwise of this process in main memory.

    Linux's getrusage(2) includes what the parent held before it started this process, so VmHWM (proc(5)) is read first.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists() and (line := re.search(rb"VmHWM:\s+(\d+) kB", status.read_bytes())):
        return int(line[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
