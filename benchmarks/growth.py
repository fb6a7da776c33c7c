"""One epoch of pretraining on a number of images on disk: time and memory, in a process of its own."""

import json
import re
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.contenders import Setting, ours
from stages.learning.batches import pick_device

GROWTH_OF_IMAGES = (5_000, 20_000, 100_000)
SETTING = Setting(view_size=32)
_BLOCK = 1000


class Memory(threading.Thread):
    """Watches how much memory this process takes, that of mapped files apart (Linux: RssAnon, every 20 ms)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            used = re.search(rb"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_bytes())
            self.peak = max(self.peak, int(used[1]) * 1024)
            time.sleep(0.02)


def main(count: int) -> None:
    memory = Memory()
    memory.start()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "images.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, 96, 96, 3))
        block = np.random.default_rng(0).integers(0, 256, (_BLOCK, 96, 96, 3), np.uint8)
        for start in range(0, count, _BLOCK):
            array[start : start + _BLOCK] = np.roll(block, start // _BLOCK, axis=1)
        array.flush()
        del array
        images = np.load(path, mmap_mode="r")
        memory.peak = 0
        setting = replace(SETTING, steps=count // SETTING.batch_size)
        rate = ours(setting, images, pick_device(), Path(place) / "scratch")
    used = round(memory.peak / 2**30, 3)
    print(json.dumps({"images": count, "milliseconds_per_image": round(1000 / rate, 3), "gib_beside_mapped": used}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
