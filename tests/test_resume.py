"""A training that was interrupted ends in the same bytes as one that was not."""

import hashlib
import os
import subprocess
import sys
import threading
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from helpers.images import random_images, random_pool
from helpers.interruptions import Interruptions
from helpers.structure import ROOT
from helpers.tiny_pretraining import RECIPE, pretrain_tiny
from helpers.waiting import wait_until

from stages.methods.semi_supervised import train_semi_supervised
from stages.methods.supervised import train_supervised
from stages.models.batches import LabeledImages
from stages.models.encoders import build_classifier, build_projector
from stages.pipeline import files
from stages.pipeline.errors import UserError
from stages.pipeline.files import atomic_write
from stages.pipeline.params import SemiSupervised, StrongView, Supervised, Views, WeakView
from stages.pipeline.scratch import file_lock, finish, remove_recorded, run_directory
from stages.pretrain import _load_checkpoint
from stages.training.checkpointer import Checkpointer, save_state

OPTIMIZER = {"learning_rate": 0.003, "weight_decay": 0.01}


def _labeled():
    return LabeledImages(random_images(18, 16, 1), torch.arange(18) % 3)


def _pretrain(scratch):
    encoder, projector, result = pretrain_tiny(random_pool(30, 16, 0), scratch, epochs=4)
    return [encoder, projector], result.history


def _supervised(scratch):
    start = build_classifier("narrow", "conv3_stride2", 3, 0)
    settings = Supervised(steps=12, batch_size=7, **OPTIMIZER)
    model, result = train_supervised(start, _labeled(), "supervised", RECIPE, settings, 1, scratch)
    return [model], result.history


def _semi_supervised(scratch):
    start = build_classifier("narrow", "conv3_stride2", 3, 0)
    projector = build_projector(start.encoder.width, [16, 16])
    strong = {name: value for name, value in asdict(RECIPE).items() if name != "size"}
    views = Views(size=16, strong=StrongView(**strong), weak=WeakView(crop_min=0.8, flip=True))
    settings = SemiSupervised(
        init="random",
        steps=12,
        batch_size=5,
        unlabeled_batch_size=9,
        cross_entropy_weight=1.0,
        barlow_weight=0.5,
        consistency_weight=1.0,
        ema_decay=0.9,
        **OPTIMIZER,
    )
    pool = random_pool(25, 16, 3)
    model, result = train_semi_supervised(start, projector, _labeled(), pool, views, settings, 0.01, 2, scratch)
    return [model], result.history


TRAININGS = [_pretrain, _supervised, _semi_supervised]


class _Interrupting(torch.optim.AdamW):
    left = 0

    def step(self, closure=None):
        type(self).left -= 1
        if type(self).left < 0:
            raise KeyboardInterrupt
        return super().step(closure)


def _assert_same(first, second):
    (models, history), (others, other_history) = first, second
    assert history == other_history
    for model, other in zip(models, others, strict=True):
        for (name, value), (_, same) in zip(model.state_dict().items(), other.state_dict().items(), strict=True):
            assert torch.equal(value, same), name


@pytest.mark.parametrize("always", [True, False], ids=["a state after every step", "states as they fall due"])
@pytest.mark.parametrize("train", TRAININGS)
def test_interrupted_training_equals_uninterrupted(train, always, tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    monkeypatch.setattr(torch.optim, "AdamW", _Interrupting)
    if always:
        monkeypatch.setattr(Checkpointer, "due", lambda self: True)
    for taken in (1, 4, 5, 0):
        _Interrupting.left = taken
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts")
    _Interrupting.left = 99
    _assert_same(train(tmp_path / "parts"), whole)
    if always:
        assert _Interrupting.left == 99 - (12 - 10)
    _Interrupting.left = 0
    _assert_same(train(tmp_path / "parts"), whole)


def _checkpointer(directory):
    part = torch.nn.Linear(1, 1)
    return part, Checkpointer(directory, part=part)


def test_checkpointer_sets_damaged_state_aside_and_loads_previous(tmp_path, capsys):
    part, checkpointer = _checkpointer(tmp_path)
    with checkpointer:
        for step in (5, 10, 15):
            torch.nn.init.constant_(part.weight, step)
            checkpointer.save(step)
    newest = max(tmp_path.glob("*"))
    assert len(list(tmp_path.glob("*"))) == 2
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    (tmp_path / ".000000020-0.pt.part").write_bytes(b"of a process that was killed")
    part, checkpointer = _checkpointer(tmp_path)
    assert checkpointer.load() == 10
    assert not list(tmp_path.glob(".*"))
    assert part.weight == 10
    assert "set aside" in capsys.readouterr().err
    assert newest.with_suffix(".damaged").exists()
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"")
    assert checkpointer.load() is None
    assert part.weight == 10


