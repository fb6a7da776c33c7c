"""Interrupt a stage at random moments, run it again, and compare what comes out with an uninterrupted run, byte for byte.

python tests/interruptions.py killed pretrain 30

How: `killed` (SIGKILL to DVC and the stage), `interrupted` (SIGINT to both), `orphaned` (SIGTERM to DVC alone, and its successor at once),
`experiment` (SIGKILL to both inside `dvc exp run`).
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

from recorded_steps import read_steps
from structure import ROOT
from workspace import draw_pictures, new_clone, tiny_params

CHANGES = {
    "views.size": 64,
    "dataset.image_size": 64,
    "unlabeled.size": 400,
    "pretrain.epochs": 6,
    "pretrain.batch_size": 40,
    "supervised.steps": 100,
    "fine_tune.steps": 20,
    "semi_supervised.steps": 60,
    "study.label_ratios": [0.2],
}
STEPS_PER_EPOCH = {"pretrain": 10}
HOW = ("killed", "interrupted", "orphaned", "experiment")


class Interruptions:
    """A clone in which one stage is interrupted again and again."""

    def __init__(self, place: Path, stage: str) -> None:
        draw_pictures(place / "pictures", unlabeled=400)
        (place / "clone").mkdir()
        self.clone, self.stage = new_clone(place / "clone"), stage
        self.record = place / "steps"
        launcher = f"{sys.executable} {ROOT / 'tests' / 'recorded_steps.py'}"
        self.clone.environment |= {"LAUNCH": launcher, "STEPS": str(self.record)}
        self.clone.write(tiny_params(place / "pictures"))
        for key, value in CHANGES.items():
            self.clone.set(key, value)
        (self.clone.path / "dvc.lock").unlink(missing_ok=True)
        self.clone("git", "add", "-A")
        self.clone("git", "commit", "-qm", "begin")
        self.clone("dvc", "repro", stage)
        self.clone("git", "add", "-A")
        self.clone("git", "commit", "-qm", "results")

    def whole(self, how: str) -> tuple[dict[str, bytes], int, float]:
        """An uninterrupted run: the bytes that come out, the steps that it takes, and the seconds."""
        self.record.unlink(missing_ok=True)
        began = time.monotonic()
        self.clone(*self._command(how))
        seconds = time.monotonic() - began
        assert not self._kept()
        assert self._recorded(), "what was over and recorded was not trained again"
        return self.clone.bytes(), len(self._recorded()), seconds

    def once(self, how: str, moment: float | None, expected: dict[str, bytes], steps: int) -> str:
        """Interrupt the stage after `moment` seconds, run it again, and compare.

        Args:
            how: one of HOW.
            moment: in seconds from the start of DVC; without one, as soon as a state is kept.
            expected, steps: what `whole` returned.

        Returns:
            how much was done twice; empty where the run was over before.

        Raises:
            AssertionError: other bytes came out, two processes trained at a time, or more than two epochs were done twice.
        """
        self.record.unlink(missing_ok=True)
        self.clone("git", "checkout", "-q", "params.yaml")
        first = subprocess.Popen(
            self._command(how),
            cwd=self.clone.path,
            env=self.clone.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        began = time.monotonic()
        while first.poll() is None and (time.monotonic() - began < moment if moment is not None else not self._kept()):
            time.sleep(0.01)
        moment = time.monotonic() - began
        if first.poll() is not None:
            return ""
        if how == "orphaned":
            first.terminate()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(first.pid, signal.SIGINT if how == "interrupted" else signal.SIGKILL)
        first.wait()
        kept = self._kept()
        if not kept and len(self._recorded()) == steps and self._differing(expected) == []:
            return ""
        self.clone(*self._command(how))
        taken = self._recorded()
        processes = [process for process, _ in taken]
        assert processes == sorted(processes, key=processes.index), "two processes trained at the same time"
        assert self._differing(expected) == []
        twice = max(0, len(taken) - steps)  # None where DVC had not recorded the run before this one, which was over.
        most = 2 * STEPS_PER_EPOCH.get(
            self.stage, steps
        )  # A state may still be being written; then the one before counts.
        assert twice <= most, f"{twice} of {steps} steps were done twice"
        assert not self._kept()
        return f"after {moment:4.1f} s: {twice} of {steps} steps done twice, {'a' if kept else 'no'} state was kept"

    def _differing(self, expected: dict[str, bytes]) -> list[str]:
        now = self.clone.bytes()
        return [name for name in expected.keys() | now.keys() if expected.get(name) != now.get(name)]

    def _command(self, how: str) -> list[str]:
        run = ["dvc", "exp", "run", "-S", "seed=1"] if how == "experiment" else ["dvc", "repro"]
        return [*run, "--single-item", "--force", self.stage]

    def _recorded(self) -> list[tuple[int, float]]:
        return read_steps(self.record.read_bytes()) if self.record.exists() else []

    def _kept(self) -> list[Path]:
        """States of runs that are not over."""
        states = (self.clone.path / ".scratch").glob("*/*/**/*.pt")
        return [path for path in states if not any((above / "done").exists() for above in path.parents)]


def main(how: str, stage: str, times: int) -> None:
    draw = random.Random(f"{how} {stage}")
    with tempfile.TemporaryDirectory() as place:
        interruptions = Interruptions(Path(place), stage)
        expected, steps, seconds = interruptions.whole(how)
        done = 0
        while done < times:
            said = interruptions.once(how, draw.uniform(0, seconds), expected, steps)
            done += bool(said)
            print(f"{how} {stage} {done}: {said or 'it was over before, drawn again'}", flush=True)
    print(
        f"{done} of {times} times {how}, {stage} ended in the bytes of the uninterrupted run ({seconds:.1f} s)",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
