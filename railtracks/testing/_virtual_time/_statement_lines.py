"""The lines of a file at which statements begin: these are the same for each version of Python."""

from __future__ import annotations

import ast
import functools
import linecache
import warnings


@functools.lru_cache(maxsize=1024)
def statement_lines(filename: str) -> frozenset[int] | None:
    """Return the numbers of the lines at which statements of a file begin; None if its source is not known."""
    source = "".join(linecache.getlines(filename))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whoever imported the file has had the warnings
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return None
    return frozenset(_lines(tree)) or None


def _lines(tree: ast.AST) -> set[int]:
    lines = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.ExceptHandler)}
    return lines | {node.pattern.lineno for node in ast.walk(tree) if isinstance(node, ast.match_case)}
