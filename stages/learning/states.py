"""The states of a training on disk, from which it goes on after an interruption."""

import hashlib
import io
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch

from stages.files import write_bytes
from stages.learning import processes

_KEPT = 2
_LONGEST = 300.0


class Stateful(Protocol):
    """What can be written down and taken up again; modules and optimizers are."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> object: ...


class States:
    """The last two states of a training, `<step>-<SHA-256>.pt` in a directory of its own.

    They are written by a thread of its own while training goes on. To be used in a `with`, at whose end nothing is being written.
    """

    def __init__(self, directory: Path, parts: Sequence[Stateful], generator: torch.Generator) -> None:
        """Nothing is read or written yet.

        Args:
            directory: of the files.
            parts: all that a step changes, always in the same order.
            generator: of all random numbers that a step draws.
        """
        self._directory, self._parts, self._generator = directory, parts, generator
        self._written = time.monotonic()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="states")
        self._writing: Future[None] | None = None

    def __enter__(self) -> "States":
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        self._writer.shutdown()
        lost = self._writing.exception() if self._writing else None
        if lost is not None and lost is not error:
            print(f"{self._directory}: the last state could not be written: {lost}", file=sys.stderr, flush=True)

    @property
    def writing(self) -> bool:
        """Whether a state is being written just now."""
        return self._writing is not None and not self._writing.done()

    def due(self, complete: bool) -> bool:
        """Whether to save now: where a stretch of steps has just been completed, and after five minutes anyway."""
        return complete or time.monotonic() - self._written > _LONGEST

    def save(self, step: int, numbers: dict[str, object], *, last: bool = False) -> None:
        """Write the state after `step` steps, whole or not at all; of the earlier ones the newest stays.

        It is copied before this returns, and written after; what keeps it from being written is raised by the next call.

        Args:
            step: steps that were taken.
            numbers: what else is to be remembered: tensors, numbers, texts, and lists and dictionaries of them.
            last: no step is to follow, so that no other state is needed, and this one is written when this returns.
        """
        self._wait()
        parts = [part.state_dict() for part in self._parts]
        content = _packed({"numbers": numbers, "parts": parts, "generator": self._generator.get_state()})
        self._writing = self._writer.submit(self._write, f"{step:09d}", content, 1 if last else _KEPT)
        if last:
            self._wait()
        self._written = time.monotonic()

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, name: str, content: memoryview, kept: int) -> None:
        _write(self._directory, name, content)
        for path in self._found()[kept:]:
            path.unlink()

    def load(self) -> dict[str, object] | None:
        """Bring the parts into the newest state that is whole, and return its numbers; None, and nothing changed, if there is none.

        What a killed process was writing is removed. Where several processes train together, all take what the first finds.
        """
        state = None
        if processes.is_first():
            for left in self._directory.glob(".*.part"):
                left.unlink()
            state = next(filter(None, map(read_state, self._found())), None)
        state = processes.from_first(state)
        if state is None:
            return None
        for part, remembered in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(remembered)
        self._generator.set_state(state["generator"])
        return state["numbers"]

    def _found(self) -> list[Path]:
        return sorted(self._directory.glob("*-*.pt"), reverse=True)


def write_state(directory: Path, name: str, state: dict[str, object]) -> None:
    """Write tensors, numbers, texts, and lists and dictionaries of them, as `<name>-<SHA-256>.pt`, whole or not at all."""
    _write(directory, name, _packed(state))


def _packed(state: dict[str, object]) -> memoryview:
    content = io.BytesIO()
    torch.save(state, content)
    return content.getbuffer()


def _write(directory: Path, name: str, content: memoryview) -> None:
    write_bytes(directory / f"{name}-{hashlib.sha256(content).hexdigest()}.pt", content)


def read_state(path: Path) -> dict[str, object] | None:
    """Read what `write_state` wrote, onto the CPU; what is damaged is set aside with a warning, and None returned."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() == path.stem.partition("-")[2]:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    damaged = path.rename(path.with_suffix(".damaged"))
    print(f"{path} is damaged: set aside as {damaged.name}, what came before is used", file=sys.stderr)
    return None
