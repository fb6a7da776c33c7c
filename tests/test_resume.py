"""A training that was interrupted ends in the same bytes as one that was not."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
from interruptions import Interruptions
from pictures import random_images, random_pictures
from structure import ROOT
from tiny_pretraining import RECIPE, pretrain_tiny

from stages import files
from stages.files import UserError, replacing
from stages.images.views import ViewRecipe
from stages.learning.encoders import build_projector
from stages.learning.semi_supervised import train_semi_supervised
from stages.learning.states import States, write_state
from stages.learning.supervised import new_classifier, train_supervised
from stages.pretrain import _read_checkpoint
from stages.scratch import finish, one_writer, remove_recorded, run_directory

WEAK = ViewRecipe(16, crop_min=0.8, flip=True)
OPTIMIZER = {"learning_rate": 0.003, "weight_decay": 0.01}


def _pretrain(scratch):
    encoder, projector, trained = pretrain_tiny(random_pictures(30, 16, 0), scratch, epochs=4)
    return [encoder, projector], trained.history


def _supervised(scratch):
    start = new_classifier("narrow", "conv3_stride2", 3, 0)
    settings = {"steps": 12, "batch_size": 7, "seed": 1} | OPTIMIZER
    model, trained = train_supervised(
        start,
        random_images(18, 16, 1),
        torch.arange(18) % 3,
        section="supervised",
        views=RECIPE,
        scratch=scratch,
        **settings,
    )
    return [model], trained.history


def _semi_supervised(scratch):
    start = new_classifier("narrow", "conv3_stride2", 3, 0)
    weights = {"cross_entropy_weight": 1.0, "barlow_weight": 0.5, "redundancy_weight": 0.01, "consistency_weight": 1.0}
    sizes = {"init": "random", "steps": 12, "batch_size": 5, "unlabeled_batch_size": 9, "average_decay": 0.9, "seed": 2}
    model, trained = train_semi_supervised(
        start,
        build_projector(start.encoder.width, [16, 16]),
        random_images(18, 16, 1),
        torch.arange(18) % 3,
        random_pictures(25, 16, 3),
        strong=RECIPE,
        weak=WEAK,
        scratch=scratch,
        **sizes,
        **weights,
        **OPTIMIZER,
    )
    return [model], trained.history


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
def test_interrupted_is_as_if_it_had_not_been(train, always, tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    monkeypatch.setattr(torch.optim, "AdamW", _Interrupting)
    if always:
        monkeypatch.setattr(States, "due", lambda self, complete: True)
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


def _states(directory):
    part = torch.nn.Linear(1, 1)
    return part, States(directory, [part], torch.Generator())


def test_a_damaged_state_is_set_aside_and_the_one_before_is_used(tmp_path, capsys):
    part, states = _states(tmp_path)
    with states:
        for step in (5, 10, 15):
            torch.nn.init.constant_(part.weight, step)
            states.save(step, {"step": step})
    newest = max(tmp_path.glob("*"))
    assert len(list(tmp_path.glob("*"))) == 2
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    (tmp_path / ".000000020-0.pt.part").write_bytes(b"of a process that was killed")
    part, states = _states(tmp_path)
    assert states.load() == {"step": 10}
    assert not list(tmp_path.glob(".*"))
    assert part.weight == 10
    assert "set aside" in capsys.readouterr().err
    assert newest.with_suffix(".damaged").exists()
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"")
    assert states.load() is None
    assert part.weight == 10


def test_a_checkpoint_that_is_damaged_or_gone_begins_pretraining_anew(tmp_path):
    for damaged in (True, False):
        write_state(tmp_path / "run" / "checkpoints", "3", {"correlation": torch.ones(2)})
        assert torch.equal(_read_checkpoint(tmp_path / "run", 3)["correlation"], torch.ones(2))
        (path,) = (tmp_path / "run" / "checkpoints").iterdir()
        path.write_bytes(b"") if damaged else path.unlink()
        with pytest.raises(UserError, match=r"after epoch 3 .* run again"):
            _read_checkpoint(tmp_path / "run", 3)
        assert not (tmp_path / "run").exists()


def test_a_state_is_due_after_every_row_and_every_five_minutes(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("stages.learning.states.time.monotonic", lambda: now[0])
    _, states = _states(tmp_path)
    assert states.due(complete=True)
    now[0] = 299
    assert not states.due(complete=False)
    now[0] = 301
    assert states.due(complete=False)
    with states:
        states.save(1, {})
        assert not states.due(complete=False)


def test_training_goes_on_while_a_state_is_written_as_it_was(tmp_path, monkeypatch):
    going_on = threading.Event()
    write = files.write_bytes
    monkeypatch.setattr("stages.learning.states.write_bytes", lambda *given: going_on.wait(30) and write(*given))
    part, states = _states(tmp_path)
    torch.nn.init.constant_(part.weight, 1)
    with states:
        states.save(1, {"step": 1})
        torch.nn.init.constant_(part.weight, 2)
        assert not list(tmp_path.iterdir())
        going_on.set()
        states.save(2, {"step": 2})
    max(tmp_path.iterdir()).unlink()
    assert states.load() == {"step": 1}
    assert part.weight == 1


def test_the_last_state_is_alone_and_written_when_save_returns(tmp_path):
    _, states = _states(tmp_path)
    with states:
        states.save(1, {})
        states.save(2, {}, last=True)
        assert [path.name[:9] for path in tmp_path.iterdir()] == ["000000002"]


@pytest.mark.parametrize("last", [True, False])
def test_a_state_that_cannot_be_written_is_an_error_when_the_next_is_due_or_at_the_end(last, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space")

    _, states = _states(tmp_path)
    monkeypatch.setattr("stages.learning.states.write_bytes", fail)
    with states:
        if not last:
            states.save(1, {})
        with pytest.raises(OSError, match="no space"):
            states.save(2, {}, last=last)


def test_a_state_that_was_lost_is_said_where_something_else_ends_the_training(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr("stages.learning.states.write_bytes", fail)
    _, states = _states(tmp_path)
    with suppress(KeyboardInterrupt), states:
        states.save(1, {})
        raise KeyboardInterrupt
    assert "the last state could not be written: no space" in capsys.readouterr().err
    with suppress(KeyboardInterrupt), _states(tmp_path)[1]:
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_the_newest_state_is_the_one_of_the_last_step_whatever_the_clock_says(tmp_path):
    _, states = _states(tmp_path)
    with states:
        for step in (9, 10):
            states.save(step, {"step": step})
    os.utime(max(tmp_path.glob("*")), (0, 0))
    assert states.load() == {"step": 10}


def test_states_are_of_one_code_one_data_and_one_set_of_parameters(tmp_path):
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


HOLD = """
import sys, time
from stages.scratch import one_writer
with one_writer("run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_writer_says_who_the_first_is_and_a_killed_one_leaves_no_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"process {first.pid} \(since 20\d\d-.*is at work"), one_writer("run", 0.5):
        pass
    with one_writer("another run", 0):
        pass
    first.kill()
    first.wait()
    with one_writer("run", 0):
        pass


@pytest.mark.timeout(900)
def test_a_stage_goes_on_after_a_kill_and_an_orphan_makes_room(tmp_path):
    """One of each; `python tests/interruptions.py` does it at many random moments."""
    interruptions = Interruptions(tmp_path, "pretrain")
    expected, steps, _ = interruptions.whole("killed")
    for how in ("killed", "orphaned"):
        assert "a state was kept" in interruptions.once(how, None, expected, steps)


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


def test_what_a_run_kept_goes_when_its_outputs_are_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Path(".scratch/run@0.1/0123")
    (kept / "states").mkdir(parents=True)
    Path("dvc.lock").write_text(LOCK.format(md5=1))
    finish(kept, pipeline=True)
    Path("dvc.lock").write_text(LOCK.format(md5=1).replace("cmd: x", "cmd: X").replace("cmd: z", "cmd: Z"))
    remove_recorded()
    assert (kept / "states").exists()
    Path("dvc.lock").write_text(LOCK.format(md5=2))
    with one_writer("run@0.1"):
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
def test_a_directory_is_whole_or_absent_whenever_its_writer_dies(tmp_path, moment, monkeypatch):
    """Between the two renames by which a directory takes the place of another."""
    path = tmp_path / "d"
    for content in ("old", "new"):
        with pytest.raises(KeyboardInterrupt) if content == "new" else nullcontext(), replacing(path) as aside:
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
code = "import os, sys, time; from stages.scratch import stop_with; stop_with(int(sys.argv[1])); print('up', flush=True); time.sleep(60)"
stage = subprocess.Popen([sys.executable, "-c", code, str(os.getpid())], stdout=subprocess.PIPE)
stage.stdout.readline()
print(stage.pid, flush=True)
time.sleep(60)
"""


def test_an_orphan_stops_even_if_nobody_waits_for_its_dead_parent():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", WATCH], env=environment, stdout=subprocess.PIPE, text=True)
    orphan = int(parent.stdout.readline())
    parent.kill()
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up and _running(orphan):
        time.sleep(0.2)
    assert not _running(orphan)
    parent.wait()


def _running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
