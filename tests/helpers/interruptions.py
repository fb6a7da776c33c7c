"""Interrupt a stage at random moments, run it again, and compare its outputs with those of an uninterrupted run.

PYTHONPATH=.:tests python tests/helpers/interruptions.py killed pretrain 30

How: `killed` (SIGKILL to DVC and the stage), `interrupted` (SIGINT to both), `orphaned` (SIGTERM to DVC alone, and its
successor at once), `experiment` (SIGKILL to both inside `dvc exp run`).
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers.recorded_steps import read_steps
from helpers.structure import ROOT
from helpers.workspace import tiny_clone

CHANGES = {
    "unlabeled.size": 400,
    "pretrain.epochs": 6,
    "pretrain.batch_size": 40,
    "supervised.steps": 100,
    "fine_tune.steps": 20,
    "semi_supervised.steps": 60,
    "study.label_ratios": [0.2],
}
STEPS_PER_EPOCH = {"pretrain": 10}


class Interruptions:
    """A clone in which one stage is interrupted again and again."""

    def __init__(self, place: Path, stage: str, size: int) -> None:
        """Run the pipeline up to `stage`, with images of `size` pixels, in a clone below the directory `place`."""
        self.clone, self.stage = tiny_clone(place, unlabeled=400), stage
        self.record = place / "steps"
        launcher = f"{sys.executable} {ROOT / 'tests' / 'helpers' / 'recorded_steps.py'}"
        self.clone.environment |= {"LAUNCH": launcher, "STEPS": str(self.record)}
        for key, value in {**CHANGES, "views.size": size, "dataset.image_size": size}.items():
            self.clone.set_parameter(key, value)
        self.clone.commit("change parameters")
        self.clone("dvc", "repro", stage)
        self.clone.commit("results")

    def run_uninterrupted(self, how: str) -> tuple[dict[str, bytes], int, float]:
        """Run the stage once, and return the bytes of its outputs, its number of optimizer steps, and its seconds."""
        self.record.unlink(missing_ok=True)
        start = time.monotonic()
        self.clone(*self._command(how))
        seconds = time.monotonic() - start
        assert not self._kept()
        assert self._recorded(), "a completed and recorded run was not trained again"
        return self.clone.results(), len(self._recorded()), seconds

    def interrupt(self, how: str, moment: float | None, expected: dict[str, bytes], steps: int) -> str:
        """Interrupt the stage, run it again, and compare.

        Args:
            how: One of the ways that the module names.
            moment: Seconds from the start of DVC to the interruption; without it, the run stands still in the middle,
                and is interrupted there once a state is kept.
            expected: Outputs of the uninterrupted run.
            steps: Number of steps of the uninterrupted run.

        Returns:
            How many steps were repeated; empty if the run ended before the interruption.

        Raises:
            AssertionError: The outputs differ, two processes trained at a time, or more than two epochs were repeated.
        """
        self.record.unlink(missing_ok=True)
        self.clone("git", "checkout", "-q", "params.yaml")
        moment = self._run_interrupted(how, moment, steps)
        kept = self._kept()
        if moment is None or (not kept and len(self._recorded()) == steps and not self._differing(expected)):
            return ""

        self.clone(*self._command(how))
        processes = [process for process, _ in self._recorded()]
        assert processes == sorted(processes, key=processes.index), "two processes trained at the same time"
        assert self._differing(expected) == []
        assert not self._kept()

        # No step is repeated where the run was complete but not recorded; a state that is being written may be lost.
        repeated = max(0, len(processes) - steps)
        assert repeated <= 2 * STEPS_PER_EPOCH.get(self.stage, steps), f"{repeated} of {steps} steps were repeated"
        return f"after {moment:4.1f} s: {repeated} of {steps} steps repeated, {'a' if kept else 'no'} state was kept"

    def _run_interrupted(self, how: str, moment: float | None, steps: int) -> float | None:
        """Return the seconds after which the stage was interrupted, or None if it ended before."""
        middle = 5 * STEPS_PER_EPOCH.get(self.stage, steps // 5) // 2
        pause = {} if moment is not None else {"PAUSE_AFTER": str(middle)}
        run = subprocess.Popen(
            self._command(how),
            cwd=self.clone.path,
            env=self.clone.environment | pause,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        start = time.monotonic()

        def is_due() -> bool:
            if moment is not None:
                return time.monotonic() - start >= moment
            # Before its first step, a run still removes the states of the one before, which are not its own.
            return len(self._recorded()) == middle and bool(self._kept())

        while run.poll() is None and not is_due():
            time.sleep(0.01)
        if run.poll() is not None:
            return None

        seconds = time.monotonic() - start
        if how == "orphaned":
            run.terminate()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGINT if how == "interrupted" else signal.SIGKILL)
        run.wait()
        return seconds

    def _differing(self, expected: dict[str, bytes]) -> list[str]:
        found = self.clone.results()
        return [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]

    def _command(self, how: str) -> list[str]:
        run = ["dvc", "exp", "run", "-S", "seed=1"] if how == "experiment" else ["dvc", "repro"]
        return [*run, "--single-item", "--force", self.stage]

    def _recorded(self) -> list[tuple[int, float]]:
        return read_steps(self.record.read_bytes()) if self.record.exists() else []

    def _kept(self) -> list[Path]:
        """Return the states of runs that are not complete; os.walk passes over what a run removes meanwhile."""
        walk = os.walk(self.clone.path / ".scratch")
        states = [Path(directory) / name for directory, _, names in walk for name in names if name.endswith(".pt")]
        return [path for path in states if not any((above / "done").exists() for above in path.parents)]


def main(how: str, stage: str, times: int) -> None:
    """Interrupt a stage at random moments until that many interruptions have hit it."""
    draw = random.Random(f"{how} {stage}")
    with tempfile.TemporaryDirectory() as place:
        interruptions = Interruptions(Path(place), stage, 64)
        expected, steps, seconds = interruptions.run_uninterrupted(how)
        done = 0
        while done < times:
            outcome = interruptions.interrupt(how, draw.uniform(0, seconds), expected, steps)
            done += bool(outcome)
            print(f"{how} {stage} {done}: {outcome or 'it had ended before, drawn again'}", flush=True)
    print(f"{how} {times} times, {stage} ended in the bytes of the uninterrupted run ({seconds:.1f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
