"""What the tests share: the mark of slow ones, and fixtures.

pytest -m "not slow" covers losses, views, parameters, statistics, checkpoints and the like in two minutes.
"""

import fcntl
import json
import os
import shutil

import pytest
import torch
from helpers.workspace import Clone, tiny_clone

from stages.training.compilation import can_compile


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "slow: runs stages, DVC, a compiler or a browser, or takes longer than a few seconds"
    )


# Files that take minutes come first, so that no worker is left with one of them at the end.
_LONGEST = (
    "test_resume",
    "test_end_to_end",
    "test_reruns",
    "test_processes",
    "test_seeds",
    "test_untrusted_input",
    "test_label_page",
    "test_own_images",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST))


@pytest.fixture
def compiler():
    """Skip the test where no compiler works, and begin without anything compiled before."""
    if not can_compile(torch.device("cpu"), "this test"):
        pytest.skip("no working C++ compiler, or none of Python's headers")
    torch.compiler.reset()


@pytest.fixture(scope="session")
def finished_pipeline(tmp_path_factory):
    """A directory with a clone in which the pipeline has run once, made by the first worker that asks for it."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished_pipeline"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "stages_run.json").exists():
            shutil.rmtree(place / "run", ignore_errors=True)
            (place / "run").mkdir()
            clone = tiny_clone(place / "run")
            first = clone.repro()
            clone.commit("results")
            (place / "stages_run.json").write_text(json.dumps(sorted(first)))
    return place


@pytest.fixture(scope="module")
def finished(finished_pipeline, tmp_path_factory) -> tuple[Clone, set[str]]:
    """A clone for the tests of one file in which the pipeline has run once, and the stages that ran."""
    path = tmp_path_factory.mktemp("finished") / "clone"
    shutil.copytree(finished_pipeline / "run" / "clone", path, symlinks=True)
    return Clone(path), set(json.loads((finished_pipeline / "stages_run.json").read_text()))


@pytest.fixture
def clone(finished):
    """The finished clone; what a test changes in it is undone afterwards."""
    clone, _ = finished
    yield clone
    clone("git", "checkout", "-q", ".")
    clone("git", "clean", "-fdq", "metrics", "plots")
    clone("dvc", "checkout", "-q")
