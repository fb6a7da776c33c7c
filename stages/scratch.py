"""What a run leaves for the one after it: `.scratch/`, which git ignores and DVC does not know.

.scratch/locks/<run>          held while a run writes; says who holds it
.scratch/<run>/<key>/         states from which an interrupted training goes on, and what it has made so far

A run is a stage, or a stage and a ratio. The key is a hash of all that decides what comes out, so that a state is never applied
to something else.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from stages.files import UserError, checksum, write_text

SCRATCH = Path(".scratch")
_DONE = "done"


def run_directory(run: str, parameters: dict[str, object], inputs: list[str], machine: str) -> Path:
    """Where a run keeps what the next one needs if it is interrupted; it is no longer marked as finished.

    Args:
        run: its name.
        parameters: all that its stage declares.
        inputs: files and directories that its stage declares, code and data; of an image set its checksums are read, all else whole.
        machine: what the machine adds to the outcome.
    """
    digest = hashlib.sha256(json.dumps([parameters, machine], sort_keys=True).encode())
    for path in map(Path, sorted(inputs)):
        described = path / "dataset.json"
        files = [described] if described.exists() else sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                digest.update(f"{file}\0{file.stat().st_size}\0".encode())
                digest.update(file.read_bytes())
    directory = SCRATCH / run / digest.hexdigest()[:16]
    (directory / _DONE).unlink(missing_ok=True)
    return directory


def finish(directory: Path, *, pipeline: bool) -> None:
    """A run has succeeded, and what it kept is to go: at once, or where DVC runs the stages, when DVC has recorded what came out.

    DVC does that after the run has ended. Were it killed in between, it would run the stage again, which then finds all done; but
    not if the same came out as is recorded already.
    """
    entry = _recorded(directory.parent.name)
    if pipeline and not _holds(entry):
        write_text(directory / _DONE, entry)
    else:
        shutil.rmtree(directory, ignore_errors=True)


def remove_recorded() -> None:
    """Remove what finished runs have kept, where DVC has recorded their stage since."""
    for mark in SCRATCH.glob(f"*/*/{_DONE}"):
        run = mark.parent.parent.name
        with suppress(UserError, FileNotFoundError):
            if mark.read_text(encoding="utf-8") != _recorded(run):
                with one_writer(run, patience=0):
                    shutil.rmtree(mark.parent, ignore_errors=True)


def _recorded(run: str, lock: Path = Path("dvc.lock")) -> str:
    """What DVC's lock file says of a run now, as it stands there."""
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    found = re.search(rf"^  {re.escape(run)}:\n(?:   .*\n)*", text, re.MULTILINE)
    return found.group() if found else ""


def _holds(entry: str) -> bool:
    """Whether every file among the outputs that an entry of DVC's lock file lists is as it says."""
    outputs = entry.partition("    outs:\n")[2]
    files = re.findall(r"    - path: (.+)\n(?:      .*\n)*?      md5: ([0-9a-f]{32})\n", outputs)
    return bool(files) and all(Path(path).exists() and checksum(path, "md5") == md5 for path, md5 in files)


@contextmanager
def one_writer(run: str, patience: float = 10.0) -> Iterator[None]:
    """Hold the lock of a run for the length of the block; a process that dies loses it, however it dies.

    Args:
        run: its name.
        patience: seconds to wait for another process that holds it; an orphan stops within that time.

    Raises:
        UserError: another process holds it still; names it.
    """
    path = SCRATCH / "locks" / run
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _locked(file.fileno()):
            file.seek(0)
            holder = file.read().strip() or "another process"
            if patience:
                print(f"{run}: waiting for {holder}", file=sys.stderr, flush=True)
            give_up = time.monotonic() + patience
            while not _locked(file.fileno()):
                if time.monotonic() >= give_up:
                    raise UserError(
                        f"{holder} is at work on it in this directory: wait for it or stop it, then run again"
                    )
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} (since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z})")
        file.flush()
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{SCRATCH} is on a file system without locks ({error.strerror}): move the project to another"
        ) from error
    return True


def stop_with(process: int) -> None:
    """From now on, end this process within seconds of the end of another one, which would start a second writer beside it."""

    child = os.getppid() == process

    def watch() -> None:
        while _alive(process) and not (child and os.getppid() != process):
            time.sleep(1)
        print(f"DVC, process {process}, is gone: stopping; run again to go on", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
