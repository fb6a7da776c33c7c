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

    def __init__(self, place: Path, stage: str, how: str) -> None:
        draw_pictures(place / "pictures", unlabeled=400)
        (place / "clone").mkdir()
        self.clone, self.stage, self.how = new_clone(place / "clone"), stage, how
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
        self.record.unlink()
        run = ["dvc", "exp", "run", "-S", "seed=1"] if how == "experiment" else ["dvc", "repro"]
        self.command = [*run, "--single-item", "--force", stage]
        began = time.monotonic()
        self.clone(*self.command)
        self.seconds = time.monotonic() - began
        self.whole, self.steps = self.clone.bytes(), len(self._recorded())
        assert not self._kept()

    def once(self, moment: float) -> str:
        """Interrupt the stage after `moment` seconds, run it again, and compare.

        Returns:
            how much was done twice; empty where it was over before.

        Raises:
            AssertionError: other bytes came out, two processes trained at a time, or more than an epoch was done twice.
        """
        self.record.unlink(missing_ok=True)
        self.clone("git", "checkout", "-q", "params.yaml")
        first = subprocess.Popen(
            self.command,
            cwd=self.clone.path,
            env=self.clone.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moment)
        if first.poll() is not None:
            return ""
        if self.how == "orphaned":
            first.terminate()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(first.pid, signal.SIGINT if self.how == "interrupted" else signal.SIGKILL)
        first.wait()
        kept = self._kept()
        self.clone(*self.command)
        steps = self._recorded()
        processes = [process for process, _ in steps]
        assert processes == sorted(processes, key=processes.index), "two processes trained at the same time"
        now = self.clone.bytes()
        assert [name for name in self.whole.keys() | now.keys() if self.whole.get(name) != now.get(name)] == []
        twice = len(steps) - self.steps
        allowed = STEPS_PER_EPOCH.get(self.stage, self.steps)
        assert twice <= allowed, f"{twice} of {self.steps} steps were done twice"
        assert not self._kept()
        return f"after {moment:4.1f} of {self.seconds:.1f} s: {twice} of {self.steps} steps done twice, {'a' if kept else 'no'} state kept"

    def _recorded(self) -> list[tuple[int, float]]:
        return read_steps(self.record.read_bytes()) if self.record.exists() else []

    def _kept(self) -> list[Path]:
        return list((self.clone.path / ".scratch").glob("*/*/**/*.pt"))


def main(how: str, stage: str, times: int) -> None:
    draw = random.Random(f"{how} {stage}")
    with tempfile.TemporaryDirectory() as place:
        interruptions = Interruptions(Path(place), stage, how)
        done = 0
        while done < times:
            said = interruptions.once(draw.uniform(0, interruptions.seconds))
            done += bool(said)
            print(f"{how} {stage} {done}: {said or 'it was over before, drawn again'}", flush=True)
    print(f"{done} of {times} times {how}, {stage} ended in the bytes of the uninterrupted run", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
