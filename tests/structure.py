"""What the code of a stage says about itself: which project files it imports, which parameters it reads."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def imported_files(module: str) -> set[str]:
    """Project files, relative to the root, that importing `module` runs, itself and packages' `__init__` included."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return {path for path in found if (ROOT / path).read_text(encoding="utf-8").strip()}


def _file_of(module: str) -> str | None:
    base = ROOT / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file() and module.split(".")[0] == "stages":
            return path.relative_to(ROOT).as_posix()
    return None


def read_parameters(stage: str, declared: list[str]) -> set[str]:
    """Keys that the stage module reads: `params.a.b` is a leaf, `**params.a` is every declared leaf under `a`."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    chains = set()
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            inner.add(id(node.value))
    aliases = {
        node.targets[0].id: _chain(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _chain(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            chain = _chain(node, aliases)
            if chain:
                chains.add(chain)
    chains -= {chain for chain in aliases.values() if any(other.startswith(f"{chain}.") for other in chains)}
    if "everything" in chains:
        return set(declared)
    read = set()
    for chain in chains:
        under = {key for key in declared if key.startswith(f"{chain}.")}
        read |= under or {chain}
    return read


def _chain(node: ast.AST, aliases: dict[str, str] | None = None) -> str | None:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and parts:
        if node.id == "params":
            return ".".join(reversed(parts))
        if aliases and node.id in aliases:
            return ".".join([aliases[node.id], *reversed(parts)])
    return None
