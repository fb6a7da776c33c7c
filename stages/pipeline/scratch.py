"""What an interrupted run leaves for the next one: `.scratch/`, which git ignores and DVC does not know.

.scratch/locks/<run>                held while a run writes; names the process that holds it
.scratch/locks/<run>.error          the last launch of several processes in which one has reported an error
.scratch/<run>/<key>/<section>/     checkpoints of the training run by that section of the parameters
.scratch/<run>/<key>/               what else the run has completed so far

A run is a stage, or a stage and a ratio. The key is a hash of parameters, code and data, followed by the machine, so
that a checkpoint is never applied to something else.
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from stages.pipeline.errors import UserError
from stages.pipeline.files import checksum, write_text
from stages.pipeline.processes import is_main_process

SCRATCH = Path(".scratch")
_DONE = "done"


def run_directory(run: str, parameters: Mapping[str, object], inputs: list[str], machine: str) -> Path:
    """Return the directory in which a run keeps its checkpoints, and remove its mark of completion.

    Say if there are checkpoints of the same run from another machine, or another number of threads or processes.

    Args:
        run: Name of the run.
        parameters: All parameters that its stage declares, by dotted name.
        inputs: Files and directories that its stage declares, code and data. Of an image set, and of an array in it,
            only the checksums are read.
        machine: What the machine adds to the result; see `machine_fingerprint` and `group_fingerprint`.
    """
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for path in map(Path, sorted(inputs)):
        description = path / "dataset.json"
        files = [description] if description.exists() else sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file}\0{file.stat().st_size}\0".encode())
                digest.update(_content(file))
    key = digest.hexdigest()[:16]
    directory = SCRATCH / run / f"{key}-{re.sub('[^A-Za-z0-9.+]+', '-', machine)}"
    (directory / _DONE).unlink(missing_ok=True)

    for other in sorted((SCRATCH / run).glob(f"{key}-*")) if is_main_process() else []:
        if other != directory and any(other.rglob("*.pt")):
            print(f"{run}: {other} is not used, since results would differ in rounding", file=sys.stderr, flush=True)
    return directory


def _content(file: Path) -> bytes:
    """Return the content of a file, or the checksum of an array in an image set."""
    description = file.with_name("dataset.json")
    if file.suffix == ".npy" and description.exists():
        checksum_of = json.loads(description.read_text(encoding="utf-8"))["files"][file.name]["sha256"]
        return str(checksum_of).encode()
    return file.read_bytes()


def finish(directory: Path, *, pipeline: bool) -> None:
    """Remove what a successful run has kept: at once, or, if DVC runs the stage, once DVC has recorded its outputs.

    DVC records them after the run has ended. If it is killed in between, it runs the stage again, which then finds all
    steps completed. If the outputs are recorded already, the lock file will not change, so what was kept goes at once.
    """
    entry = _lock_entry(directory.parent.name)
    if pipeline and not _matches_disk(entry):
        write_text(directory / _DONE, entry)
    else:
        shutil.rmtree(directory, ignore_errors=True)


def remove_recorded() -> None:
    """Remove what completed runs have kept if DVC has recorded their stage since."""
    for mark in SCRATCH.glob(f"*/*/{_DONE}"):
        run = mark.parent.parent.name
        with suppress(UserError, FileNotFoundError):
            if mark.read_text(encoding="utf-8") != _lock_entry(run):
                with file_lock(run, patience=0):
                    shutil.rmtree(mark.parent, ignore_errors=True)


def _lock_entry(run: str, lock: Path = Path("dvc.lock")) -> str:
    """Return the text of a run's entry in DVC's lock file."""
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    found = re.search(rf"^  {re.escape(run)}:\n(?:   .*\n)*", text, re.MULTILINE)
    return found.group() if found else ""


def _matches_disk(entry: str) -> bool:
    """Return whether every output file that an entry of DVC's lock file lists is on disk with its checksum."""
    outputs = entry.partition("    outs:\n")[2]
    files = re.findall(r"    - path: (.+)\n(?:      .*\n)*?      md5: ([0-9a-f]{32})\n", outputs)
    return bool(files) and all(Path(path).exists() and checksum(path, "md5") == md5 for path, md5 in files)


@contextmanager
def file_lock(run: str, patience: float = 10.0) -> Iterator[None]:
    """Hold the lock of a run for the duration of the block; a process that dies releases it, however it dies.

    Args:
        run: Name of the run.
        patience: Seconds to wait for another process that holds the lock; an orphan exits within that time.

    Raises:
        UserError: Another process still holds the lock; the message names it.
    """
    path = SCRATCH / "locks" / run
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _acquired(file.fileno()):
            file.seek(0)
            holder = file.read().strip() or "another process"
            if patience:
                print(f"{run}: waiting for {holder}", file=sys.stderr, flush=True)
            deadline = time.monotonic() + patience
            while not _acquired(file.fileno()):
                if time.monotonic() >= deadline:
                    raise UserError(
                        f"{holder} is already running in this directory: wait for it or stop it, then run again"
                    )
                time.sleep(0.2)

        file.truncate(0)
        file.write(f"process {os.getpid()} (since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z})")
        file.flush()
        yield


def claim_error_report(run: str, launch: str) -> bool:
    """Return whether this process is the first of its launch to report an error of the run, and write down that it was.

    Args:
        run: Name of the run.
        launch: What identifies the launch of several processes.
    """
    path = SCRATCH / "locks" / f"{run}.error"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            file.seek(0)
            if file.read() == launch:
                return False
            file.truncate(0)
            file.write(launch)
    except OSError:  # A full or locked disk may be what is to be reported.
        return True
    return True


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{SCRATCH} is on a file system without locks ({error.strerror}): move the project to another"
        ) from error
    return True


def exit_with_parent(process: int) -> None:
    """Exit within seconds of the end of another process, whose successor could start a second writer beside this."""
    child = os.getppid() == process

    def watch() -> None:
        while _is_alive(process) and not (child and os.getppid() != process):
            time.sleep(1)
        if is_main_process():
            print(f"DVC, process {process}, has ended: exiting; run again to resume", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:  # There is no /proc, or the process has just ended.
        return not Path("/proc/self/stat").exists()
