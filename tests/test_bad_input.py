"""The whole pipeline in a temporary clone, on the smallest preset: bad input, missing files and full disks."""

import fcntl
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("key", "value", "stage", "complaint"),
    [
        ("label_ratio", "0.01", "label", "label: a label ratio of 0.01 shows 0 of 30 labels and leaves class"),
        ("unlabeled.size", "71", "sample", "sample: unlabeled.size is 71, but the image set has 70 unlabelled images"),
        ("pretrain.batch_size", "61", "pretrain", "pretrain.batch_size is 61, but there are only 60 unlabelled images"),
        (
            "pretrain.learning_rate",
            "-1.0",
            "pretrain",
            "params.yaml: pretrain.learning_rate is -1.0: input should be greater than 0",
        ),
        (
            "supervised.learning_rate",
            "1.0e+30",
            "supervised",
            "the loss is no longer finite at step 2 (term cross_entropy",
        ),
    ],
)
def test_invalid_input_is_one_line_and_writes_nothing(clone, key, value, stage, complaint):
    clone.set_parameter(key, YAML().load(value))
    before = clone.results()
    output = clone("./stage", *stage.split(), fails=True)
    assert "Traceback" not in output
    assert complaint in output.strip().splitlines()[-1]
    assert clone.results() == before


def test_missing_input_names_stage_to_run(clone):
    (clone.path / "data/labeled.npy").unlink()
    output = clone("./stage", "supervised", fails=True)
    line = output.strip().splitlines()[-1]
    assert line == "supervised: data/labeled.npy is missing: run `dvc repro label` first"


@contextmanager
def mounted(path: Path, options: str):
    """An empty file system of its own at `path`, where this machine lets one be mounted."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize(
    ("room", "options", "complaint"),
    [
        (".scratch", "size=1m", "pretrain: what pretrain keeps to resume after an interruption needs"),
        (".scratch", "ro", "pretrain: Read-only file system"),
        ("models", "size=1m", "pretrain: No space left on device"),
        ("models", "ro", "pretrain: Read-only file system"),
    ],
)
def test_full_or_readonly_disk_is_reported_and_loses_nothing(clone, room, options, complaint):
    before = clone.results()
    stage = ("./stage", "pretrain")
    with mounted(clone.path / room, options):
        output = clone(*stage, fails=True)
        assert "Traceback" not in output
        assert complaint in output.strip().splitlines()[-1]
    assert clone.results() == before
    again = subprocess.run(stage, cwd=clone.path, env=clone.environment, capture_output=True, text=True, check=True)
    assert ("resuming after" in again.stderr) == (room == "models")
    assert clone.results() == before
    assert not list((clone.path / ".scratch").glob("pretrain/*"))


def test_clean_scratch_lists_and_removes_leftovers(clone):
    left = clone.path / ".scratch" / "study@1.0" / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "state").write_bytes(bytes(3 << 20))
    clean = (sys.executable, "-m", "stages.clean_scratch")
    with (clone.path / ".scratch" / "locks" / "study@1.0").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ".scratch/study@1.0 is kept: its stage is still running" in clone(*clean)
    assert re.fullmatch(r" +3\.0 MiB  \d{4}-\d\d-\d\d \d\d:\d\d  \.scratch/study@1\.0  removed\n", clone(*clean))
    assert clone(*clean) == ""
