"""``rt.ask``: a node asks a person, and a resumed flow does not ask again."""

from __future__ import annotations

import builtins
import threading

import anyio
import anyio.from_thread
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, ContextError, GlobalTimeOutError, SessionEndedError
from railtracks.state import Reason, Status
from railtracks.testing import ScriptedModel, tool_call

ASKED: list[str] = []
"""What people were really asked, in order."""


@pytest.fixture(autouse=True)
def nobody_was_asked():
    ASKED.clear()


async def answer(question):
    ASKED.append(question)
    await anyio.lowlevel.checkpoint()
    return f"{question} Yes."


def answer_in_thread(question):
    ASKED.append(question)
    return f"{question} Yes."


async def node(question="Shall I?"):
    return await rt.ask(question)


# ---- who answers


@pytest.mark.parametrize("callback", [answer, answer_in_thread])
@pytest.mark.parametrize("where", ["node", "body"])
async def test_the_callback_answers(callback, where):
    async with rt.Session(ask_callback=callback) as session:
        assert await (rt.call(node) if where == "node" else rt.ask("Shall I?")) == "Shall I? Yes."
    assert ASKED == ["Shall I?"]
    record = session.info.records[-1]
    assert (record.name, record.node_type, record.args, record.result, record.parent) == (
        "ask", "Other", ("Shall I?",), "Shall I? Yes.", 0 if where == "node" else None,
    )  # fmt: skip


async def test_a_sync_callback_runs_in_a_thread_of_its_own():
    threads = []
    async with rt.Session(ask_callback=lambda _: threads.append(threading.current_thread())):
        await rt.ask("Shall I?")
    assert threads[0] is not threading.current_thread()


async def test_input_is_a_callback(monkeypatch):
    monkeypatch.setattr(builtins, "input", answer_in_thread)
    async with rt.Session(ask_callback=input):
        assert await rt.call(node) == "Shall I? Yes."


async def test_an_object_with_an_async_call_is_a_callback():
    class Desk:
        async def __call__(self, question):
            return f"{question} No."

    async with rt.Session(ask_callback=Desk()):
        assert await rt.ask("Shall I?") == "Shall I? No."


async def test_an_answer_may_be_anything():
    async with rt.Session(ask_callback=lambda _: {"yes": True}):
        assert await rt.ask("Shall I?") == {"yes": True}


async def test_a_callback_may_call_nodes_and_knows_the_context():
    async def callback(question):
        return await rt.call(lambda: rt.context.get("who") + question)

    async with rt.Session({"who": "Ada"}, ask_callback=callback) as session:
        assert await rt.ask("?") == "Ada?"
    assert [record.parent for record in session.info.records] == [None, 0]


async def test_an_agent_asks_by_a_tool():
    async def ask_the_user(question: str) -> str:
        """Ask the user.

        Args:
            question: What to ask.
        """
        return await rt.ask(question)

    model = ScriptedModel([tool_call("ask_the_user", question="Blue?"), "So be it."])
    agent = rt.agent_node(llm=model, tool_nodes=[ask_the_user])
    async with rt.Session(ask_callback=answer):
        assert str(await rt.call(agent, "Choose.")) == "So be it."
    assert model.calls[1][-1].content == "Blue? Yes."


async def test_ask_itself_is_a_tool():
    model = ScriptedModel([tool_call("ask", question="Blue?"), "So be it."])
    agent = rt.agent_node(llm=model, tool_nodes=[rt.ask])
    async with rt.Session(ask_callback=answer):
        await rt.call(agent, "Choose.")
    assert model.calls[1][-1].content == "Blue? Yes."


# ---- nobody answers


async def test_without_a_session_it_says_what_to_write():
    with pytest.raises(ContextError, match=r"rt.ask\('Shall I\?'\) was called outside a session.*ask_callback=input"):
        await rt.ask("Shall I?")


async def test_a_session_without_a_callback_says_what_to_write():
    async with rt.Session() as session:
        with pytest.raises(ContextError, match=r"without an ask_callback; .*ask_callback=input"):
            await rt.call(node)
    assert [record.name for record in session.info.records] == ["node"]


