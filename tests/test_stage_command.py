"""./stage: every shell, an environment that is or is not activated, a launcher, and the end of DVC."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers.structure import ROOT
from helpers.waiting import wait_until
from helpers.workspace import new_clone

pytestmark = pytest.mark.slow

SHELLS = ("sh", "bash", "zsh", "fish", "tcsh")
REPORT = """
import os, sys
print(sys.executable, sys.argv[1:], os.environ.get("PIPELINE_PROCESS"), os.nice(0), sep="|")
"""


SETTINGS = """
import sys
import yaml
print(sys.flags.optimize, sys.flags.safe_path, sys.flags.utf8_mode)
"""

WAIT = """
import os, time
from pathlib import Path
from stages.pipeline.scratch import exit_with_parent
exit_with_parent(int(os.environ["PIPELINE_PROCESS"]))
Path("waiting").write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with an environment of its own, whose only stage reports how it was started."""
    clone = new_clone(tmp_path_factory.mktemp("clone"))
    clone.environment.pop("LAUNCH", None)
    environment = clone.path / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "python").symlink_to(sys.executable)
    (clone.path / "stages" / "report.py").write_text(REPORT)
    (clone.path / "stages" / "wait.py").write_text(WAIT)
    (clone.path / "stages" / "settings.py").write_text(SETTINGS)
    (clone.path / "dvc.yaml").write_text("stages: {report: {cmd: ./stage report}, wait: {cmd: ./stage wait}}\n")
    (clone.path / "dvc.lock").unlink(missing_ok=True)
    clone.commit("begin")
    return clone


def _path_without_project(tmp_path):
    """A PATH that has DVC, but no `python` of the project."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dvc").symlink_to(Path(sys.executable).parent / "dvc")
    return f"{tmp_path / 'bin'}{os.pathsep}/usr/local/bin:/usr/bin:/bin"


@pytest.mark.parametrize("activated", [True, False], ids=["activated", "not activated"])
@pytest.mark.parametrize("launch", [None, "nice python"])
@pytest.mark.parametrize("shell", SHELLS)
def test_stage_runs_in_every_shell(clone, tmp_path, shell, launch, activated):
    executable = shutil.which(shell)
    if executable is None:
        pytest.skip(f"{shell} is not installed")
    environment = clone.environment | {"SHELL": executable}
    if launch:
        environment["LAUNCH"] = launch
    if not activated:
        environment["PATH"] = _path_without_project(tmp_path)
    command = ["dvc", "repro", "--force", "report"]
    process = subprocess.Popen(
        command, cwd=clone.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    (line,) = [line for line in output.splitlines() if "|" in line]
    python, arguments, parent, nice = line.split("|")
    assert python == str(clone.path / ".venv" / "bin" / "python")
    assert arguments == "[]"
    assert parent == str(process.pid), "it does not watch the process of DVC"
    assert int(nice) - os.nice(0) == (10 if launch else 0)


@pytest.mark.parametrize("shell", SHELLS)
def test_stage_exits_when_dvc_has_ended(clone, shell):
    executable = shutil.which(shell)
    if executable is None:
        pytest.skip(f"{shell} is not installed")
    waiting = clone.path / "waiting"
    waiting.unlink(missing_ok=True)
    environment = clone.environment | {"SHELL": executable}
    dvc = subprocess.Popen(
        ["dvc", "repro", "--force", "wait"],
        cwd=clone.path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: waiting.exists() and waiting.read_text(), "the start of the stage")
    stage = psutil.Process(int(waiting.read_text()))
    dvc.kill()
    dvc.wait()
    wait_until(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE, "the end of the stage")


def test_stage_finds_environment_in_temporary_experiment(clone, tmp_path):
    environment = clone.environment | {"PATH": _path_without_project(tmp_path)}
    command = ["dvc", "exp", "run", "--temp", "--force", "report"]
    done = subprocess.run(command, cwd=clone.path, env=environment, capture_output=True, text=True, check=False)
    assert f"{clone.path / '.venv' / 'bin' / 'python'}|[]|" in done.stdout, done.stderr


def test_stage_has_settings_of_its_own(clone, tmp_path):
    (tmp_path / "yaml.py").write_text("raise SystemExit('a module of another project was imported')")
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONOPTIMIZE": "2", "PYTHONSAFEPATH": "1", "PYTHONUTF8": "0"}
    done = subprocess.run(
        ["./stage", "settings"],
        cwd=clone.path,
        env=clone.environment | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["0", "False", "1"], done.stderr


def test_stage_passes_arguments_on_and_is_executable(clone):
    assert (ROOT / "stage").stat().st_mode & stat.S_IXUSR
    assert "|['0.1', '--help']|None|" in clone("./stage", "report", "0.1", "--help")


def test_stage_without_name_shows_usage(clone):
    for arguments in ([], ["--help"]):
        assert "usage: ./stage <stage> [ratio]" in clone("./stage", *arguments, fails=True)
