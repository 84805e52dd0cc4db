"""Messages that the texts of records share: nodes, numbers and marks."""

from __future__ import annotations

import gc
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.llm import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import inputs_text, stored_inputs_text
from railtracks.state._serialization._stored_messages import MessageTable, new_conversations
from railtracks.state._shared_texts import MessageNumbers, SharedText, intern
from tests.effort import examples

WHOLE = 1 << 26
NOTES = (("", '"railtracks.llm.UserMessage"'),)

words = st.text(max_size=5) | st.sampled_from(['"$messages": 0', "/*", "~", '": {"$messages": 1}'])
values = st.recursive(st.none() | st.booleans() | st.integers() | words, lambda each: st.lists(each, max_size=2) |
                      st.dictionaries(words, each, max_size=2), max_leaves=4)  # fmt: skip
calls = st.builds(ToolCall, words, words, st.dictionaries(words, values, max_size=2))
messages = st.one_of(
    st.builds(UserMessage, words),
    st.builds(SystemMessage, words),
    st.builds(AssistantMessage, words, st.lists(calls, max_size=2)),
    st.builds(ToolMessage, words, words, words),
)
histories = st.lists(messages, max_size=6)
arguments = st.recursive(
    histories | values | histories.map(tuple) | histories.map(rt.llm.MessageHistory),
    lambda each: st.dictionaries(words, each, max_size=2) | each.map(lambda value: [value]),
    max_leaves=3,
)


@examples(30)
@given(st.lists(arguments, min_size=1, max_size=4))
def test_a_shared_text_is_the_same_as_one_that_shares_nothing(values):
    redactor = Redactor()
    conversations, numbers, table = new_conversations(redactor, WHOLE, False), MessageNumbers(), MessageTable()
    for value in values:
        text = stored_inputs_text((value,), {}, redactor, (), WHOLE, None, conversations)
        whole = inputs_text((value,), {}, redactor, (), WHOLE)
        assert (text.whole if isinstance(text, SharedText) else text) == whole
        written = numbers.written(text)
        table.add(json.loads(numbers.take() or "[]"))
        read = table.resolve(written)
        assert (read.whole if isinstance(read, SharedText) else read) == whole
        if isinstance(text, SharedText):
            assert isinstance(read, SharedText)
            assert read.nodes == text.nodes


def test_equal_messages_after_equal_ones_have_one_node():
    first = intern(None, '"a"', NOTES, Form.TYPED)
    assert intern(None, '"a"', NOTES, Form.TYPED) is first
    assert intern(first, '"a"', NOTES, Form.TYPED) is not first
    assert intern(None, '"a"', NOTES, Form.MASKED) is not first


def test_a_node_learns_of_large_values_when_it_is_encoded():
    """It was read from a file before, which has only their digests."""
    nodes = [intern(None, '"large"', NOTES, Form.TYPED)]
    nodes.append(intern(nodes[0], '"b"', NOTES, Form.TYPED))
    large: dict[str, Any] = {"digest": "content"}
    assert intern(None, '"large"', NOTES, Form.TYPED, large) is nodes[0]
    assert intern(nodes[0], '"b"', NOTES, Form.TYPED) is nodes[1]
    assert [node.large for node in nodes] == [large, large]


def test_nodes_are_gone_with_the_texts_that_hold_them():
    history = [UserMessage(f"{number} is gone with the texts") for number in range(5)]
    redactor = Redactor()
    conversations = new_conversations(redactor, WHOLE, False)
    text = stored_inputs_text((history,), {}, redactor, (), WHOLE, None, conversations)
    assert isinstance(text, SharedText)
    assert len(conversations._nodes) == 5
    del text
    gc.collect()
    assert conversations._nodes == {}


def test_a_conversation_that_is_too_large_is_cut_as_others_are():
    history = [UserMessage("x" * 100) for _ in range(5)]
    redactor = Redactor()
    conversations = new_conversations(redactor, 200, False)
    text = stored_inputs_text((history,), {}, redactor, (), 200, None, conversations)
    assert text == inputs_text((history,), {}, redactor, (), 200)
    assert isinstance(text, str)
    assert text.endswith('"input_form": "cut"')
