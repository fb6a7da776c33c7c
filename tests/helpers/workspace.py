"""A clone of this project with its own images and the smallest parameters, in which tests run commands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from helpers.structure import ROOT
from helpers.warm_python import launcher

# Class names that a page could take for markup, and a spreadsheet for a formula.
CLASSES = ("<img src=x onerror=alert(1)>", "=cmd()")

_NOT_OF_THE_SEED = (".gitignore", "report.html", "scan.json")

LABEL_READERS = {"label", "supervised", "probe", "fine_tune", "semi_supervised", "compare", "predict"}
STUDY = {"study@1.0"}
ALL_STAGES = LABEL_READERS | STUDY | {"download", "sample", "pretrain", "suggest", "embed", "tsne"}


class Clone:
    """A clone of this project; calling it runs a command in it.

    Attributes:
        path: Root of the clone.
        environment: Environment variables of the commands. With them, stages start in milliseconds; see `warm_python`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
            **launcher(),
        }

    def __call__(self, *command: str, fails: bool = False) -> str:
        """Run a command that has to succeed, and return its output; or one that `fails`, with its errors."""
        warm = launcher().get("LAUNCH")
        if command[0] == "dvc" and warm and self.environment.get("LAUNCH") == warm:
            command = (*warm.split(), "-m", *command)
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr if fails else done.stdout

    def repro(self, *arguments: str) -> set[str]:
        """Run `dvc repro` and return the names of the stages that it ran."""
        return stages_run(self("dvc", "repro", *arguments))

    def commit(self, message: str) -> None:
        """Commit all changes."""
        self("git", "add", "-A")
        self("git", "commit", "-qm", message)

    def params(self) -> dict:
        """Return the content of params.yaml."""
        return YAML().load((self.path / "params.yaml").read_text())

    def write_params(self, params: dict) -> None:
        """Write params.yaml."""
        with (self.path / "params.yaml").open("w") as file:
            YAML().dump(params, file)

    def set_parameter(self, key: str, value: object) -> None:
        """Set one parameter, named with dots, in params.yaml."""
        params = self.params()
        *sections, name = key.split(".")
        section = params
        for parent in sections:
            section = section[parent]
        section[name] = value
        self.write_params(params)

    def results(self) -> dict[str, bytes]:
        """Return all outputs that a seed determines: not costs, the report that shows them, and times of files."""
        return {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for directory in ("data", "models", "metrics", "plots")
            for path in sorted((self.path / directory).rglob("*"))
            if path.is_file() and path.name not in _NOT_OF_THE_SEED and "cost" not in path.parts
        }


def stages_run(output: str) -> set[str]:
    """Return the names of the stages that DVC ran, from what it printed; without `scan`, which always runs."""
    return set(re.findall(r"^Running stage '(.*)'", output, re.MULTILINE)) - {"scan"}


def tiny_clone(place: Path, unlabeled: int = 70) -> Clone:
    """Return a clone with the smallest parameters and images of its own, nothing of which has been run.

    Args:
        place: An existing directory; the clone becomes `clone` in it, and the images `images`.
        unlabeled: Number of unlabelled images.
    """
    draw_image_folder(place / "images", unlabeled)
    (place / "clone").mkdir()
    clone = new_clone(place / "clone")
    clone.write_params(tiny_params(place / "images"))
    (clone.path / "dvc.lock").unlink(missing_ok=True)
    clone.commit("begin")
    return clone


def draw_image_folder(path: Path, unlabeled: int = 70) -> None:
    """Fill a new folder with images of two kinds of stripes, 15 for training and 10 for testing of each class."""
    rng = np.random.default_rng(0)
    counts = {f"{split}/{name}": count for split, count in (("train", 15), ("test", 10)) for name in CLASSES}
    for directory, count in (counts | {"unlabeled": unlabeled}).items():
        (path / directory).mkdir(parents=True)
        for number in range(count):
            stripes = (np.arange(20) // 3 % 2)[:, None, None] * np.ones((20, 20, 3)) * 200
            horizontal = CLASSES[0] in directory or number % 2
            image = (stripes if horizontal else stripes.transpose(1, 0, 2)) + rng.random((20, 20, 3)) * 50
            Image.fromarray(image.astype(np.uint8)).save(path / directory / f"{number}.png")


def new_clone(path: Path) -> Clone:
    """Return a repository in the empty directory `path` with the files of this one as they are now, and no history."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    clone = Clone(path)
    clone("git", "init", "-q", "-b", "main")
    return clone


def tiny_params(images: Path) -> dict:
    """Return the parameters of the smallest run that still does every stage's work, on the images of a folder."""
    params = YAML(typ="safe").load((ROOT / "tests" / "tiny.yaml").read_text())
    params["dataset"]["path"] = str(images)
    return params


@contextmanager
def started_as_people_do(clone: Clone) -> Iterator[None]:
    """Start stages and DVC in processes of their own within the block; see `warm_python`."""
    usual = clone.environment.get("LAUNCH")
    clone.environment["LAUNCH"] = "python"
    yield
    clone.environment.pop("LAUNCH")
    clone.environment.update({"LAUNCH": usual} if usual else {})
