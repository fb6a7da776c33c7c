"""What the documentation says about commands, parameters, paths, links and the pipeline, against what is there."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from helpers.structure import ROOT, imported_files

GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDES, ROOT / "CHANGELOG.md"]  # A changelog names commands and paths that are gone, but its links work.
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]
FILE_ENDINGS = ("npy", "csv", "json")
DIRECTORIES = ("stages", "tests", "benchmarks", "presets", "docs", "data", "models", "metrics", "plots")

each_guide = pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


# Markdown


def _fences(text):
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def _prose(text):
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def _code(text):
    """Return code in backticks, and the lines of shell blocks without their comments."""
    lines = [
        line.split("  #")[0].strip() for kind, block in _fences(text) if kind == "sh" for line in block.splitlines()
    ]
    return re.findall(r"`([^`\n]+)`", _prose(text)) + lines


def _commands(text):
    """Return the words of each command, without assignments before it."""
    for code in _code(text):
        for command in re.split(r"&&|\|", code):
            try:
                words = shlex.split(command)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words


def _tables(text):
    """Return each table as a list of rows, which are lists of cells."""
    for block in re.findall(r"(?:^\|.*\|$\n?)+", _prose(text), re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def _anchors(path):
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", _prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Pipeline


def _paths(entries):
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _outputs(stage):
    entry = STAGES[stage]
    paths = _paths([*entry.get("outs", []), *entry.get("metrics", [])])
    return [re.sub(r"\$\{.*?\}", "*", path) for path in paths]


def _overlap(one, other):
    """Return whether one path is the other, or inside it."""
    one, other = one.rstrip("/"), other.rstrip("/")
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _inputs(stage):
    """Return the dependencies of a stage, with the method whose predictions are made in place of its parameter."""
    method = yaml.safe_load((ROOT / "params.yaml").read_text())["predict"]["method"]
    return [dep.replace("${predict.method}", method) for dep in STAGES[stage].get("deps", [])]


EDGES = {
    (producer, stage)
    for producer in STAGES
    for stage in STAGES
    if any(_overlap(dep, out) for dep in _inputs(stage) for out in _outputs(producer))
}


def _behind(stages):
    """Return the stages that depend on any of `stages`, directly or not, except these."""
    found = set(stages)
    while more := {stage for producer, stage in EDGES if producer in found} - found:
        found |= more
    return found - set(stages)


def _leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


PARAMETERS = set(_leaves(yaml.safe_load((ROOT / "params.yaml").read_text())))


def _is_parameter(key):
    """Return whether a parameter, a section, or a pattern such as `tsne.*` is in params.yaml."""
    key = key.removesuffix(".*")
    return any(leaf == key or leaf.startswith(f"{key}.") for leaf in PARAMETERS)


def _is_stage(name):
    return name.partition("@")[0] in STAGES


def _module(name):
    base = ROOT / Path(*name.split("."))
    return base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"


# Tests


def test_readme_is_short_and_begins_with_picture():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 700
    assert any("![" in line for line in text.splitlines()[:15])


@each_page
def test_links_and_anchors_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


@each_guide
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for words in _commands(page.read_text()):
        if words[0] == "make":
            for target in words[1:]:
                assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target


@each_guide
def test_stages_and_modules_exist(page):
    for words in _commands(page.read_text()):
        if words[0] == "./stage":
            assert words[1] == "<name>" or words[1] in STAGES, words
        elif "-m" in words:
            name = words[words.index("-m") + 1]
            assert _module(name).is_file(), name
            for option in words[words.index(name) + 1 :]:
                # The module itself, or what it imports, declares the option.
                texts = [(ROOT / path).read_text() for path in imported_files(name)]
                assert not option.startswith("-") or any(f'"{option}"' in text for text in texts), option


@each_guide
def test_study_ratio_is_one_of_parameters(page):
    ratios = yaml.safe_load((ROOT / "params.yaml").read_text())["study"]["label_ratios"]
    for words in _commands(page.read_text()):
        if words[:2] == ["./stage", "study"] and len(words) > 2:
            assert float(words[2]) in ratios


@each_guide
def test_dvc_commands_name_parameters_and_stages(page):
    for words in _commands(page.read_text()):
        if words[:3] == ["dvc", "exp", "run"]:
            for option, word in pairwise(words[2:]):
                if option == "-S":
                    assert _is_parameter(word.partition("=")[0]), word
                elif option != "-n" and not word.startswith("-"):
                    assert _is_stage(word), word
        elif words[:2] in (["dvc", "repro"], ["dvc", "commit"]):
            for word in words[2:]:
                assert word.startswith("-") or _is_stage(word), word


@each_guide
def test_parameters_exist(page):
    sections = {leaf.partition(".")[0] for leaf in PARAMETERS if "." in leaf}
    for code in re.findall(r"`([^`\n]+)`", _prose(page.read_text())):
        key = re.split(r"[:=]", code)[0]
        section, _, rest = key.partition(".")
        if section in sections and re.fullmatch(r"[A-Za-z_.]+|\*", rest) and rest not in FILE_ENDINGS:
            assert _is_parameter(key), code


@each_guide
def test_paths_exist(page):
    outputs = [path for stage in STAGES for path in _outputs(stage)]
    text = page.read_text()
    words = [word for code in _code(text) for word in code.split()]
    words += [
        line.split()[0] for kind, block in _fences(text) if kind == "text" for line in block.splitlines() if "/" in line
    ]
    for word in words:
        if not word.startswith(tuple(f"{directory}/" for directory in DIRECTORIES)):
            continue
        pattern = re.sub(r"<[^>]*>", "*", word).rstrip("/")
        found = any(ROOT.glob(pattern)) or any(_overlap(pattern, output) for output in outputs)
        assert found or pattern in DIRECTORIES, word


def test_graph_is_that_of_pipeline():
    (graph,) = [block for kind, block in _fences((ROOT / "README.md").read_text()) if kind == "mermaid"]
    drawn = set()
    for line in graph.splitlines()[1:]:
        groups = [group.split(" & ") for group in line.strip().split(" --> ")]
        for first, second in pairwise(groups):
            drawn |= {(one, other) for one in first for other in second}

    # Edges that a longer path implies are not drawn.
    assert drawn == {
        (first, last)
        for first, last in EDGES
        if not any((first, between) in EDGES and last in _behind([between]) for between in STAGES)
    }


def _named_stages(cell):
    named = set(re.findall(r"`(\w+)`", cell))
    return set(STAGES) - named if "everything" in cell else named


def test_table_of_parameters_says_what_runs():
    (table,) = [rows for rows in _tables((ROOT / "docs/experiments.md").read_text()) if rows[0][0] == "parameter"]
    for cell, runs in table[1:]:
        key = re.findall(r"`([^`]+)`", cell)[0].removesuffix(".*")
        readers = {
            stage
            for stage, entry in STAGES.items()
            if any(_reads(key, declared) for declared in entry.get("params", []))
        }
        if key == "study.label_ratios":
            readers |= {"study"}
        assert readers <= _named_stages(runs) <= readers | _behind(readers), cell


def _reads(key, declared):
    return key == declared or key.startswith(f"{declared}.") or declared.startswith(f"{key}.")


def test_table_of_edits_says_what_runs():
    (table,) = [rows for rows in _tables((ROOT / "CONTRIBUTING.md").read_text()) if rows[0][0] == "edit"]
    for cell, always, perhaps in table[1:]:
        path = cell.strip("`")
        users = {
            stage
            for stage, entry in STAGES.items()
            if any(_overlap(path, dep) for dep in entry["deps"] if dep.startswith("stages/"))
        }
        assert _named_stages(always) == users, path
        assert _named_stages(perhaps) - users == _behind(users), path


def test_citation_and_changelog_name_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version, date = re.findall(r"^## \[(.*)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= {"message", "title", "authors"}
    assert (citation["version"], str(citation["date-released"])) == (version, date)
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
