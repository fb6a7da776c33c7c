"""The states of a training on disk, from which it goes on after an interruption."""

import hashlib
import io
import sys
import time
from pathlib import Path

import torch

from stages.files import write_bytes

_KEPT = 2
_SHARE = 0.05
_LONGEST = 300.0


class States:
    """The last two states of a training, `<step>-<SHA-256>.pt` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._written = time.monotonic()
        self._cost = 0.0

    def due(self, complete: bool) -> bool:
        """Whether to save now: at every complete stretch of steps, as long as that takes at most a twentieth of the time, and after
        five minutes anyway.

        Args:
            complete: whether a stretch of steps has just been completed.
        """
        waited = time.monotonic() - self._written
        return waited > _LONGEST or (complete and waited * _SHARE >= self._cost)

    def save(self, step: int, state: dict, *, last: bool = False) -> None:
        """Write the state after `step` steps, whole or not at all; of the earlier ones the newest stays.

        Args:
            step: steps that were taken.
            last: no step is to follow, so that no other state is needed.
            state: tensors, numbers, texts, and lists and dictionaries of them.
        """
        began = time.monotonic()
        content = io.BytesIO()
        torch.save(state, content)
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        for left in self.directory.glob(".*.part"):
            left.unlink()
        write_bytes(self.directory / f"{step:09d}-{digest}.pt", content.getbuffer())
        for path in self._found()[1 if last else _KEPT :]:
            path.unlink()
        self._written = time.monotonic()
        self._cost = self._written - began

    def load(self) -> dict | None:
        """The newest state that is whole, on the CPU, or None; one that is not is set aside, with a warning."""
        for path in self._found():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == path.stem.partition("-")[2]:
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            damaged = path.rename(path.with_suffix(".damaged"))
            print(f"{path} is damaged: set aside as {damaged.name}, the state before it is used", file=sys.stderr)
        return None

    def _found(self) -> list[Path]:
        return sorted(self.directory.glob("*-*.pt"), reverse=True)
