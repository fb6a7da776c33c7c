"""Run a module as `python -m` does, and record every optimizer step: LAUNCH="python tests/recorded_steps.py" with STEPS=<file>.

Each record is the process and the time; records are only ever added.
"""

import os
import runpy
import struct
import sys
import time
from pathlib import Path

import torch

RECORD = struct.Struct("<id")


def read_steps(content: bytes) -> list[tuple[int, float]]:
    """(process, time) of every step recorded."""
    return list(RECORD.iter_unpack(content))


def main() -> None:
    _, flag, module, *arguments = sys.argv
    assert flag == "-m"
    file = os.open(os.environ["STEPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    take = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *more: object) -> object:
        os.write(file, RECORD.pack(os.getpid(), time.time()))
        return take(self, *more)

    torch.optim.AdamW.step = step
    sys.argv = [module, *arguments]
    sys.path[0] = str(Path.cwd())
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