@pytest.mark.parametrize("callback", ["yes", 7, True])
def test_what_cannot_be_called_is_refused_as_a_callback(callback):
    with pytest.raises(ConfigError, match="ask_callback"):
        rt.Session(ask_callback=callback)


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_error_of_the_callback_reaches_the_asker_unchanged(is_async):
    """It is the same object."""
    error = EOFError("gone")

    async def gone(_):
        raise error

    def gone_in_thread(_):
        raise error

    async with rt.Session(ask_callback=gone if is_async else gone_in_thread) as session:
        with pytest.raises(EOFError) as caught:
            await rt.call(node)
    assert caught.value is error
    assert [record.status for record in session.info.records] == [Status.FAILED] * 2


async def test_no_question_is_asked_after_the_end_of_the_session():
    async with rt.Session(ask_callback=answer) as session:
        pass
    with pytest.raises(ContextError):
        await rt.ask("Shall I?")
    assert session.info.records == ()
    assert ASKED == []


# ---- where it works


def test_it_works_in_every_synchronous_form(backend):
    rt.set_config(ask_callback=answer_in_thread, backend=backend)

    def sync_node():
        return rt.call_sync(node)

    assert rt.call_sync(node) == "Shall I? Yes."
    assert rt.Flow("F", entry_point=sync_node).invoke() == "Shall I? Yes."
    with rt.Session():
        assert rt.call_sync(sync_node) == "Shall I? Yes."
    assert len(ASKED) == 3


async def test_it_works_in_a_plain_session_in_async_code():
    with rt.Session(ask_callback=answer):
        assert await rt.call(node) == "Shall I? Yes."


async def test_it_works_below_the_session_decorator():
    @rt.session(ask_callback=answer)
    async def main():
        return await rt.ask("Shall I?")

    assert (await main())[0] == "Shall I? Yes."


async def test_the_innermost_session_decides_who_is_asked():
    async with rt.Session(ask_callback=lambda _: "outer"):
        async with rt.Session(ask_callback=lambda _: "inner"):
            assert await rt.ask("?") == "inner"
        assert await rt.ask("?") == "outer"


async def test_several_ask_at_once_and_each_gets_its_own_answer():
    asked = []
    all_asked = anyio.Event()

    async def callback(question):
        asked.append(question)
        if len(asked) == 3:
            all_asked.set()
        await all_asked.wait()
        return question.upper()

    async with rt.Session(ask_callback=callback, timeout=5):
        assert await rt.call_batch(node, ["a", "b", "c"]) == ["A", "B", "C"]


# ---- time


async def test_a_person_who_does_not_answer_uses_up_the_timeout():
    closed = []

    async def never(_):
        try:
            await anyio.sleep_forever()
        finally:
            closed.append(True)

    async with rt.Session(ask_callback=never, timeout=60) as session:
        start = anyio.current_time()
        with pytest.raises(GlobalTimeOutError):
            await rt.call(node)
        assert anyio.current_time() - start == pytest.approx(60)
    assert closed == [True]
    assert {(record.status, record.reason) for record in session.info.records} == {(Status.CANCELLED, Reason.TIMEOUT)}


async def test_a_cancelled_question_leaves_its_thread():
    """The thread still waits for the person, and the session does not wait for the thread."""
    gone = threading.Event()

    def wait_for_a_person(_):
        anyio.from_thread.run_sync(scope.cancel)
        gone.wait()

    try:
        async with rt.Session(ask_callback=wait_for_a_person, logging_setting="NONE") as session:
            with anyio.CancelScope() as scope:
                await rt.call(node)
            assert scope.cancelled_caught
    finally:
        gone.set()
    assert [(record.name, record.abandoned) for record in session.info.records] == [("node", False), ("ask", True)]


# ---- resuming


class Broken(Exception):
    pass


def flow_of(entry, **options):
    return rt.Flow("F", entry_point=entry, run_identifier="run", ask_callback=answer, **options)


@pytest.fixture
def broken():
    return [True]


async def other(_):
    pytest.fail("it asks again")


