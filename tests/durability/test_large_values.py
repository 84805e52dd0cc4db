"""Large values: recorded whole up to ``max_value_bytes``; what is larger is cut, with a warning."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

import railtracks as rt
from railtracks.state import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._plain_data import MAX_ITEMS, MAX_PARTS, MAX_TEXT
from railtracks.state._serialization._record_text import form_in, inputs_text, member_text, parse_members, result_text
from railtracks.state._serialization._structuring import restore_result

pytestmark = pytest.mark.either_backend

LARGE: dict[str, Any] = {
    "text": "x" * (MAX_TEXT + 1),
    "words": "a few words " * 200_000,
    "bytes": bytes(range(256)) * 5_000,
    "numbers": list(range(MAX_ITEMS + 1)),
    "pairs": [(n, Decimal(n)) for n in range(MAX_ITEMS + 1)],
    "mapping": {str(n): n for n in range(MAX_ITEMS + 1)},
    "keys": dict.fromkeys(range(MAX_ITEMS + 1), 1.5),
    "parts": [[n] * 10 for n in range(MAX_PARTS // 10 + 1)],
    "huge number": 1 << 4 * MAX_TEXT,
    "set": set(range(MAX_ITEMS + 1)),
}
large = pytest.mark.parametrize("value", LARGE.values(), ids=LARGE)


@large
def test_a_large_value_is_recorded_whole(value):
    text = result_text(value, Redactor())
    assert form_in(text) in (Form.PLAIN, Form.TYPED)
    assert restore_result(text, Any) == value


@large
def test_a_large_value_is_cut_beyond_the_limit(value):
    text = result_text(value, Redactor(), max_bytes=10_000)
    assert form_in(text) is Form.CUT
    assert len(text) < 3 * MAX_TEXT
    assert form_in(inputs_text((value,), {}, Redactor(), max_bytes=10_000)) is Form.CUT
    assert member_text("k", value, Redactor(), 10_000)[1] is Form.CUT


@large
def test_the_limit_is_the_bytes_on_record(value):
    members = parse_members(result_text(value, Redactor()))
    types = json.dumps(members["output_types"]) if "output_types" in members else ""
    size = len(json.dumps(members["output"])) + len(types)
    assert form_in(result_text(value, Redactor(), max_bytes=size)) is not Form.CUT
    assert form_in(result_text(value, Redactor(), max_bytes=size - 1)) is Form.CUT


def test_many_texts_together_are_cut_to_what_is_shown():
    text = result_text(["y" * 100_000] * 1_000, Redactor(), max_bytes=5_000_000)
    assert form_in(text) is Form.CUT
    assert len(text) < 2 * MAX_TEXT
    assert len(parse_members(text)["output"]) == 1_000


def test_a_secret_in_a_large_value_is_masked():
    redactor = Redactor()
    redactor.add("correct-horse-battery")
    for value in ("x" * 2_000_000 + "correct-horse-battery", [*["y"] * 20_000, "correct-horse-battery"]):
        text = result_text(value, redactor)
        assert form_in(text) is Form.MASKED
        assert "correct-horse" not in text


def test_secret_arguments_beyond_ten_thousand_are_masked():
    text = inputs_text(("s3cret-Word!",) * (MAX_ITEMS + 10), {}, Redactor(), frozenset(range(MAX_ITEMS)))
    assert parse_members(text)["input_args"] == ["***"] * (MAX_ITEMS + 10)


@rt.function_node
async def make(size: int) -> list[int]:
    return list(range(size))


@rt.function_node
async def take(values: list[int]) -> int:
    return len(values)


@rt.function_node
async def keep(size: int) -> None:
    rt.context.put("kept", "x" * size)


@rt.function_node
async def fail(size: int) -> None:
    raise ValueError("x" * size)


@rt.function_node
async def nest(levels: int) -> Any:
    made: Any = []
    for _ in range(levels):
        made = [made]
    return made


def warnings_of(caplog: Any) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith("Not all on record")]


TOO_LARGE: dict[str, tuple[Any, Any, str]] = {
    "result": (make, 5_000, "the result of make is too large (list of 5,000 items)"),
    "arguments": (take, list(range(5_000)), "the arguments of take are too large (list of 5,000 items)"),
    "context": (keep, 5_000, "the value of 'kept' in the context, put there by keep, is too large (str of 5,000 char"),
    "exception": (fail, 5_000, "the exception that fail raised is too large"),
    "nesting": (nest, 70, "the result of nest is too large"),
}


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
@pytest.mark.parametrize(("node", "argument", "expected"), TOO_LARGE.values(), ids=TOO_LARGE)
async def test_what_is_too_large_is_warned_of_once(caplog, durability, node, argument, expected):
    async with rt.Session(max_value_bytes=1_000, durability=durability):
        await rt.call_batch(node, [argument] * 3)
    found = warnings_of(caplog)
    assert len(found) == 1
    assert expected in found[0]
    assert "max_value_bytes=1000" in found[0]


async def test_what_is_not_too_large_is_not_warned_of(caplog):
    async with rt.Session():
        values = await rt.call(make, 20_000)
        await rt.call(take, values)
        await rt.call(keep, 2_000_000)
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("limit", [None, 1_000])
def test_calls_run_again_only_if_values_exceed_the_limit(backend, limit):
    ran: list[str] = []
    down = [True]

    @rt.function_node
    async def numbers() -> list[int]:
        ran.append("numbers")
        return list(range(MAX_ITEMS + 1))

    @rt.function_node
    async def image(numbers: list[int]) -> bytes:
        ran.append("image")
        return b"\x89PNG" * 300_000

    @rt.function_node
    async def page(size: int) -> int:
        await rt.call(image, await rt.call(numbers))
        if down.pop():
            raise ConnectionError
        return size

    flow = rt.Flow("Pages", page, run_identifier="p", backend=backend, logging_setting="NONE", max_value_bytes=limit)
    with pytest.raises(ConnectionError):
        flow.invoke(5)
    down[:] = [False]
    assert flow.resume("p") == 5
    assert ran == ["numbers", "image"] * (1 if limit is None else 2)
