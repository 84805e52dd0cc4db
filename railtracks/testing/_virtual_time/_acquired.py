"""Where suspended code has acquired a lock that it still holds, as its source and its variables say.

Locks do not know where they were acquired. But a task that is suspended in the block of ``async with account.lock:``,
or below ``await account.lock.acquire()``, has acquired what ``account.lock`` is there. To find that out, no code of
users is run.
"""

from __future__ import annotations

import ast
import functools
import linecache
import warnings
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from railtracks.testing._virtual_time._held_locks import attribute_of
from railtracks.testing._virtual_time._tasks import is_user_code, place_of
from railtracks.testing._virtual_time._waits import is_lock

_Functions = ast.FunctionDef | ast.AsyncFunctionDef
Position = tuple[FrameType, int]
"""A frame, and the number of its line that runs."""
_METHODS = frozenset({"acquire", "acquire_nowait"})
_UNKNOWN = object()


def acquired_in(positions: Iterable[Position], leaves: bool = False) -> Iterator[tuple[Any, str]]:
    """Yield what a task has acquired and not released, each with where, such as ``transfer (settle.py:23)``.

    Args:
        positions: Where the task is in its frames, the outermost first.
        leaves: Whether it may be leaving a block, where it is at the first line again.
    """
    for frame, line in positions:
        if is_user_code(frame):
            code = frame.f_code
            for at, begin, end, written in _acquisitions(code.co_filename, code.co_firstlineno):
                if (at if leaves else begin) <= line <= end and is_lock(value := _value(frame, written)):
                    yield value, place_of(code, at)


def acquired_at(positions: Iterable[Position], lock: object, leaves: bool = False) -> str:
    """Return where a task has acquired a lock, or a limiter; "" if it has not, as far as is known."""
    return next((place for value, place in reversed([*acquired_in(positions, leaves)]) if value is lock), "")


@functools.lru_cache(maxsize=256)
def _acquisitions(filename: str, first_line: int) -> tuple[tuple[int, int, int, ast.expr], ...]:
    """Return where a function acquires something: the line, the first and last line where it has it, and what it is."""
    function = _functions(filename).get(first_line)
    return () if function is None else tuple(sorted(_found_in(function, function), key=lambda each: each[0]))


@functools.lru_cache(maxsize=64)
def _functions(filename: str) -> dict[int, _Functions]:
    """Return the functions in a file by their first lines, where those of decorators count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whoever imported the file has had the warnings
        try:
            tree = ast.parse("".join(linecache.getlines(filename)))
        except (SyntaxError, ValueError):
            return {}
    found = (node for node in ast.walk(tree) if isinstance(node, _Functions))
    return {min(each.lineno for each in (node, *node.decorator_list)): node for node in found}


def _found_in(function: _Functions, node: ast.AST) -> Iterator[tuple[int, int, int, ast.expr]]:
    end = function.end_lineno or function.lineno
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Functions | ast.ClassDef | ast.Lambda):
            continue  # which has frames of its own
        if isinstance(child, ast.With | ast.AsyncWith):
            for item in child.items:
                yield item.context_expr.lineno, child.body[0].lineno, child.end_lineno or end, item.context_expr
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in _METHODS:
            yield child.lineno, (child.end_lineno or child.lineno) + 1, end, child.func.value
        yield from _found_in(function, child)


def _value(frame: FrameType, written: ast.expr) -> Any:
    """Return what an expression of names, attributes and keys is in a frame; something of no use if it is another."""
    if isinstance(written, ast.Constant):
        return written.value
    if isinstance(written, ast.Name):
        return frame.f_locals.get(written.id, frame.f_globals.get(written.id, _UNKNOWN))
    if isinstance(written, ast.Attribute):
        return attribute_of(_value(frame, written.value), written.attr)
    if isinstance(written, ast.Subscript):
        container, key = _value(frame, written.value), _value(frame, written.slice)
        if type(container) is dict and type(key) in (str, int):
            return container.get(key, _UNKNOWN)
        if type(container) in (list, tuple) and type(key) is int and -len(container) <= key < len(container):
            return container[key]
    return _UNKNOWN
