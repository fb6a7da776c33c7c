"""A clone of this project with pictures to run on, in which tests run commands and change what they like."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML
from structure import ROOT

# Names that a page would run, and a spreadsheet.
CLASSES = ("<img src=x onerror=alert(1)>", "=cmd()")


class Clone:
    """A clone of this project with commands run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        }

    def __call__(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr if fails else done.stdout

    def repro(self, *more: str) -> set[str]:
        return ran(self("dvc", "repro", *more))

    def params(self) -> dict:
        return YAML().load((self.path / "params.yaml").read_text())

    def set(self, key: str, value: object) -> None:
        """Set one parameter."""
        params = self.params()
        *parents, last = key.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        section[last] = value
        self.write(params)

    def write(self, params: dict) -> None:
        """Write params.yaml."""
        with (self.path / "params.yaml").open("w") as file:
            YAML().dump(params, file)

    def bytes(self) -> dict[str, bytes]:
        """Every result that has to be the same for the same seed: all files that the pipeline wrote, but cost and the report of it."""
        return {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for room in ("data", "models", "metrics", "plots")
            for path in sorted((self.path / room).rglob("*"))
            if path.is_file() and path.name not in (".gitignore", "report.html") and "cost" not in path.parts
        }


def ran(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}


def draw_pictures(path: Path, unlabeled: int = 70) -> None:
    """A folder of stripes, lying and standing."""
    rng = np.random.default_rng(0)
    rooms = {f"{split}/{name}": count for split, count in (("train", 15), ("test", 10)) for name in CLASSES}
    for room, count in (rooms | {"unlabeled": unlabeled}).items():
        (path / room).mkdir(parents=True)
        for number in range(count):
            stripes = (np.arange(20) // 3 % 2)[:, None, None] * np.ones((20, 20, 3)) * 200
            lying = CLASSES[0] in room or number % 2
            picture = (stripes if lying else stripes.transpose(1, 0, 2)) + rng.random((20, 20, 3)) * 50
            Image.fromarray(picture.astype(np.uint8)).save(path / room / f"{number}.png")


def new_clone(path: Path) -> Clone:
    """A repository with the files of this one as they are now, and no history."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    clone = Clone(path)
    clone("git", "init", "-q", "-b", "main")
    return clone


def tiny_params(pictures: Path) -> dict:
    """Parameters of the smallest run that still does every stage's work, on these pictures."""
    params = YAML(typ="safe").load((ROOT / "tests" / "tiny.yaml").read_text())
    params["dataset"]["path"] = str(pictures)
    return params
