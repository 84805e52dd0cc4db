"""Messages go to JSON and back: by their own methods, and by attrs, cattrs and pydantic."""

from __future__ import annotations

import json

import attrs
import cattrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks.llm import (
    AssistantMessage,
    Attachment,
    Message,
    MessageHistory,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from tests.llm.media import EACH, IMAGE

texts = st.text(max_size=10)
plain = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=2))
extras = st.none() | st.dictionaries(texts, st.dictionaries(texts, plain, max_size=2), max_size=2)
calls = st.builds(ToolCall, texts, texts, st.dictionaries(texts, plain, max_size=2) | texts, extra=extras)
attached = st.lists(st.sampled_from(EACH), max_size=2)
messages = st.one_of(
    st.builds(SystemMessage, texts, inject_prompt=st.booleans()),
    st.builds(UserMessage, texts, inject_prompt=st.booleans(), attachments=attached),
    st.builds(AssistantMessage, texts, st.lists(calls, max_size=2), reasoning=texts, extra=extras),
    st.builds(ToolMessage, texts, texts, texts, st.booleans(), attachments=attached),
)


@given(st.lists(messages, max_size=4).map(MessageHistory))
def test_they_come_back_equal(history):
    assert MessageHistory.from_json(history.to_json()) == history
    adapter = pydantic.TypeAdapter(list[Message])
    assert adapter.validate_json(adapter.dump_json([*history])) == history
    whole = pydantic.TypeAdapter(MessageHistory)
    assert whole.validate_json(whole.dump_json(history)) == history
    written = json.loads(json.dumps([attrs.asdict(each) for each in history]))
    assert cattrs.structure(written, list[Message]) == history
    assert cattrs.structure(json.loads(json.dumps(cattrs.unstructure([*history]))), list[Message]) == history


def test_the_json_is_short_and_readable():
    history = MessageHistory([UserMessage("Grüß dich"), AssistantMessage("", [ToolCall("1", "add", {"a": 1})])])
    assert json.loads(history.to_json()) == [
        {"role": "user", "content": "Grüß dich"},
        {"role": "assistant", "tool_calls": [{"id": "1", "name": "add", "arguments": {"a": 1}}]},
    ]
    assert "Grüß" in history.to_json()


def test_a_model_of_pydantic_may_have_messages():
    class Chat(pydantic.BaseModel):
        history: MessageHistory
        last: UserMessage | None = None

    chat = Chat(history=MessageHistory([UserMessage("Hi.")]), last=UserMessage("Hi."))
    again = Chat.model_validate_json(chat.model_dump_json())
    assert again == chat
    assert type(again.history) is MessageHistory
    assert Chat.model_json_schema()["properties"]["history"]["type"] == "array"


@pytest.mark.parametrize("attachment", EACH)
def test_an_attachment_alone_comes_back(attachment):
    adapter = pydantic.TypeAdapter(Attachment)
    assert adapter.validate_json(adapter.dump_json(attachment)) == attachment
    assert cattrs.structure(json.loads(json.dumps(attrs.asdict(attachment))), Attachment) == attachment  # type: ignore[arg-type]


def test_the_content_of_an_attachment_is_base64():
    [message] = json.loads(MessageHistory([UserMessage("What?", attachments=[IMAGE])]).to_json())
    assert message["attachments"] == [
        {"type": "image", "media_type": "image/png", "base64": IMAGE.base64, "name": "dot.png"}
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "is a list of messages, and this is dict"),
        ("[3]", "message 0 has the role None; expected one of system, user, assistant, tool"),
        ('[{"role": "robot", "content": ""}]', "message 0 has the role 'robot'"),
        ('[{"role": "user"}]', "message 0: a UserMessage has the fields .*; unknown or missing: content"),
        ('[{"role": "user", "content": "", "colour": 1}]', "unknown or missing: colour"),
        ('[{"role": "user", "content": 3}]', "message 0: content of a UserMessage is 3; expected a text"),
        ('[{"role": "assistant", "tool_calls": [1]}]', "message 0: expected the fields of a ToolCall, got 1"),
        ('[{"role": "user", "content": "", "attachments": [{"type": "x"}]}]', "message 0: .* cannot be attached"),
        ('[{"role": "user", "content": "", "attachments": [{"type": "image"}]}]', "message 0: Image needs one source"),
        ('[{"role": "user", "content": "", "attachments": [{"type": "image", "size": 1}]}]', "or missing: size"),
        ("nonsense", "Expecting value"),
    ],
)
def test_what_is_no_conversation_says_why(text, problem):
    with pytest.raises(ValueError, match=problem):
        MessageHistory.from_json(text)
