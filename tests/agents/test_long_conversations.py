"""Conversations that go on from call to call are on record once: in journals, state files, stores and memory."""

from __future__ import annotations

import gc
import gzip
import json
import tracemalloc
from typing import Any

import attrs
import pytest

import railtracks as rt
from railtracks.llm import AssistantMessage, Image, Message, MessageHistory, ToolCall, ToolMessage, UserMessage
from railtracks.state import ExecutionInfo, FileStore, MemoryStore, SQLiteStore, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import inputs_text
from railtracks.state._shared_texts import SharedText, stored_inputs, stored_output
from railtracks.testing import ProcessKilled, check, run, simulate, tool_call
from railtracks.testing.faults import Kill
from tests.agents.helpers import agent_of, asked, forecast

SAID = "q" * 500
PNG = b"\x89PNG\r\n\x1a\n"
QUIET: dict[str, Any] = {"logging_setting": "NONE", "timeout": 3600}


def chatter(**options):
    return agent_of(lambda messages: f"{len(messages)} " + "a" * 500, name="Chatter", **options)[0]


async def chat(agent, turns, history=()):
    for turn in range(turns):
        response = await rt.call(agent, [*history, UserMessage(f"{turn} {SAID}")])
        history = response.message_history
    return history


def sizes(backend, turns):
    """Return the bytes of the journal and of the document of a session with a conversation."""
    taken = []

    class Store(MemoryStore):
        def save(self, identifier, content):
            taken.append(len(self.read(identifier).journal or b""))
            super().save(identifier, content)

    kept = Store()

    async def main():
        async with rt.Session(run_identifier="chat", store=kept, **QUIET):
            await chat(chatter(), turns)

    run(main, backend=backend)
    return [*taken, len(document_in(kept))]


def document_in(store):
    content = store.read("chat").document
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def test_a_conversation_costs_its_length_on_record(backend):
    short, long = sizes(backend, 10), sizes(backend, 40)
    for few, many in zip(short, long, strict=True):
        assert many < 4.4 * few
        assert many < 40 * 10_000


def test_a_conversation_costs_its_length_in_memory(backend):
    def taken(turns):
        async def main():
            async with rt.Session(run_identifier="chat", store=MemoryStore(), **QUIET) as session:
                tracemalloc.start()
                history = await chat(chatter(), turns)
                size = tracemalloc.get_traced_memory()[0]
                tracemalloc.stop()
                return len(history), sum(len(text.template) for text in texts(session.info)), size

        return run(main, backend=backend)

    taken(2)
    few, many = taken(10), taken(40)
    assert many[1] < 4.4 * few[1]
    assert many[2] < 5 * few[2]


def texts(info):
    found = [each(record) for record in info.records for each in (stored_inputs, stored_output)]
    return [text for text in found if isinstance(text, SharedText)]


@pytest.mark.parametrize("make", [MemoryStore, lambda: SQLiteStore("runs.db")])
def test_readers_see_whole_conversations(backend, make):
    store = make()

    async def main():
        async with rt.Session(run_identifier="chat", store=store, **QUIET) as session:
            return session, await chat(chatter(tool_nodes=[forecast]), 4)

    session, history = run(main, backend=backend)
    assert texts(session.info)
    loaded = rt.state.load_run("chat", store)
    assert loaded == session.info
    [*_, last, _] = loaded.records
    assert [message["content"] for message in last.args[0]] == [message.content for message in history[:-1]]
    assert [message["content"] for message in last.result["message_history"]] == [each.content for each in history]
    assert "$messages" not in json.dumps(loaded.payload())
    typed = rt.state.load_run("chat", store, flow=rt.Flow("Chat", chat_once))
    assert typed.records[-2].result.message_history == history
    assert type(typed.records[-2].result.message_history) is MessageHistory
    loaded.save("copy.json")
    assert ExecutionInfo.load("copy.json") == loaded


@rt.function_node
async def chat_once() -> rt.LLMResponse[str]:
    raise NotImplementedError


def test_a_record_is_what_it_would_be_if_nothing_were_shared(backend):
    """The text of a conversation does not depend on how it is kept."""
    history: list[Message] = [asked("a"), AssistantMessage("", [ToolCall("1", "f", {"x": [1.5, True, None]})]),
               ToolMessage("ö", "1", "f"), AssistantMessage("b", extra={"p": {"s": "t"}})]  # fmt: skip
    values = [
        history,
        MessageHistory(history),
        tuple(history),
        {"a/b": history},
        [history, 1],
        [asked("a")] * 3,
        Both(history),
    ]

    async def main(save_state):
        async with rt.Session(save_state=save_state, **QUIET) as session:
            for value in values:
                await rt.call(same, value)
        return session.info

    shared = run(lambda: main(True), backend=backend)
    assert len(texts(shared)) == 2 * len(values)
    for record, value in zip(shared.records, values, strict=True):
        assert record.inputs == inputs_text((value,), {}, Redactor())


@attrs.frozen
class Both:
    history: list[Message]
    number: int = 1


@rt.function_node
async def same(value: Any) -> Any:
    return value


