"""Runs that version 3 of the format recorded: what it wrote in full is reused, and nothing else."""

from __future__ import annotations

import datetime
import json
import re
from collections import deque
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest

import railtracks as rt
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization import _structuring as structuring
from railtracks.state._serialization._former_text import former_inputs, former_output
from railtracks.state._serialization._record_text import inputs_text, result_text
from tests.durability.values import TYPED, UID, WHEN, Point, Square
from tests.durability.world import FOLDER, failing, flow_of, reasons, resumed, resumed_badly, without_checksums
from tests.state import seeing

AMBIGUOUS = {
    "datetime with a zone": WHEN,
    "model with a default": seeing.Model(x=1, y=2),
    "model with extra fields": seeing.Extra(x=1),
    "deque": deque([1]),
    "attribute of a list": seeing.OpenList([1]),
    "two places": (Decimal(1), "1"),
    "two containers": [(1,), [2]],
}


def as_version_3(text: str) -> str:
    """Return the text of a saved run as version 3 would have written it, if its types have one reading."""

    def types(match: re.Match[str]) -> str:
        entries = json.loads(match[2])
        assert all(isinstance(entry, str) and "*" not in place for place, entry in entries.items())
        return f'"{match[1]}_types": {json.dumps(" ".join(entries.values()))}'

    text = re.sub(r'"(input|output)_types": (\{[^{}]*\})', types, text)
    text = re.sub(r'\\"(input)_types\\": (\{[^{}]*\})', lambda m: json.dumps(types(unescaped(m)))[1:-1], text)
    return re.sub(r'^\{"version": \d+, ', '{"version": 3, ', without_checksums(text))


def unescaped(match: re.Match[str]) -> re.Match[str]:
    found = re.fullmatch(r'"(input)_types": (.*)', json.loads(f'"{match[0]}"'))
    assert found is not None
    return found


async def test_a_run_of_version_3_is_resumed_again_and_again(world):
    async def typed(point: Point, when: PurePosixPath) -> tuple[Point, Decimal]:
        world.note("typed")
        return point, Decimal(1)

    async def main(given: Square):
        assert given == Square(2)
        found = await rt.call(typed, Point(1, 2), PurePosixPath("a"))
        assert found == (Point(1, 2), Decimal(1))
        await rt.call(world.step, "x")

    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow, Square(2))
    file = FOLDER / "run.json"
    file.write_text(as_version_3(file.read_text()))
    assert '"input_types": "tests.durability.values.Point pathlib.PurePosixPath"' in file.read_text()
    for _ in range(2):
        await resumed_badly(flow)
    world.broken.clear()
    world.ran()
    _, session = await resumed(flow)
    assert world.ran() == ["x"], reasons(session.info)


async def test_a_method_of_an_object_is_found_under_its_former_key(world):
    class Shop(seeing.Attrs):
        async def sell(self):
            world.note("sell")

    async def main():
        await rt.call(Shop(1).sell)
        await rt.call(world.step, "x")

    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    file = FOLDER / "run.json"
    file.write_text(as_version_3(file.read_text()))
    assert '_types\\": \\"tests' in file.read_text()
    await resumed_badly(flow)
    await resumed_badly(flow)
    assert world.ran() == ["sell", "x", "x", "x"]


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_version_3_did_not_write_in_full_is_not_used(name):
    assert former_inputs((AMBIGUOUS[name],), {}) is None
    assert former_output(AMBIGUOUS[name]) is None


@pytest.mark.parametrize(
    ("annotation", "value"), [(datetime.datetime, WHEN), (seeing.Model, seeing.Model(x=1)), (deque, deque([1], 2))]
)
def test_a_result_that_is_ambiguous_in_version_3_is_not_restored(annotation, value):
    text = re.sub(
        r'_types": \{.*\}, ', f'_types": "{annotation.__module__}.{annotation.__qualname__}", ', written(value)
    )
    with pytest.raises(ValueError, match=r"earlier release|cannot be brought back"):
        structuring.restore_result(text, annotation)


def written(value: Any) -> str:
    return result_text(value, Redactor())


UNIQUE = {name: case for name, case in TYPED.items() if former_output(case[1]) is not None}


def test_most_values_have_one_reading_in_version_3():
    left_out = {*TYPED} - {*UNIQUE}
    assert left_out <= {
        "datetime", "optional datetime", "attrs", "union", "list of attrs", "pydantic", "list of models",
        "optional model", "list of lists of tuples", "dict by tuple", "dict by int", "dict by enum", "bytes in a tuple",
    }  # fmt: skip


@pytest.mark.parametrize("name", UNIQUE)
def test_a_result_of_version_3_comes_back_by_its_annotation(name):
    annotation, value = UNIQUE[name]
    text = former_output(value)
    assert text is not None
    restored = structuring.restore_result(text, annotation)
    assert (type(restored), restored, repr(restored)) == (type(value), value, repr(value))


def test_arguments_that_are_plain_are_written_as_ever():
    for args in ([1], [{"a": [None, "b"]}], [b"x", {1: 2}]):
        assert former_inputs(tuple(args), {}) == inputs_text(tuple(args), {}, Redactor())


def test_a_list_of_types_is_that_of_version_3():
    text = former_inputs((UID, [Point(1, 2)]), {"k": frozenset({Square(1)})})
    assert text is not None
    assert '"input_types": "uuid.UUID tests.durability.values.Point frozenset tests.durability.values.Square"' in text
