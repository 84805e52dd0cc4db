"""Answers that are not whole, and bounds of a run: errors of their kind, with what is known, and nothing paid twice."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import attrs
import pydantic
import pytest

import railtracks as rt
from railtracks.exceptions import Filtered, LimitExceeded, LLMError, Refused, Truncated
from railtracks.llm import AssistantMessage, Completion, ToolCall, ToolMessage, Usage, UserMessage
from railtracks.testing import ScriptedModel, tool_call


@attrs.frozen
class Note:
    text: str


def ended(reason, text="Once upon a", calls=(), usage=None):
    return Completion(AssistantMessage(text, calls), usage=usage or Usage(3, 4), finish_reason=reason)


@rt.function_node
async def write(path: str, text: str = "") -> str:
    return f"{path}: {text}"


@pytest.mark.parametrize("schema", [None, Note])
@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("length", Truncated),
        ("max_tokens", Truncated),
        ("MAX_TOKENS", Truncated),
        ("model_context_window_exceeded", Truncated),
        ("content_filter", Filtered),
        ("SAFETY", Filtered),
        ("refusal", Refused),
        ("content_filter: PROHIBITED_CONTENT", Filtered),
        ("insufficient_system_resource", LLMError),
        ("ERROR", LLMError),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_error(reason, kind, schema):
    model = ScriptedModel([ended(reason)])
    with pytest.raises(kind, match=reason) as caught:
        await rt.call(rt.agent_node("Teller", llm=model, output_schema=schema), "A story!")
    assert len(model.calls) == 1
    assert caught.value.usage == Usage(3, 4)
    assert [each.content for each in caught.value.message_history] == ["A story!", "Once upon a"]


async def test_the_finish_reason_is_with_the_result():
    agent = rt.agent_node("Teller", llm=ScriptedModel([ended("stop")]))
    assert (await rt.call(agent, "A story!")).finish_reason == "stop"


async def test_a_resumed_run_asks_again_after_a_cut_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ScriptedModel([ended("length"), "All of it."])
    flow = rt.Flow("Telling", rt.agent_node("Teller", llm=model), run_identifier="r", logging_setting="NONE")
    with pytest.raises(Truncated):
        await flow.ainvoke("A story!")
    assert str(await flow.aresume("r")) == "All of it."


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "function_call_filter: MALFORMED_FUNCTION_CALL",
                                    "malformed_tool_use"])  # fmt: skip
@pytest.mark.parametrize("repairs", [0, 1])
async def test_a_model_whose_call_was_unreadable_is_asked_again(reason, repairs):
    model = ScriptedModel([ended(reason, ""), "Done."])
    agent = rt.agent_node("Writer", llm=model, tool_nodes=[write], repairs=repairs)
    if not repairs:
        with pytest.raises(LLMError, match="your call of a tool could not be read"):
            await rt.call(agent, "Write!")
        return
    response = await rt.call(agent, "Write!")
    assert str(response) == "Done."
    assert "make it again" in response.message_history[2].content


async def test_a_call_that_was_cut_is_not_made():
    cut = ended("length", "", [ToolCall("1", "write", {"path": "a"}), ToolCall("2", "write", '{"path": "b", "te')])
    model = ScriptedModel([cut, "Done."])
    response = await rt.call(rt.agent_node("Writer", llm=model, tool_nodes=[write]), "Write!")
    done, told = response.message_history[2:4]
    assert done == ToolMessage("a: ", "1", "write")
    assert told.is_error
    assert "cut off" in told.content
    assert str(response) == "Done."


async def test_calls_that_are_always_cut_end_the_run():
    model = ScriptedModel(lambda _: ended("max_tokens", "", [ToolCall("1", "write", {})]))
    with pytest.raises(Truncated):
        await rt.call(rt.agent_node("Writer", llm=model, tool_nodes=[write]), "Write!")
    assert len(model.calls) == 3


async def test_a_turn_that_the_provider_pauses_goes_on():
    model = ScriptedModel([ended("pause_turn", "I search. "), "Found."])
    response = await rt.call(rt.agent_node("Searcher", llm=model), "Search!")
    assert [each.content for each in response.message_history] == ["Search!", "I search. ", "Found."]


# ---- bounds


@pytest.mark.parametrize(("given", "made"), [({}, 50), ({"max_requests": 3}, 3)])
async def test_a_run_makes_so_many_requests_and_no_more(given, made):
    model = ScriptedModel(lambda _: tool_call("write", path="a"))
    agent = rt.agent_node("Writer", llm=model, tool_nodes=[write], **given)
    with pytest.raises(LimitExceeded, match=rf"made {made} requests, .* max_requests={made} allows") as caught:
        await rt.call(agent, "Write!")
    assert len(model.calls) == made
    assert caught.value.usage.input_tokens > made
    history = caught.value.message_history
    assert isinstance(history[-1], ToolMessage)
    again = rt.agent_node("Writer", llm=ScriptedModel(["So."]), tool_nodes=[write])
    assert str(await rt.call(again, [*history, UserMessage("And?")])) == "So."


async def test_a_run_uses_so_many_tokens():
    model = ScriptedModel(lambda _: ended("tool_calls", "", [ToolCall("1", "write", {"path": "a"})]))
    agent = rt.agent_node("Writer", llm=model, tool_nodes=[write], max_tokens=15)
    with pytest.raises(LimitExceeded, match=r"used 21 tokens, and max_tokens=15"):
        await rt.call(agent, "Write!")


async def test_the_bounds_can_be_lifted():
    model = ScriptedModel([*[tool_call("write", path="a")] * 60, "Done."])
    agent = rt.agent_node("Writer", llm=model, tool_nodes=[write], max_requests=None)
    assert str(await rt.call(agent, "Write!")) == "Done."


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_requests", 0), ("max_requests", True), ("max_tokens", 1.5), ("repairs", -1), ("tool_errors", "ignore"),
     ("history_processors", [3])],
)  # fmt: skip
def test_wrong_values_are_refused(option, value):
    with pytest.raises(rt.exceptions.NodeCreationError, match=rf"{option} is"):
        rt.agent_node(llm=ScriptedModel([]), **{option: value})


@pytest.mark.parametrize("repairs", [0, 1, 4])
async def test_a_model_may_try_again_so_often(repairs):
    model = ScriptedModel(lambda _: "no json")
    with pytest.raises(LLMError, match="no valid answer"):
        await rt.call(rt.agent_node("Noter", llm=model, output_schema=Note, repairs=repairs), "Note!")
    assert len(model.calls) == repairs + 1


@pytest.mark.parametrize("kind", [LLMError, Truncated, Filtered, Refused, LimitExceeded])
def test_the_errors_are_copied_and_pickled(kind):
    error = kind("cut", [UserMessage("Hi!")], Usage(1, 2))
    error.add_note("a note")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is kind
        assert (str(other), other.message_history, other.usage) == ("cut", [UserMessage("Hi!")], Usage(1, 2))
        assert other.__notes__ == ["a note"]


# ---- answers that a class of the user refuses


def big(value):
    if value < 10:
        raise rt.ModelRetry("Think bigger.")


@attrs.frozen
class Attrs:
    size: int = attrs.field(validator=lambda _, field, value: big(value))


@dataclasses.dataclass
class Data:
    size: int

    def __post_init__(self):
        if self.size < 10:
            raise ValueError("Think bigger.")


class Pydantic(pydantic.BaseModel):
    size: int

    @pydantic.field_validator("size")
    @classmethod
    def check(cls, value):
        big(value)
        return value


@pytest.mark.parametrize("kind", [Attrs, Data, Pydantic, list[Attrs]])
async def test_a_model_reads_why_a_class_refuses_its_answer(kind):
    small, large = ('{"size": 1}', '{"size": 10}')
    if kind == list[Attrs]:
        small, large = (f'{{"value": [{text}]}}' for text in (small, large))
    model = ScriptedModel([small, large])
    response = await rt.call(rt.agent_node("Sizer", llm=model, output_schema=kind), "How big?")
    content = response.content[0] if kind == list[Attrs] else response.content
    assert content.size == 10
    assert response.message_history[2].content.startswith("That is not what was asked for: ")
    assert response.message_history[2].content.endswith("Think bigger.")


async def test_a_model_reads_why_a_class_refuses_an_argument():
    @rt.function_node
    async def cut(what: Attrs) -> str:
        return f"cut {what.size}"

    model = ScriptedModel([tool_call("cut", what={"size": 1}), tool_call("cut", what={"size": 12}), "Done."])
    response = await rt.call(rt.agent_node("Cutter", llm=model, tool_nodes=[cut]), "Cut!")
    told = [each.content for each in response.message_history if isinstance(each, ToolMessage)]
    assert told == ["cut was not run: what: Think bigger.", "cut 12"]


def test_a_retry_is_an_error_of_the_library():
    assert rt.ModelRetry is rt.exceptions.ModelRetry
    assert issubclass(rt.ModelRetry, rt.exceptions.RTError)
