"""Makes programs that fail smaller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from tests.fuzz import programs as p
from tests.fuzz import runner
from tests.fuzz.notes import Broken


def shrink(
    program: p.Program, backend: str, seed: int, broken: list[Broken], runs: int
) -> tuple[p.Program, list[Broken]]:
    """Return a smaller program that breaks the same invariant, and how, found within a number of runs."""
    wanted = broken[0].invariant
    found = True
    while found:
        found = False
        for candidate in _smaller(program):
            if runs <= 0:
                return program, broken
            runs -= 1
            result = runner.run(candidate, backend, seed)
            if any(each.invariant == wanted for each in result):
                program, broken, found = candidate, result, True
                break
    return program, broken


def _smaller(value: Any) -> Iterator[Any]:
    """Yield what is a little smaller than a part of a program, the smallest first."""
    if isinstance(value, tuple):
        yield from _smaller_tuple(value)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            given = getattr(value, field.name)
            if field.default is not attrs.NOTHING and given != field.default and not isinstance(given, tuple):
                yield attrs.evolve(value, **{field.name: field.default})
            for smaller in _smaller(given):
                yield attrs.evolve(value, **{field.name: smaller})


def _smaller_tuple(value: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if all(isinstance(each, int | float) for each in value):  # a moment
        units, turns = value or (0, 0)
        if value and turns > 0:
            yield (units, turns - 1)
        return
    for index, part in enumerate(value):
        before, after = value[:index], value[index + 1 :]
        yield before + after
        for inner in _blocks_of(part):
            yield before + inner + after
        for smaller in _smaller(part):
            yield (*before, smaller, *after)


def _blocks_of(part: Any) -> Iterator[p.Block]:
    """Yield the blocks that a step consists of, which may stand in its place."""
    if isinstance(part, p.Step):
        for field in attrs.fields(type(part)):
            given = getattr(part, field.name)
            if isinstance(given, tuple) and given and all(isinstance(each, p.Step) for each in given):
                yield given
            elif field.name == "blocks":
                yield from given
