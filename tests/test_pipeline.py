"""dvc.yaml against the code, and dvc.lock against the tree."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from structure import ROOT, imported_files, read_parameters

PIPELINE = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
LOCK = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())
STAGES = PIPELINE["stages"]


def _paths(entries):
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_stages_are_those_of_the_design():
    expected = "download sample label supervised pretrain embed tsne probe fine_tune semi_supervised study compare"
    assert list(STAGES) == expected.split()


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_real_imports(stage):
    declared = {path for path in STAGES[stage]["deps"] if path.endswith(".py")}
    assert declared == imported_files(f"stages.{stage}")


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_those_that_are_read(stage):
    declared = STAGES[stage]["params"]
    assert len(declared) == len(set(declared))
    read = read_parameters(stage, declared)
    read |= {"study.label_ratios"} & set(declared) if "matrix" in STAGES[stage] else set()
    assert set(declared) == read


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_leaves(stage):
    leaves = set(_leaves(YAML(typ="safe").load((ROOT / "params.yaml").read_text())))
    assert set(STAGES[stage]["params"]) <= leaves


def test_every_parameter_is_declared_somewhere():
    declared = {key for stage in STAGES.values() for key in stage["params"]}
    declared |= {"study.label_ratios"}
    assert declared == set(_leaves(YAML(typ="safe").load((ROOT / "params.yaml").read_text())))


def test_imports_run_downward():
    for path in (ROOT / "stages").rglob("*.py"):
        room = path.relative_to(ROOT / "stages").parts[0]
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        reached = {Path(found).parts[1] for found in imported_files(module)} - {path.name}
        if room == "images":
            assert not reached & {"learning", "reporting"}, module
        if room == "learning":
            assert "reporting" not in reached, module
        if room in ("images", "learning", "reporting"):
            assert not reached & {f"{stage}.py" for stage in STAGES}, module


def test_lock_has_the_stages_of_the_pipeline_and_no_others():
    ratios = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["study"]["label_ratios"]
    names = [stage for stage in STAGES if stage != "study"] + [f"study@{ratio}" for ratio in ratios]
    assert set(LOCK["stages"]) == set(names)


def test_lock_describes_the_tracked_files():
    tracked = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    )
    checked = 0
    for stage in LOCK["stages"].values():
        for entry in stage["deps"] + stage.get("outs", []):
            if entry["path"] in tracked:
                digest = hashlib.md5((ROOT / entry["path"]).read_bytes()).hexdigest()
                assert digest == entry["md5"], f"{entry['path']} is not what dvc.lock was made with: run `dvc repro`"
                checked += 1
    assert checked > 100


def test_lock_holds_the_parameters_of_the_tree():
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for name, stage in LOCK["stages"].items():
        for key, value in stage.get("params", {}).get("params.yaml", {}).items():
            found = params
            for part in key.split("."):
                found = found[part]
            assert found == value, f"{name}: {key}"


def test_small_results_are_in_git():
    tracked = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    )
    for name, stage in STAGES.items():
        for entry in stage.get("outs", []) + stage.get("metrics", []):
            if isinstance(entry, dict):
                path = next(iter(entry))
                if "${" not in path:
                    assert any(file == path or file.startswith(f"{path}/") for file in tracked), f"{name}: {path}"


def test_plots_are_outputs():
    outs = {path for stage in STAGES.values() for path in _paths(stage.get("outs", []))}
    for plot in PIPELINE["plots"]:
        name, spec = (plot, {}) if isinstance(plot, str) else next(iter(plot.items()))
        files = [name] if not isinstance(spec.get("y"), dict) else list(spec["y"])
        assert set(files) <= outs, name