def test_read_checkpoint_damaged_or_missing_restarts_pretraining(tmp_path):
    for damaged in (True, False):
        checkpoint = {"encoder": {"weight": torch.zeros(1)}, "correlation": torch.ones(2)}
        save_state(tmp_path / "run" / "checkpoints", "3", checkpoint)
        found = _load_checkpoint(tmp_path / "run", 3)
        assert torch.equal(found["encoder"]["weight"], torch.zeros(1))
        assert torch.equal(found["correlation"], torch.ones(2))
        (path,) = (tmp_path / "run" / "checkpoints").iterdir()
        path.write_bytes(b"") if damaged else path.unlink()
        with pytest.raises(UserError, match=r"after epoch 3 .* run again"):
            _load_checkpoint(tmp_path / "run", 3)
        assert not (tmp_path / "run").exists()


def test_checkpointer_is_due_after_five_minutes(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("stages.training.checkpointer.time.monotonic", lambda: now[0])
    _, checkpointer = _checkpointer(tmp_path)
    now[0] = 299
    assert not checkpointer.due()
    now[0] = 301
    assert checkpointer.due()
    with checkpointer:
        checkpointer.save(1)
        assert not checkpointer.due()


def test_checkpointer_writes_in_background(tmp_path, monkeypatch):
    writing_may_go_on = threading.Event()
    write = files.write_bytes
    write_later = lambda *given: writing_may_go_on.wait(300) and write(*given)  # noqa: E731
    monkeypatch.setattr("stages.training.checkpointer.write_bytes", write_later)
    part, checkpointer = _checkpointer(tmp_path)
    torch.nn.init.constant_(part.weight, 1)
    with checkpointer:
        checkpointer.save(1)
        torch.nn.init.constant_(part.weight, 2)
        assert not list(tmp_path.iterdir())
        writing_may_go_on.set()
        checkpointer.save(2)
    max(tmp_path.iterdir()).unlink()
    assert checkpointer.load() == 1
    assert part.weight == 1


def test_checkpointer_last_state_is_alone_and_written_at_once(tmp_path):
    _, checkpointer = _checkpointer(tmp_path)
    with checkpointer:
        checkpointer.save(1)
        checkpointer.save(2, last=True)
        assert [path.name[:9] for path in tmp_path.iterdir()] == ["000000002"]


@pytest.mark.parametrize("last", [True, False])
def test_checkpointer_raises_write_error_at_next_save_or_end(last, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space")

    _, checkpointer = _checkpointer(tmp_path)
    monkeypatch.setattr("stages.training.checkpointer.write_bytes", fail)
    with checkpointer:
        if not last:
            checkpointer.save(1)
        with pytest.raises(OSError, match="no space"):
            checkpointer.save(2, last=last)


def test_checkpointer_reports_lost_state_beside_other_error(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr("stages.training.checkpointer.write_bytes", fail)
    _, checkpointer = _checkpointer(tmp_path)
    with suppress(KeyboardInterrupt), checkpointer:
        checkpointer.save(1)
        raise KeyboardInterrupt
    assert "the last checkpoint could not be written: no space" in capsys.readouterr().err
    with suppress(KeyboardInterrupt), _checkpointer(tmp_path)[1]:
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_checkpointer_loads_last_step_whatever_the_clock_says(tmp_path):
    _, checkpointer = _checkpointer(tmp_path)
    with checkpointer:
        for step in (9, 10):
            checkpointer.save(step)
    os.utime(max(tmp_path.glob("*")), (0, 0))
    assert checkpointer.load() == 10


def test_run_directory_depends_on_code_data_and_parameters(tmp_path):
    code, data = tmp_path / "code.py", tmp_path / "data"
    code.write_text("a")
    data.mkdir()
    (data / "x.npy").write_text("b")
    inputs = [str(code), str(data)]
    keys = [run_directory("run", {"seed": seed}, inputs, machine) for seed in (0, 1) for machine in ("cpu", "gpu")]
    code.write_text("c")
    keys.append(run_directory("run", {"seed": 0}, inputs, "cpu"))
    (data / "x.npy").rename(data / "y.npy")
    keys.append(run_directory("run", {"seed": 0}, inputs, "cpu"))
    assert len(set(keys)) == 6
    assert run_directory("run", {"seed": 0}, inputs, "cpu") == keys[-1]


def test_run_directory_of_another_machine_is_named_and_not_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    alone = run_directory("run", {"seed": 0}, [], "cpu, 1 threads")
    for name in ("0.pt", "done"):
        alone.mkdir(parents=True, exist_ok=True)
        (alone / name).touch()
    together = run_directory("run", {"seed": 0}, [], "cpu, 1 threads, 2 processes")
    assert together != alone
    assert capsys.readouterr().err == f"run: {alone} is not used, since results would differ in rounding\n"
    run_directory("run", {"seed": 0}, [], "cpu, 1 threads")
    run_directory("run", {"seed": 1}, [], "cpu, 1 threads, 2 processes")
    assert capsys.readouterr().err == ""


HOLD = """
import sys, time
from stages.pipeline.scratch import file_lock
with file_lock("run"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_file_lock_names_holder_and_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    complaint = rf"process {first.pid} \(since 20\d\d-.*is already running"
    with pytest.raises(UserError, match=complaint), file_lock("run", 0.5):
        pass
    with file_lock("another run", 0):
        pass
    first.kill()
    first.wait()
    with file_lock("run", 0):
        pass


@pytest.mark.slow
def test_stage_resumes_after_kill_and_orphan_exits(tmp_path):
    """One of each; `python tests/helpers/interruptions.py` does it at many random moments."""
    interruptions = Interruptions(tmp_path, "pretrain", 16)
    expected, steps, _ = interruptions.run_uninterrupted("killed")
    for how in ("killed", "orphaned"):
        assert "a state was kept" in interruptions.interrupt(how, None, expected, steps)


LOCK = """schema: '2.0'
stages:
  other:
    cmd: x
  run@0.1:
    cmd: y
    outs:
    - path: a
      md5: {md5}
  runs:
    cmd: z
"""


def test_remove_recorded_waits_for_recorded_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Path(".scratch/run@0.1/0123")
    (kept / "states").mkdir(parents=True)
    Path("dvc.lock").write_text(LOCK.format(md5=1))
    finish(kept, pipeline=True)
    Path("dvc.lock").write_text(LOCK.format(md5=1).replace("cmd: x", "cmd: X").replace("cmd: z", "cmd: Z"))
    remove_recorded()
    assert (kept / "states").exists()
    Path("dvc.lock").write_text(LOCK.format(md5=2))
    with file_lock("run@0.1"):
        remove_recorded()
        assert (kept / "states").exists()
    remove_recorded()
    assert not kept.exists()
    kept.mkdir()
    finish(kept, pipeline=False)
    assert not kept.exists()
    Path("a").write_text("as recorded")
    Path("dvc.lock").write_text(LOCK.format(md5=hashlib.md5(b"as recorded").hexdigest()))
    kept.mkdir()
    finish(kept, pipeline=True)
    assert not kept.exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_atomic_write_leaves_directory_whole_or_absent(tmp_path, moment, monkeypatch):
    """Between the two renames by which a directory takes the place of another."""
    path = tmp_path / "d"
    for content in ("old", "new"):
        with pytest.raises(KeyboardInterrupt) if content == "new" else nullcontext(), atomic_write(path) as aside:
            aside.mkdir()
            (aside / "x").write_text(content)
            if content == "new":
                replace = Path.replace

                def dies(self, target, replace=replace):
                    if moment == "after":
                        replace(self, target)
                    raise KeyboardInterrupt

                monkeypatch.setattr(Path, "replace", dies)
    monkeypatch.undo()
    assert (path / "x").read_text() == ("new" if moment == "after" else "old")
    assert [file.name for file in tmp_path.iterdir()] == ["d"]


WATCH = """
import os, subprocess, sys, time
code = (
    "import os, sys, time; from stages.pipeline.scratch import exit_with_parent; "
    "exit_with_parent(int(sys.argv[1])); print('up', flush=True); time.sleep(600)"
)
stage = subprocess.Popen([sys.executable, "-c", code, str(os.getpid())], stdout=subprocess.PIPE)
stage.stdout.readline()
print(stage.pid, flush=True)
time.sleep(600)
"""


def test_exit_with_parent_ends_orphan():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", WATCH], env=environment, stdout=subprocess.PIPE, text=True)
    orphan = int(parent.stdout.readline())
    parent.kill()
    wait_until(lambda: not _running(orphan), "the end of the orphan")
    parent.wait()


def _running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
