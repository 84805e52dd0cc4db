"""Make a copy of the package in which everything private has another name."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

PACKAGE = "railtracks"
_PATH = re.compile(rf"\b{PACKAGE}(?:\.\w+)+")
_KEEPS_STRINGS = {"_former_names.py"}
"""Modules whose strings say what earlier versions of the format recorded."""


def renamed(name: str) -> str:
    return f"{name}_renamed"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def renamed_path(dotted: str) -> str:
    """Return a dotted path with other names for its private modules."""
    first, *parts = dotted.split(".")
    return ".".join([first, *(renamed(part) if is_private(part) else part for part in parts)])


def renamed_copy(package: Path, target: Path) -> int:
    """Copy the package to ``target``, with other names for all that is private and for functions inside functions.

    Returns:
        How many names were changed.
    """
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
    modules = {
        ".".join((PACKAGE, *path.relative_to(target).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in target.rglob("*.py")
    }
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    private = {name: _private_definitions(tree) for name, tree in trees.items()}
    count = sum(map(len, private.values()))
    for name, path in modules.items():
        path.write_text(_rewritten(path, trees[name], name, private), encoding="utf-8")
    for path in sorted(target.rglob("_*"), key=lambda path: len(path.parts), reverse=True):
        if is_private(path.name) and (path.is_dir() or path.suffix == ".py"):
            path.rename(path.with_name(renamed(path.stem) + path.suffix))
            count += 1
    return count


def _private_definitions(tree: ast.Module) -> set[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {node.name for node in tree.body if isinstance(node, kinds) and is_private(node.name)}


def _rewritten(path: Path, tree: ast.Module, module: str, private: dict[str, set[str]]) -> str:
    lines = path.read_text(encoding="utf-8").split("\n")
    edits: list[tuple[int, int, int, str, str]] = []  # line, column, end column, old, new
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
        if alias.asname is None and (alias.name in private.get(node.module, ()) or _is_module(node, alias, private))
    }
    names = private[module] | imported
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            edits.append((node.lineno, node.col_offset, node.end_col_offset or 0, node.id, renamed(node.id)))
    edits += _definitions(tree, names, lines)
    for line, start, end, old, new in sorted(set(edits), reverse=True):
        text = lines[line - 1].encode()  # columns are counted in bytes
        assert text[start:end].decode() == old, (path, line, old)
        lines[line - 1] = (text[:start] + new.encode() + text[end:]).decode()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            _rewrite_import(node, lines, private)
    source = "\n".join(line for line in lines if line != _GONE)
    if path.name in _KEEPS_STRINGS:
        return source
    return re.sub(rf'(?<=")({PACKAGE}(?:\.\w+)*\._\w+)(?=")', lambda match: renamed_path(match[1]), source)


_GONE = "\0"


def _is_module(node: ast.ImportFrom, alias: ast.alias, private: dict[str, set[str]]) -> bool:
    return f"{node.module}.{alias.name}" in private and is_private(alias.name)


def _rewrite_import(node: ast.ImportFrom, lines: list[str], private: dict[str, set[str]]) -> None:
    assert node.module is not None
    aliases = [
        ast.alias(renamed(alias.name), alias.asname)
        if alias.name in private.get(node.module, ()) or _is_module(node, alias, private)
        else alias
        for alias in node.names
    ]
    new = ast.unparse(ast.ImportFrom(renamed_path(node.module), aliases, 0))
    last = node.end_lineno or node.lineno
    lines[node.lineno - 1] = " " * node.col_offset + new + lines[last - 1].encode()[node.end_col_offset :].decode()
    lines[node.lineno : last] = [_GONE] * (last - node.lineno)


def _definitions(tree: ast.Module, names: set[str], lines: list[str]) -> list[tuple[int, int, int, str, str]]:
    """Return the edits of private definitions at the top of a module, and of all functions inside functions."""
    edits = []
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    for node in tree.body:
        if isinstance(node, kinds | ast.ClassDef) and node.name in names:
            edits.append(_of_definition(node, lines))
    for outer in ast.walk(tree):
        if not isinstance(outer, kinds):
            continue
        inner = {node for child in outer.body for node in ast.walk(child) if isinstance(node, kinds)}
        methods = {node for child in ast.walk(outer) if isinstance(child, ast.ClassDef) for node in child.body}
        closures = {node.name for node in inner - methods if not node.name.startswith("__")}
        edits += [_of_definition(node, lines) for node in inner - methods if node.name in closures]
        edits += [
            (node.lineno, node.col_offset, node.end_col_offset or 0, node.id, renamed(node.id))
            for node in ast.walk(outer)
            if isinstance(node, ast.Name) and node.id in closures and not _is_argument(outer, node.id)
        ]
    return edits


def _is_argument(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    arguments = function.args
    return name in {arg.arg for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def _of_definition(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]
) -> tuple[int, int, int, str, str]:
    found = re.compile(rf"\b(?:def|class)\s+{node.name}\b").search(lines[node.lineno - 1])
    assert found is not None
    start = found.end() - len(node.name)
    return node.lineno, start, found.end(), node.name, renamed(node.name)