@pytest.mark.parametrize("callback", [other, lambda question: other(question)])
async def test_a_resumed_flow_does_not_ask_again(broken, callback):
    """This holds for every kind of callback."""

    async def entry():
        said = await rt.ask("Shall I?")
        if broken:
            raise Broken
        return said

    with pytest.raises(Broken):
        await flow_of(entry).ainvoke()
    broken.clear()
    again = rt.Flow("F", entry_point=entry, run_identifier="run", ask_callback=callback)
    assert await again.aresume("run") == "Shall I? Yes."
    assert ASKED == ["Shall I?"]


async def test_an_answer_of_any_kind_is_reused(broken):
    async def entry():
        said = [await rt.ask(question) for question in ("a", "b", "c")]
        if broken:
            raise Broken
        return said

    answers = {"a": {"yes": [1, None]}, "b": None, "c": 1.5}

    async def callback(question):
        ASKED.append(question)
        return answers[question]

    flow = rt.Flow("F", entry_point=entry, run_identifier="run", ask_callback=callback)
    with pytest.raises(Broken):
        await flow.ainvoke()
    broken.clear()
    assert await flow.aresume("run") == list(answers.values())
    assert ASKED == ["a", "b", "c"]


def test_a_resumed_flow_does_not_ask_again_in_synchronous_code(backend, broken):
    def entry():
        said = rt.call_sync(node)
        if broken:
            raise Broken
        return said

    flow = flow_of(entry, backend=backend)
    with pytest.raises(Broken):
        flow.invoke()
    broken.clear()
    assert flow.resume("run") == "Shall I? Yes."
    assert ASKED == ["Shall I?"]


async def test_what_was_not_answered_is_asked_again(broken):
    async def entry():
        return [await rt.ask("a"), await rt.ask("b")]

    async def callback(question):
        ASKED.append(question)
        if question == "b" and broken:
            raise EOFError
        return question.upper()

    flow = rt.Flow("F", entry_point=entry, run_identifier="run", ask_callback=callback)
    with pytest.raises(EOFError):
        await flow.ainvoke()
    broken.clear()
    assert await flow.aresume("run") == ["A", "B"]
    assert ASKED == ["a", "b", "b"]


async def test_a_question_that_is_asked_twice_keeps_its_two_answers(broken):
    async def callback(question):
        ASKED.append(question)
        return len(ASKED)

    async def entry():
        said = [await rt.ask("?"), await rt.ask("?")]
        if broken:
            raise Broken
        return said

    flow = rt.Flow("F", entry_point=entry, run_identifier="run", ask_callback=callback)
    with pytest.raises(Broken):
        await flow.ainvoke()
    broken.clear()
    assert await flow.aresume("run") == [1, 2]


async def test_another_question_is_asked():
    question = ["Shall I?"]

    async def entry():
        return await rt.ask(question[0])

    flow = flow_of(entry)
    await flow.ainvoke()
    question[0] = "May I?"
    assert await flow.afork("run", before=entry) == "May I? Yes."


async def test_only_a_fork_before_the_question_asks_again():
    async def later():
        return None

    async def entry():
        said = await rt.ask("Shall I?")
        await rt.call(later)
        return said

    flow = flow_of(entry)
    await flow.ainvoke()
    assert await flow.afork("run", before=later) == "Shall I? Yes."
    assert len(ASKED) == 1
    assert await flow.afork("run", before="ask") == "Shall I? Yes."
    assert len(ASKED) == 2


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_the_answer_is_on_disk_for_a_run_that_died(durability, tmp_path):
    folder = tmp_path / ".railtracks"

    async def entry():
        said = await rt.ask("Shall I?")
        await rt.call(lambda: None)  # in the mode "async" the journal is written when the event loop is free
        if rt.session_id() == "run":
            await anyio.sleep(10)
            (folder / "dead.journal").write_bytes((folder / "run.journal").read_bytes())
        return said

    await flow_of(entry, durability=durability).ainvoke()
    again = rt.Flow("F", entry_point=entry, ask_callback=other)
    assert await again.aresume("dead") == "Shall I? Yes."


async def test_a_callback_that_raises_ends_an_end_on_error_session():
    async def gone(_):
        raise EOFError

    async def caller():
        try:
            return await rt.ask("?")
        except EOFError:
            return "nobody"

    async with rt.Session(ask_callback=gone, end_on_error=True):
        with pytest.raises(EOFError):
            await rt.call(caller)
        with pytest.raises(SessionEndedError):
            await rt.ask("?")
