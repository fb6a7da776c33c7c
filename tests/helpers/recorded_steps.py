"""Run a module as `python -m` does, and record every step of the optimizer.

STEPS=<file> python tests/helpers/recorded_steps.py -m <module>

Each record is the process and the time; records are only ever added. With PAUSE_AFTER=<steps> in the environment, the
process stands still after so many steps, until it is killed.
"""

import os
import runpy
import struct
import sys
import time
from pathlib import Path

import torch

_RECORD = struct.Struct("<id")
_FOREVER = 3600


def read_steps(content: bytes) -> list[tuple[int, float]]:
    """Return (process, time) of every recorded step."""
    return list(_RECORD.iter_unpack(content))


def main() -> None:
    """Replace the step of AdamW by one that records itself, and run the module."""
    _, flag, module, *arguments = sys.argv
    assert flag == "-m"
    file = os.open(os.environ["STEPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    left = int(os.environ.get("PAUSE_AFTER", -1))
    take_step = torch.optim.AdamW.step

    def step(optimizer: torch.optim.AdamW, *more: object) -> object:
        nonlocal left
        if left == 0:
            time.sleep(_FOREVER)
        left -= 1
        os.write(file, _RECORD.pack(os.getpid(), time.time()))
        return take_step(optimizer, *more)

    torch.optim.AdamW.step = step
    sys.argv = [module, *arguments]
    sys.path[0] = str(Path.cwd())
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
