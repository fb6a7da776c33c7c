"""Training checkpoints on disk, from which an interrupted run resumes."""

import hashlib
import io
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import torch

from stages.models import distributed
from stages.pipeline.files import write_bytes

_KEPT = 2
_SECONDS_BETWEEN_CHECKPOINTS = 300.0

State = TypeVar("State")


class Stateful(Protocol):
    """What can be saved and restored, as modules and optimizers can."""

    def state_dict(self) -> Any:
        """Return the state: tensors, numbers, texts, and lists and dictionaries of them."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Restore what `state_dict` returned."""


class Checkpointer:
    """Keeps the last two checkpoints of a training run as `<step>-<SHA-256>.pt` in a directory of its own.

    A thread writes them while training continues. Use it in a `with` block, at whose end nothing is being written.
    """

    def __init__(self, directory: Path, **parts: Stateful) -> None:
        """Create the checkpointer; nothing is read or written yet.

        Args:
            directory: Directory of the files.
            parts: Everything that a step changes, by name.
        """
        self._directory, self._parts = directory, parts
        self._last = time.monotonic()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpointer")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.shutdown()
        lost = self._pending.exception() if self._pending else None
        if lost is not None and lost is not error:
            print(f"{self._directory}: the last checkpoint could not be written: {lost}", file=sys.stderr, flush=True)

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint is being written right now."""
        return self._pending is not None and not self._pending.done()

    def due(self) -> bool:
        """Return whether the last checkpoint was five minutes ago."""
        return time.monotonic() - self._last > _SECONDS_BETWEEN_CHECKPOINTS

    def save(self, step: int, *, last: bool = False) -> None:
        """Write a checkpoint atomically; of the earlier ones the newest is kept.

        The state is copied before this returns and written afterwards. If writing fails, the next call raises the
        error.

        Args:
            step: Number of steps completed.
            last: Whether no step will follow, so that no other checkpoint is needed and this one is written when this
                returns.
        """
        self._wait()
        state = {"step": step} | {name: part.state_dict() for name, part in self._parts.items()}
        self._pending = self._writer.submit(self._write, f"{step:09d}", _serialized(state), 1 if last else _KEPT)
        if last:
            self._wait()
        self._last = time.monotonic()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def _write(self, name: str, content: memoryview, kept: int) -> None:
        _write_content(self._directory, name, content)
        for path in self._found()[kept:]:
            path.unlink()

    def load(self) -> int | None:
        """Restore the newest intact checkpoint and return its number of steps; return None if there is none.

        What a killed process was writing is removed. If several processes train together, all restore what the main
        one finds.
        """
        state = None
        if distributed.is_writer():
            for unfinished in self._directory.glob(".*.part"):
                unfinished.unlink()
            state = next(filter(None, map(_intact, self._found())), None)
        state = distributed.broadcast(state)
        if state is None:
            return None
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])

    def _found(self) -> list[Path]:
        return sorted(self._directory.glob("*-*.pt"), reverse=True)


def save_state(directory: Path, name: str, state: Mapping[str, object]) -> None:
    """Write tensors, numbers, texts, and lists and dictionaries of them as `<name>-<SHA-256>.pt` atomically."""
    _write_content(directory, name, _serialized(state))


def load_state(directory: Path, name: str, form: type[State]) -> State | None:
    """Load what `save_state` wrote, to the CPU.

    Args:
        directory: Directory of the file.
        name: Name of the state.
        form: Type of what was saved.

    Returns:
        The state, or None if there is none; a damaged file is set aside with a warning.
    """
    for path in sorted(directory.glob(f"{name}-*.pt")):
        content: Any = _intact(path)
        if content is not None:
            state: State = content
            return state
    return None


def _intact(path: Path) -> dict[str, Any] | None:
    """Load a file whose content still has the checksum in its name; set a damaged one aside and return None."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() == path.stem.partition("-")[2]:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return state
    damaged = path.rename(path.with_suffix(".damaged"))
    print(f"{path} is damaged: set aside as {damaged.name}", file=sys.stderr)
    return None


def _serialized(state: Mapping[str, object]) -> memoryview:
    content = io.BytesIO()
    torch.save(state, content)
    return content.getbuffer()


def _write_content(directory: Path, name: str, content: memoryview) -> None:
    write_bytes(directory / f"{name}-{hashlib.sha256(content).hexdigest()}.pt", content)
