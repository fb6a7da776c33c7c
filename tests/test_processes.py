"""Several processes that share every batch come to what one process comes to on the whole."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import torch
from helpers.structure import ROOT
from helpers.waiting import wait_until
from helpers.workspace import tiny_clone

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "tests" / "helpers" / "shared_training.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def _run(path, count):
    launcher = [*TORCHRUN, f"--nproc-per-node={count}"] if count > 1 else [sys.executable]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    subprocess.run([*launcher, str(SCRIPT), str(path)], check=True, env=environment)
    return torch.load(path, weights_only=True)


def test_processes_two_and_four_equal_one(tmp_path):
    alone = _run(tmp_path / "1", 1)
    for count in (2, 4):
        together = _run(tmp_path / str(count), count)
        assert together.keys() == alone.keys()
        apart = {name: float((together[name] - value).abs().max()) for name, value in alone.items()}
        for part in ("gradients", "20 steps"):
            name = max((name for name in apart if name.startswith("20 steps") == (part == "20 steps")), key=apart.get)
            print(f"{part}, {count} processes: at most {apart[name]:.1e} apart ({name})")
            assert apart[name] <= 1e-9, f"{name} is {apart[name]:.1e} apart with {count} processes"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    clone = tiny_clone(tmp_path_factory.mktemp("processes"))
    clone.environment["OMP_NUM_THREADS"] = "1"
    clone("dvc", "repro", "sample", "label")
    return clone


def test_launcher_reruns_nothing_and_main_process_writes(clone):
    launched = clone.environment | {"LAUNCH": " ".join([*TORCHRUN, "--nproc-per-node=2"])}
    done = subprocess.run(
        ["dvc", "repro", "pretrain"], cwd=clone.path, env=launched, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pretrain: loss") == 1
    assert clone.repro("pretrain") == set()
    alone = subprocess.run(
        ["dvc", "repro", "supervised"], cwd=clone.path, env=launched, capture_output=True, text=True, check=False
    )
    assert alone.stdout.count("supervised: ") == 1, alone.stderr
    assert not list((clone.path / ".scratch").glob("pretrain/*"))


def test_uneven_batch_is_refused_in_one_line(clone):
    clone.set_parameter("pretrain.batch_size", 9)
    command = [*TORCHRUN, "--nproc-per-node=2", "-m", "stages.pretrain"]
    done = subprocess.run(command, cwd=clone.path, env=clone.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("pretrain: ")]
    assert said == ["pretrain: pretrain.batch_size is 9, which 2 processes cannot share evenly: set it to 8 or 10"]


ONE_FAILS = """
import os, runpy
import stages.training.loop as loop
from stages.pipeline.errors import UserError

if os.environ["RANK"] == os.environ["FAILING"]:
    def fail(*_):
        raise UserError("the cause")
    loop.History.add = fail
runpy.run_module("stages.pretrain", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("failing", ["0", "1"])
def test_error_of_one_process_is_reported_and_not_its_consequence(clone, failing):
    """One process fails inside the loop, while the other waits for it in a collective operation."""
    clone.set_parameter("pretrain.batch_size", 8)
    script = clone.path / "one_fails.py"
    script.write_text(ONE_FAILS)
    command = [*TORCHRUN, "--nproc-per-node=2", str(script)]
    environment = clone.environment | {"PYTHONPATH": str(clone.path), "FAILING": failing}
    done = subprocess.run(command, cwd=clone.path, env=environment, capture_output=True, text=True, check=False)
    script.unlink()
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("pretrain: ") and "%|" not in line]
    assert lines == ["pretrain: the cause"]


def test_dead_process_ends_all_and_next_run_resumes(clone):
    clone.set_parameter("pretrain.batch_size", 8)
    clone.set_parameter("pretrain.epochs", 300)
    command = [*TORCHRUN, "--nproc-per-node=2", "-m", "stages.pretrain"]
    run = subprocess.Popen(command, cwd=clone.path, env=clone.environment, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any((clone.path / ".scratch").glob("pretrain/*/pretrain/*.pt")), "a checkpoint")
    second = next(
        child for child in psutil.Process(run.pid).children(recursive=True) if child.environ().get("RANK") == "1"
    )
    os.kill(second.pid, signal.SIGKILL)
    _, said = run.communicate()
    assert run.returncode != 0
    assert "SIGKILL" in said
    assert not [child for child in psutil.process_iter(["environ"]) if Path(clone.path) == _place(child)]
    again = subprocess.Popen(command, cwd=clone.path, env=clone.environment, stderr=subprocess.PIPE, text=True)
    for line in again.stderr:
        if "pretrain: resuming after" in line:
            break
    else:
        pytest.fail("it did not resume")
    again.send_signal(signal.SIGINT)
    again.communicate()


COUNTED = """
import runpy
import stages.methods.supervised as supervised

train_supervised = supervised.train_supervised

def counted(start, labeled, name, views, settings, seed, scratch):
    if name == "supervised":
        with open("trained.txt", "a") as file:
            file.write(f"{seed}\\n")
    return train_supervised(start, labeled, name, views, settings, seed, scratch)

supervised.train_supervised = counted
runpy.run_module("stages.study", run_name="__main__", alter_sys=True)
"""


def test_draws_of_the_study_are_shared_out_and_none_is_repeated(clone):
    """Of four processes one is killed after the first draws; two others go on, to the result of a single process."""
    clone.set_parameter("pretrain.batch_size", 8)
    clone.set_parameter("pretrain.epochs", 3)
    clone.set_parameter("study.seeds", 8)
    clone("dvc", "repro", "pretrain")
    result, trained = clone.path / "metrics/study/1.0.json", clone.path / "trained.txt"
    clone(sys.executable, "-m", "stages.study", "1.0")
    alone = result.read_bytes()
    result.unlink()
    script = clone.path / "counted.py"
    script.write_text(COUNTED)

    def launch(processes):
        command = [*TORCHRUN, f"--nproc-per-node={processes}", str(script), "1.0"]
        environment = clone.environment | {"PYTHONPATH": str(clone.path)}
        return subprocess.Popen(command, cwd=clone.path, env=environment, stderr=subprocess.PIPE, text=True)

    def finished():
        return list((clone.path / ".scratch").glob("study@1.0/*/draws/*.pt"))

    run = launch(4)
    drain = threading.Thread(target=run.stderr.read)
    drain.start()
    wait_until(finished, "a finished draw")
    victim = next(
        child for child in psutil.Process(run.pid).children(recursive=True) if child.environ().get("RANK") == "1"
    )
    os.kill(victim.pid, signal.SIGKILL)
    run.wait()
    drain.join()
    assert run.returncode != 0
    assert not [child for child in psutil.process_iter(["environ"]) if Path(clone.path) == _place(child)]
    assert not result.exists()
    left = 8 - len(finished())
    assert 0 < left < 8

    trained.unlink()
    again = launch(2)
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert result.read_bytes() == alone
    assert len(set(trained.read_text().split())) == left == len(trained.read_text().split())


def _place(process):
    try:
        return Path(process.cwd())
    except (psutil.Error, OSError):
        return None
