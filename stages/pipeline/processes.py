"""Which of the processes that torchrun launched this one is.

Only torchrun's are asked for: RANK and WORLD_SIZE may be left over in an environment, from a job of a cluster or from a
notebook, and then there is one process.
"""

import os


def launched_processes() -> int:
    """Return how many processes torchrun launched on all machines, 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if _is_launched() else 1


def is_main_process() -> bool:
    """Return whether this is the process that holds the lock of a run, writes its results and reports."""
    return not _is_launched() or os.environ["RANK"] == "0"


def _is_launched() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ
