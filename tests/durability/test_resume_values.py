"""Resuming with generated values: what fits its annotation comes back as it was."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from pathlib import Path
from typing import Any

import attrs
from hypothesis import assume, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state import Form, MemoryStore
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import form_in, result_text
from tests import virtual
from tests.effort import examples


class Color(enum.Enum):
    RED = "red"
    ONE = 1


@attrs.frozen
class Part:
    name: str
    when: datetime.datetime | None
    numbers: tuple[int, ...]


scalars = st.sampled_from(
    [int, str, bool, bytes, datetime.datetime, datetime.date, decimal.Decimal, uuid.UUID, Path, Color, Part]
)
st.register_type_strategy(Path, st.lists(st.text("ab.\u00e9 ", min_size=1), max_size=3).map(lambda parts: Path(*parts)))
type_hints: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        inner.map(lambda one: list[one])
        | inner.map(lambda one: tuple[one, ...])
        | st.tuples(inner, inner).map(lambda two: tuple[two])
        | inner.map(lambda one: dict[str, one])
        | st.sampled_from([int, str, Color, uuid.UUID, Path]).map(lambda one: set[one])
        | st.tuples(st.sampled_from([int, Color, datetime.date]), inner).map(lambda two: dict[two])
        | inner.map(lambda one: one | None)
    ),
    max_leaves=4,
)


def typed_values():
    return type_hints.flatmap(lambda kind: st.tuples(st.just(kind), st.from_type(kind)))


def kinds(value):
    """The value as something whose equality counts types too."""
    if isinstance(value, list | tuple):
        return type(value), [kinds(each) for each in value]
    if isinstance(value, dict):
        return dict, [(kinds(key), kinds(each)) for key, each in value.items()]
    if attrs.has(type(value)):
        return type(value), kinds(attrs.astuple(value, recurse=False))
    return type(value), value if isinstance(value, set | datetime.date) else repr(value)


@examples(100)
@given(typed_values())
def test_a_value_that_fits_its_annotation_comes_back_as_it_was(case):
    annotation, value = case
    assume(form_in(result_text(value, Redactor())) is not Form.MASKED)  # a generated key may name a secret
    got = []

    async def give():
        ran.append("give")
        return value

    async def main(given):
        got.append((given, await rt.call(give)))
        if len(got) == 1:
            raise ValueError

    give.__annotations__["return"] = main.__annotations__["given"] = annotation
    ran = []
    flow = rt.Flow("Flow", main, run_identifier="run", store=MemoryStore(), logging_setting="NONE")

    async def both():
        try:
            await flow.ainvoke(value)
        except ValueError:
            await flow.aresume("run")

    virtual.run("asyncio", both)
    assert [kinds(each) for each in got[1]] == [kinds(value)] * 2
    assert ran == ["give"]
