"""What the code of a stage says about itself: which project files it imports, and which parameters it reads."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def imported_files(module: str) -> frozenset[str]:
    """Return the project files with code, relative to the root, that importing `module` runs, itself included."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or path in found:
            continue
        found.add(path)
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return frozenset(path for path in found if _has_code(path))


def code_dependencies(stage: str) -> set[str]:
    """Return what a stage has to declare: `pipeline`, packages of which it imports every file, and single files."""
    files = set(imported_files(f"stages.{stage}"))
    packages = sorted(path for path in (ROOT / "stages").rglob("*") if path.is_dir() and path.name != "__pycache__")
    for package in packages:
        name = package.relative_to(ROOT).as_posix()
        members = {path.relative_to(ROOT).as_posix() for path in package.rglob("*.py")}
        members = {path for path in members if _has_code(path)}
        if members and (members <= files or name == "stages/pipeline"):
            files = {path for path in files if path not in members} | {name}
    return files


def _parse(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@cache
def _has_code(path: str) -> bool:
    """Return whether a file holds more than a docstring."""
    body = _parse(path).body
    return len(body) > (ast.get_docstring(_parse(path)) is not None)


def _file_of(module: str) -> str | None:
    base = ROOT / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file() and module.split(".")[0] == "stages":
            return path.relative_to(ROOT).as_posix()
    return None


def read_parameters(stage: str) -> set[str]:
    """Return the dotted names by which a stage module reads `params`; `flat` stands for all that it declares."""
    tree = _parse(f"stages/{stage}.py")
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    chains = {_chain(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in inner}
    return {chain for chain in chains if chain}


def _chain(node: ast.AST) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed(parts)) if isinstance(node, ast.Name) and node.id == "params" else ""


def leaves(values: dict, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every parameter in a nested dictionary."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef, list[str]]]:
    """Yield the name, the node and the source lines of every function in a file."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield f"{path.relative_to(ROOT)}: {node.name}", node, text.splitlines()[node.lineno - 1 : node.end_lineno]
