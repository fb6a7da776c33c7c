"""dvc.yaml against the code, dvc.lock against the tree, and the rules that keep the code readable."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from helpers.structure import ROOT, code_dependencies, functions, imported_files, leaves, read_parameters
from ruamel.yaml import YAML

from stages.verify import directory_checksums, listing_checksum

PIPELINE = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
LOCK = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
STAGES = PIPELINE["stages"]
COMMANDS = ("export", "clean_scratch", "experiments", "seeds", "verify")
PACKAGES = ("pipeline", "images", "models", "losses", "training", "methods", "evaluation", "reporting", "labeling")
SOURCES = sorted(path for package in ("stages", "benchmarks") for path in (ROOT / package).rglob("*.py"))


def _paths(entries):
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _expand(keys):
    """Return the leaf parameters that keys, of parameters or sections, stand for."""
    return {leaf for key in keys for leaf in leaves(PARAMS) if leaf == key or leaf.startswith(f"{key}.")}


def _tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


def test_stages_are_those_of_the_design():
    # `dvc repro` runs them in this order, so that images without any label are suggested before `label` stops.
    expected = "scan download sample pretrain suggest label supervised embed tsne probe fine_tune semi_supervised"
    assert list(STAGES) == [*expected.split(), "predict", "study", "compare"]


def test_dvc_yaml_is_read_in_one_sitting():
    lines = (ROOT / "dvc.yaml").read_text().splitlines()
    assert len(lines) <= 340
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize("stage", STAGES)
def test_cmd_has_no_shell_syntax(stage):
    assert re.fullmatch(rf"\./stage {stage}( \$\{{item\.ratio\}})?", STAGES[stage]["cmd"])


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_real_imports(stage):
    declared = {path for path in STAGES[stage]["deps"] if path.startswith("stages/") and "/templates/" not in path}
    assert declared == code_dependencies(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_are_those_that_are_read(stage):
    declared, read = STAGES[stage]["params"], read_parameters(stage)
    assert len(_expand(declared)) == sum(len(_expand([key])) for key in declared), "a key is declared twice"
    if "flat" not in read:
        assert _expand(declared) == _expand(read)


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_exist(stage):
    assert all(_expand([key]) for key in STAGES[stage]["params"])


def test_declared_params_are_all_of_params_yaml():
    declared = {key for stage in STAGES.values() for key in stage["params"]}
    assert _expand([*declared, "study.label_ratios"]) == set(leaves(PARAMS))


@pytest.mark.parametrize("key", sorted(leaves(PARAMS)))
def test_parameter_is_read_by_the_code_of_a_stage_that_declares_it(key):
    """A method that takes a section as a whole reads every parameter in it."""
    name = key.rpartition(".")[2]
    stages = [stage for stage in STAGES if key in _expand(STAGES[stage]["params"])]
    files = {path for stage in stages for path in imported_files(f"stages.{stage}")} - {"stages/pipeline/params.py"}
    text = "\n".join((ROOT / path).read_text() for path in sorted(files))
    assert re.search(rf"\.{name}\b", text)


def test_imports_run_downward():
    """A package imports packages before it in the list only, and no stage."""
    for position, package in enumerate(PACKAGES):
        for path in (ROOT / "stages" / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            reached = {Path(found).parts[1] for found in imported_files(module)} - {"__init__.py"}
            assert reached <= set(PACKAGES[: position + 1]), module


def test_packages_and_stages_are_all_there_is():
    found = {path.name for path in (ROOT / "stages").iterdir()} - {"__pycache__", "__init__.py"}
    assert found == {*PACKAGES, *(f"{name}.py" for name in (*STAGES, *COMMANDS))}


def test_lock_has_the_stages_of_the_pipeline_and_no_others():
    names = [stage for stage in STAGES if stage != "study"]
    names += [f"study@{ratio}" for ratio in PARAMS["study"]["label_ratios"]]
    assert set(LOCK["stages"]) == set(names)


def test_lock_describes_the_tracked_files():
    tracked = _tracked()
    checked = 0
    for stage in LOCK["stages"].values():
        for entry in stage["deps"] + stage.get("outs", []):
            path = ROOT / entry["path"]
            if entry["path"] in tracked:
                digest = hashlib.md5(path.read_bytes()).hexdigest()
            elif any(file.startswith(f"{entry['path']}/") for file in tracked):
                digest = listing_checksum(directory_checksums(path))
            else:
                continue
            assert digest == entry["md5"], f"{entry['path']} is not what dvc.lock was made with: run `dvc repro`"
            checked += 1
    assert checked > 100


def test_lock_holds_the_params_of_the_tree():
    for name, stage in LOCK["stages"].items():
        for key, value in stage.get("params", {}).get("params.yaml", {}).items():
            found = PARAMS
            for part in key.split("."):
                found = found[part]
            assert found == value, f"{name}: {key}"


def test_small_results_are_in_git():
    tracked = _tracked()
    for name, stage in STAGES.items():
        for entry in stage.get("outs", []) + stage.get("metrics", []):
            if isinstance(entry, dict) and next(iter(entry.values())).get("cache") is False:
                path = next(iter(entry))
                if "${" not in path:
                    assert any(file == path or file.startswith(f"{path}/") for file in tracked), f"{name}: {path}"


def test_stages_that_build_encoders_read_changed_weights_again():
    building = {name for name, stage in STAGES.items() if "encoder" in stage.get("params", [])} - {"scan", "compare"}
    assert building == {"supervised", "pretrain", "study"}
    assert all("data/weights.json" in STAGES[name]["deps"] for name in building)


def test_plots_are_outputs():
    outs = {path for stage in STAGES.values() for path in _paths(stage.get("outs", []))}
    for plot in PIPELINE["plots"]:
        name, spec = (plot, {}) if isinstance(plot, str) else next(iter(plot.items()))
        files = [name] if not isinstance(spec.get("y"), dict) else list(spec["y"])
        assert set(files) <= outs, name


# One row for a package or file: the stages that an edit of it reruns. Those behind them rerun only if outputs change.
TRAIN = {"supervised", "pretrain", "fine_tune", "semi_supervised", "study"}
CLASSIFY = {"supervised", "probe", "fine_tune", "semi_supervised", "study"}
EDITS = {
    "stages/pipeline/files.py": set(STAGES),
    "stages/images/sources/folder.py": {"download"},
    "stages/images/sources/listing.py": {"download", "predict", "suggest"},
    "stages/images/sources/walk.py": {"scan", "download", "predict", "suggest"},
    "stages/images/subsets.py": {"sample", "label", "embed", "semi_supervised", "study"},
    "stages/images/views.py": {*TRAIN, "embed", "probe", "compare", "predict", "suggest"},
    "stages/models/encoders.py": {*TRAIN, "embed", "probe", "predict", "suggest"},
    "stages/losses/barlow_twins.py": {"pretrain", "semi_supervised", "study"},
    "stages/losses/pseudo_labels.py": {"semi_supervised", "study"},
    "stages/training/loop.py": TRAIN,
    "stages/methods/barlow_twins.py": {"pretrain"},
    "stages/methods/supervised.py": {"supervised", "fine_tune", "study"},
    "stages/methods/linear_probe.py": {"probe", "study"},
    "stages/methods/semi_supervised.py": {"semi_supervised", "study"},
    "stages/evaluation/accuracy.py": {*CLASSIFY, "compare", "predict"},
    "stages/evaluation/predictions.py": CLASSIFY,
    "stages/evaluation/representation.py": {"embed"},
    "stages/evaluation/tsne.py": {"tsne"},
    "stages/evaluation/statistics.py": {"compare"},
    "stages/evaluation/warnings.py": {"supervised", "embed", "fine_tune", "semi_supervised", "compare"},
    "stages/reporting/records.py": {"tsne", "compare", "predict"},
    "stages/labeling/classification.py": {"predict"},
    "stages/labeling/suggestions.py": {"suggest"},
    "stages/reporting/templates/label.js": {"suggest"},
    "stages/reporting/runs.py": {"compare"},
    "stages/seeds.py": set(),
    "stages/reporting/figures/comparison.py": {"compare"},
    "stages/reporting/figures/representation.py": {"tsne", "compare"},
    "stages/reporting/templates/report.html": {"compare"},
    "stages/reporting/templates/evolution.js": {"tsne"},
    "stages/supervised.py": {"supervised"},
    "stage": set(),
}


@pytest.mark.parametrize("path", EDITS)
def test_edit_reruns_what_it_concerns(path):
    assert (ROOT / path).is_file()
    declared = {
        name: [dep for dep in stage["deps"] if dep == path or path.startswith(f"{dep}/")]
        for name, stage in STAGES.items()
    }
    assert {name for name, found in declared.items() if found} == EDITS[path]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_functions_are_short_and_in_paragraphs(path):
    for name, node, lines in functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        assert len(lines) <= 60, f"{name} has {len(lines)} lines"
        assert len([argument for argument in arguments if argument.arg not in ("self", "cls")]) <= 9, name
        runs = [len(run.strip("\n").splitlines()) for run in re.split(r"\n\s*\n", "\n".join(lines))]
        assert max(runs) <= 25, f"{name} has {max(runs)} lines without a break"


def test_type_ignores_are_few_and_explained():
    lines = [line for path in SOURCES for line in path.read_text().splitlines() if "type: ignore" in line]
    assert len(lines) <= 5
    assert [line for line in lines if not re.search(r"type: ignore\[[a-z-, ]+\]  # \w", line)] == []
