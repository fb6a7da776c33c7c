"""Random seeds, and the command that repeats the pipeline with several."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from helpers.structure import ROOT
from helpers.waiting import wait_until

from stages.pipeline.seeds import derive_seed
from stages.seeds import is_lock, repair_records

COMMAND = (sys.executable, "-m", "stages.seeds", "2")


def test_derived_seeds_differ_in_seed_purpose_and_draw():
    seeds = {derive_seed(seed, name, draw) for seed in range(20) for name in ("a", "b", "ab") for draw in range(5)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derive_seed(3, "probe", 1) == derive_seed(3, "probe", 1)


def test_derived_seeds_give_unrelated_streams():
    first, second = (np.random.default_rng(derive_seed(seed, "label")).normal(size=4000) for seed in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_repair_records_keeps_whole_stages(tmp_path):
    """DVC writes dvc.lock and rwlock in place, and a kill may end that anywhere."""
    whole = (ROOT / "dvc.lock").read_text()
    assert is_lock(whole)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    lock, rwlock = tmp_path / "dvc.lock", tmp_path / ".dvc/tmp/rwlock"
    stages = list(yaml.safe_load(whole)["stages"])
    for end in [0, 5, 20, 40, *range(100, len(whole), 997), len(whole)]:
        lock.write_text(whole[:end])
        rwlock.write_text("")
        repair_records(tmp_path)
        assert not rwlock.exists()
        kept = list(yaml.safe_load(lock.read_text())["stages"] or {}) if lock.exists() else []
        begun = [name for name in stages if f"\n  {name}:\n" in whole[:end]]
        assert kept == stages[: len(kept)]
        assert len(begun) - 1 <= len(kept) <= len(begun)
    repair_records(tmp_path / "nowhere")


def _kill_once_recorded(clone, stage, output):
    """Run the command until DVC runs the stage after a stage of the second seed, then kill it.

    DVC writes `dvc.lock` in place, and a kill that meets it costs finished stages. So it is stopped first, in a moment
    in which it runs a stage.
    """
    with output.open("w") as file:
        run = subprocess.Popen(
            COMMAND, cwd=clone.path, env=clone.environment, stdout=file, stderr=file, start_new_session=True
        )
    lock = clone.path / ".scratch/seeds/1/dvc.lock"

    def is_recorded():
        recorded = lock.exists() and f"\n  {stage}:\n" in lock.read_text()
        return recorded and "Running stage" in output.read_text().rpartition("Updating lock file")[2]

    while True:
        wait_until(lambda: is_recorded() or run.poll() is not None, f"{stage} being recorded")
        assert run.poll() is None
        os.killpg(run.pid, signal.SIGSTOP)
        if is_recorded():
            break
        os.killpg(run.pid, signal.SIGCONT)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


@pytest.mark.slow
def test_seeds_killed_twice_resume_and_repeat_nothing(clone, tmp_path):
    copy = clone.path / ".scratch/seeds/1"
    _kill_once_recorded(clone, "supervised", tmp_path / "first.txt")
    written = (copy / "metrics/supervised.json").stat().st_mtime_ns
    _kill_once_recorded(clone, "probe", tmp_path / "second.txt")
    assert (copy / "metrics/supervised.json").stat().st_mtime_ns == written, "a finished stage was repeated"

    output = clone(*COMMAND)
    assert "seed 0: study with 30 labels" in output
    assert not copy.exists()
    *_, setting = json.loads((clone.path / "metrics/seeds.json").read_text())  # Committed runs come before.
    runs = setting["runs"]
    assert [run["seed"] for run in runs] == [0, 1]
    assert runs[0]["hits"] != runs[1]["hits"]
    assert {int(labels) for labels in runs[1]["study"]} == {30}
    again = clone(*COMMAND)
    assert "2 seeds are finished" in again
    assert "seed 1" not in again

    assert clone.repro() == {"compare"}
    page = (clone.path / "plots/comparison.md").read_text()
    assert "2 whole pipelines with seeds 0, 1" in page
    assert "other code or on another machine" not in page
    (clone.path / "metrics/seeds.json").write_text("[]\n")


@pytest.mark.slow
def test_seeds_names_what_is_wrong(clone):
    assert "1 seed says nothing of others" in clone(sys.executable, "-m", "stages.seeds", "1", fails=True)
    clone.set_parameter("tsne.perplexity", -1.0)
    assert "tsne.perplexity is -1" in clone(*COMMAND, fails=True)