# ---- resuming


def test_a_killed_conversation_goes_on_where_it_was(backend):
    asked_for = []

    def answer(messages):
        asked_for.append(len(messages))
        return tool_call("forecast", city="Oslo") if len(messages) % 5 == 1 else "a" * 100

    agent = agent_of(answer, name="Chatter", tool_nodes=[forecast])[0]

    async def flow():
        return await chat(agent, 6)

    whole = simulate(flow, backend=backend)
    requests = len(asked_for)
    for after in (10, 25, 40):
        asked_for.clear()
        outcome = simulate(flow, faults=[Kill(after)], backend=backend)
        assert isinstance(outcome.exception, ProcessKilled)
        again = simulate(flow, store=outcome.store, resume="s0", backend=backend)
        check(again)
        assert again.result == whole.result
        assert len(asked_for) <= requests + 1
        assert texts(again.info)


def test_a_conversation_of_messages_made_anew_is_shared(backend):
    """As where an application keeps its conversations as JSON."""

    async def main():
        agent, text = chatter(), "[]"
        async with rt.Session(**QUIET) as session:
            for _ in range(5):
                history = [*MessageHistory.from_json(text), UserMessage("?")]
                text = (await rt.call(agent, history)).message_history.to_json()
        return session.info

    found = [node for text in texts(run(main, backend=backend)) for node in text.nodes]
    in_arguments = 4  # the last message before its prompt is filled in
    assert len({id(node) for last in found for node in last.chain()}) == 10 + in_arguments


def test_a_message_that_was_changed_is_recorded_anew(backend):
    """Messages are frozen, but for the arguments of tool calls."""
    arguments = {"x": 1}
    history = [asked("a"), AssistantMessage("", [ToolCall("1", "f", arguments)]), ToolMessage("b", "1", "f")]

    async def main():
        async with rt.Session(**QUIET) as session:
            await rt.call(same, history)
            arguments["x"] = True
            await rt.call(same, history)
        return session.info

    first, second = run(main, backend=backend).records
    assert '"arguments": {"x": 1}' in first.inputs
    assert '"arguments": {"x": true}' in second.inputs


def test_a_secret_that_is_learned_later_is_masked_from_then_on(backend):
    secret = "Qz7-hunter2-of-the-user"

    async def main():
        async with rt.Session(run_identifier="chat", store=store, **QUIET) as session:
            history = [asked("a"), asked(f"b {secret}"), asked("c")]
            await rt.call(same, rt.state.Secret(secret) if knows_it else "nothing")
            await rt.call(same, history)
            await rt.call(same, rt.state.Secret(secret))
            await rt.call(same, history)
        return session.info

    for knows_it in (False, True):
        store = MemoryStore()
        _, first, _, second = run(main, backend=backend).records
        assert (secret in first.inputs) is not knows_it
        assert secret not in second.inputs
        assert second.inputs.endswith('"input_form": "masked"')
        assert (secret.encode() in document_in(store)) is not knows_it


def test_damage_to_a_conversation_cuts_what_refers_to_it(backend):
    store = MemoryStore()

    async def main():
        async with rt.Session(run_identifier="chat", store=store, **QUIET):
            await chat(chatter(), 4)

    run(main, backend=backend)
    lines = document_in(store).split(b"\n")
    at = next(n for n, line in enumerate(lines) if b'"messages": [' in line)
    lines[at] = lines[at].replace(b"qqq", b"qxq", 1)
    loaded = ExecutionInfo.from_document(b"\n".join(lines))
    assert loaded.damage is not None
    last = loaded.records[-2]
    assert last.status is Status.COMPLETED
    assert last.inputs is not None
    assert "$cut" in last.inputs
    assert last.inputs.endswith('"input_form": "cut"')


def test_agents_share_the_conversations_that_they_hand_over(backend):
    async def main():
        first, second = chatter(), agent_of(lambda messages: "b", name="Second")[0]
        async with rt.Session(**QUIET) as session:
            history = await chat(first, 3)
            await rt.call_batch(second, [[*history, asked(str(n))] for n in range(3)])
        return session.info

    info = run(main, backend=backend)
    batch = [stored_inputs(record) for record in info.records if record.name == "Second"]
    assert len({id(text.nodes[0].before) for text in batch}) == 1


def test_large_texts_in_a_conversation_are_kept_by_each_run(backend):
    """A run that was read has the same messages, but not their large texts."""
    image = Image(PNG * 20_000)
    history = [asked("x" * 100_000), AssistantMessage("a"), UserMessage("b", attachments=[image])]

    async def main(store):
        async with rt.Session(run_identifier="chat", store=store, **QUIET):
            await rt.call(same, history)

    first, second = FileStore("first"), FileStore("second")
    run(lambda: main(first), backend=backend)
    gc.collect()
    read = rt.state.load_run("chat", first)
    run(lambda: main(second), backend=backend)
    for info in (read, rt.state.load_run("chat", second)):
        [record] = info.records
        assert record.args[0][0]["content"] == history[0].content
        assert record.args[0][2]["attachments"][0]["base64"] == image.base64
