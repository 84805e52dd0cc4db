"""Structured answers inside a fence of Markdown."""

from __future__ import annotations

import attrs
import pytest

from railtracks._schema._arguments import ArgumentError, structured_output


@attrs.frozen
class Place:
    name: str


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\r\n", "```", "`"])
def test_an_answer_that_goes_on_and_on_is_refused(space):
    with pytest.raises(ArgumentError):  # a quadratic search for the fence would take hours
        structured_output("```json\n" + space * 3_000_000 + "x", Place)


@pytest.mark.parametrize("opening", ["```", "```json", "```json  ", "  ```json", "\n\n```"])
@pytest.mark.parametrize("closing", ["\n```", "```", "\n```  \n", "\n\n  ```"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_fence_around_an_answer_is_taken_off(opening, closing, end):
    text = f'{opening}\n{{"name":\n"a```b"}}{closing}'.replace("\n", end)
    assert structured_output(text, Place) == Place("a```b")


@pytest.mark.parametrize("text", ['{"name": "a"}', '\r\n {"name": "a"} \n', '{"name":\r\n"a"}'])
def test_an_answer_needs_no_fence(text):
    assert structured_output(text, Place) == Place("a")


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "a"}',
        '{"name": "a"}\n```',
        'Here it is: {"name": "a"}. Anything else?',
        'Sure!\n```json\n{"name": "a"}\n```\nIt is a town.',
        '<think>A town.</think>\n{"name": "a"}',
    ],
)
def test_text_around_an_answer_is_left_out(text):
    assert structured_output(text, Place) == Place("a")


@attrs.frozen
class Tree:
    name: str
    parts: list[Tree]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a", "parts": [{"name": "b", "parts": []}',
        '{"name": "a", "parts": []} or {"name": "b", "parts": []}',
        'Braces, { or }, come first: {"name": "a", "parts": []}',
    ],
)
def test_a_part_of_an_answer_does_not_pass_for_it(text):
    with pytest.raises(ArgumentError, match="the answer must be JSON alone"):
        structured_output(text, Tree)


@pytest.mark.parametrize("text", ["```", "```\n```", "``````", "", "}{"])
def test_an_answer_without_json_is_refused(text):
    with pytest.raises(ArgumentError, match="the answer must be JSON alone"):
        structured_output(text, Place)
