"""How the cost of an image grows with view, batch, encoder, projector and number of images.

python -m benchmarks.scaling <images> measures one epoch on that number of images, in a process of its own.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders import Setting, pipeline
from stages.models.device import pick_device

IMAGE_SIZE = 96
_VALUES: dict[str, list[Setting]] = {
    "view_size": [Setting(view_size=size) for size in (32, 64, 96)],
    "batch_size": [Setting(batch_size=size) for size in (32, 64, 128, 256)],
    "encoder": [Setting(), Setting(encoder="resnet18")],
    "projector": [Setting(projector=(width, width)) for width in (256, 1024, 4096)],
}
_IMAGES = {"narrow": 1500, "resnet18": 300}
_DATASET_SIZES = (5_000, 20_000, 100_000)
_DATASET_SETTING = Setting(view_size=32)
_DATASET_ROUNDS = 5
_BLOCK = 1000


def scale_settings(images: NDArray[np.uint8], device: torch.device) -> list[dict[str, str | float]]:
    """Return the milliseconds that an image costs as one parameter grows and the others stay.

    Each is measured in one run after one to warm up.
    """
    rows: list[dict[str, str | float]] = []
    for parameter, settings in _VALUES.items():
        for setting in settings:
            setting = replace(setting, steps=max(3, _IMAGES[setting.encoder] // setting.batch_size))
            with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
                pipeline(setting, images, device, Path(first))
                speed = pipeline(setting, images, device, Path(second))
            value = str(getattr(setting, parameter))
            rows.append({"parameter": parameter, "value": value, "milliseconds_per_image": round(1000 / speed, 3)})
    return rows


def scale_dataset() -> list[dict[str, float | list[float]]]:
    """Return the milliseconds that an image costs, and the peak memory, as the number of images grows.

    The runs are interleaved, each in a process of its own. Memory is that of the process beside memory-mapped files.
    """
    found: dict[int, list[dict[str, float]]] = {count: [] for count in _DATASET_SIZES}
    for _ in range(_DATASET_ROUNDS):
        for count, runs in found.items():
            command = [sys.executable, "-m", "benchmarks.scaling", str(count)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            runs.append(json.loads(done.stdout))
    return [
        {
            "images": count,
            "milliseconds_per_image": statistics.median(run["milliseconds_per_image"] for run in runs),
            "each_run": [run["milliseconds_per_image"] for run in runs],
            "peak_anonymous_gib": max(run["peak_anonymous_gib"] for run in runs),
        }
        for count, runs in found.items()
    ]


class _MemoryWatch(threading.Thread):
    """Watches the memory of this process beside mapped files (RssAnon of Linux), every 20 ms.

    Attributes:
        peak: Bytes at most.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            used = re.search(rb"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_bytes())
            self.peak = max(self.peak, int(used[1]) * 1024 if used else 0)
            time.sleep(0.02)


def main(count: int) -> None:
    """Print what one epoch on `count` images of noise costs, as JSON."""
    memory = _MemoryWatch()
    memory.start()
    with tempfile.TemporaryDirectory() as place:
        # Images that differ, without drawing each pixel of them anew.
        path = Path(place) / "images.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, IMAGE_SIZE, IMAGE_SIZE, 3))
        block = np.random.default_rng(0).integers(0, 256, (_BLOCK, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for start in range(0, count, _BLOCK):
            array[start : start + _BLOCK] = np.roll(block, start // _BLOCK, axis=1)
        array.flush()
        del array

        images = np.load(path, mmap_mode="r")
        memory.peak = 0
        setting = replace(_DATASET_SETTING, steps=count // _DATASET_SETTING.batch_size)
        speed = pipeline(setting, images, pick_device(), Path(place) / "scratch")
    costs = {"milliseconds_per_image": round(1000 / speed, 3), "peak_anonymous_gib": round(memory.peak / 2**30, 3)}
    print(json.dumps({"images": count} | costs))


if __name__ == "__main__":
    main(int(sys.argv[1]))
