"""Questions that suspend a run until they are answered."""

from __future__ import annotations

import pickle
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import RunSuspended, SessionEndedError, StateError
from railtracks.state import Reason, Status
from tests.durability.waiting import KINDS, STORES, close_store, confirm, suspended
from tests.durability.world import check, flow_of

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.parametrize("store", KINDS)
@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_question_suspends_the_run_until_it_is_answered(store, durability):
    charged = []

    @rt.function_node
    async def charge(amount):
        charged.append(amount)
        return f"charged {amount}"

    @rt.function_node
    async def buy(amount):
        paid = await rt.call(charge, amount)
        return paid, await rt.call(confirm), await rt.call(charge, 2 * amount)

    kept = STORES[store]()
    flow = flow_of(buy, store=kept, durability=durability)
    first = await suspended(flow, 5)
    [question] = first.questions
    assert (question.text, first.topics) == ("Do it?", ())
    again = await suspended(flow, resume="run")
    assert again.questions == first.questions
    assert await flow.aresume("run", answers={question.id: {"yes": (1, 2)}}) == (
        "charged 5", {"yes": (1, 2)}, "charged 10",
    )  # fmt: skip
    assert charged == [5, 10]
    assert await flow.aresume("run") == ("charged 5", {"yes": (1, 2)}, "charged 10")
    close_store(kept)


@pytest.mark.parametrize("form", ["invoke", "sync node"])
def test_synchronous_forms_are_suspended_too(form, backend):
    seen: list[Any] = []

    def sync_node():
        try:
            return rt.call_sync(rt.ask, "Sure?")
        except Exception as exc:
            seen.append(exc)
            raise
        finally:
            seen.append("finally")

    flow = flow_of(confirm if form == "invoke" else sync_node, backend=backend)
    with pytest.raises(RunSuspended) as caught:
        flow.invoke()
    assert seen == ([] if form == "invoke" else ["finally"])
    assert not any(record.abandoned for record in rt.state.load_run("run").records)
    assert flow.resume("run", answers={caught.value.questions[0].id: "yes"}) == "yes"


@pytest.mark.parametrize("store", KINDS)
async def test_question_that_was_answered_is_not_shown_any_more(store):
    async def main():
        async with anyio.create_task_group() as group:
            for what in ("this", "that"):
                group.start_soon(rt.call, confirm, what)

    kept: Any = STORES[store]()
    flow = flow_of(main, store=kept)
    answered, other = (await suspended(flow)).questions
    for _ in range(2):  # the same answer, given again, changes nothing
        rt.state.send("run", answered.id, "yes", kept)
        assert rt.state.load_run("run", kept).questions == (other,)
    assert rt.state.load_run("run", flow=flow).questions == (other,)
    assert (await suspended(flow, resume="run")).questions == (other,)
    close_store(kept)


async def test_what_it_waits_for_is_on_record():
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, confirm, "this")
            group.start_soon(rt.call, rt.receive, "paid")

    error = await suspended(flow_of(main))
    info = rt.state.load_run("run")
    assert info.questions == error.questions
    assert info.topics == error.topics == ("paid",)
    assert {record.status for record in info.records} == {Status.SUSPENDED}
    assert {record.reason for record in info.records} == {Reason.SUSPENDED}
    [run] = rt.state.list_runs(unfinished=True)
    assert (run.state, run.status) == ("ended", Status.SUSPENDED)
    assert isinstance(info.answer.exception, SessionEndedError)
    text = str(error)
    assert "'Do this?'" in text and "'paid'" in text and error.questions[0].id in text
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.run_identifier, copy.questions, copy.topics) == ("run", error.questions, error.topics)


async def test_several_questions_are_answered_one_by_one():
    @rt.function_node
    async def main():
        return await rt.call_batch(confirm, ["a", "b", "b"], return_exceptions=False)

    flow = flow_of(main)
    questions = (await suspended(flow)).questions
    assert [each.text for each in questions] == ["Do a?", "Do b?", "Do b?"]
    assert len({each.id for each in questions}) == 3
    left = await suspended(flow, resume="run", answers={questions[1].id: 1})
    assert left.questions == (questions[0], questions[2])
    left = await suspended(flow, resume="run", answers={questions[2].id: 2})
    assert left.questions == (questions[0],)
    assert await flow.aresume("run", answers={questions[0].id: 0}) == [0, 1, 2]


async def test_unknown_question_is_refused_and_the_open_ones_are_named():
    flow = flow_of(confirm)
    [question] = (await suspended(flow)).questions
    with pytest.raises(StateError, match=rf"no open question with the id 'q-1'; open are '{question.id}' \(Do it\?\)"):
        await flow.aresume("run", answers={question.id: 1, "q-1": 1})
    assert (await suspended(flow, resume="run")).questions == (question,)  # nothing was taken of the refused answers


async def test_answered_question_is_not_open_any_more():
    @rt.function_node
    async def main():
        return await rt.call(confirm), await rt.receive("more")

    flow = flow_of(main)
    [question] = (await suspended(flow)).questions
    await suspended(flow, resume="run", answers={question.id: 1})
    with pytest.raises(StateError, match="open are none"):
        await flow.aresume("run", answers={question.id: 2})


@pytest.mark.parametrize("way", ["sent", "given"])
async def test_second_answer_is_refused_unless_it_is_the_same(way):
    flow = flow_of(confirm)
    [question] = (await suspended(flow)).questions

    async def answer(value):
        if way == "given":
            return await flow.aresume("run", answers={question.id: value})
        return rt.state.send("run", question.id, value)

    rt.state.send("run", question.id, 1)
    for other in (2, True, 1.0, (1,)):
        with pytest.raises(StateError, match=f"the question '{question.id}' of the run 'run' has another answer"):
            await answer(other)
    rt.state.send("run", question.id, 1)
    assert await (answer(1) if way == "given" else flow.aresume("run")) == 1
    with pytest.raises(StateError, match=r"has completed|has no open question"):
        await answer(2)


async def test_misspelt_topic_is_warned_of_and_the_message_is_kept(caplog):
    async def main():
        return await rt.receive("paid"), await rt.receive("piad")

    flow = flow_of(main)
    await suspended(flow)
    rt.state.send("run", "piad", 1)
    rt.state.send("run", "paid", 2)
    rt.state.send("run", "something", 3)
    waits = "it waits for 'paid'. The message is kept, as the run may receive it later"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"rt.state.send: the run run is suspended, and does not wait for 'piad'; did you mean 'paid'? {waits}",
        f"rt.state.send: the run run is suspended, and does not wait for 'something'; {waits}",
    ]
    assert await flow.aresume("run") == (2, 1)


async def test_answer_to_a_misspelt_question_is_warned_of_too(caplog):
    [question] = (await suspended(flow_of(confirm))).questions
    rt.state.send("run", question.id[:-1], 1)
    [text] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"did you mean '{question.id}'? it waits for '{question.id}' (Do it?)." in text


async def test_answer_that_cannot_be_brought_back_is_refused():
    flow = flow_of(confirm)
    [question] = (await suspended(flow)).questions
    with pytest.raises(rt.exceptions.ConfigError, match="cannot be sent"):
        await flow.aresume("run", answers={question.id: object()})


@pytest.mark.parametrize("options", [{}, {"resume": "run", "before": 1}])
def test_answers_need_a_run_that_is_resumed(options):
    with pytest.raises(rt.exceptions.ConfigError, match="argument answers: "):
        rt.Session(answers={"q": 1}, **options)


def test_answers_and_a_callback_exclude_each_other():
    with pytest.raises(rt.exceptions.ConfigError, match="use one of the two"):
        rt.Session(resume="run", answers={"q": 1}, ask_callback=input)


@pytest.mark.parametrize("answers", [[("q", 1)], {1: 2}, "q"])
def test_answers_must_be_a_mapping_by_id(answers):
    with pytest.raises(rt.exceptions.ConfigError, match="argument answers: "):
        rt.Session(resume="run", answers=answers)


async def test_session_takes_answers_too():
    flow = flow_of(confirm)
    [question] = (await suspended(flow)).questions
    async with rt.Session(resume="run", answers={question.id: "yes"}) as session:
        assert await rt.call(confirm) == "yes"
    check(session)


async def test_plain_invoke_goes_on_if_it_says_so():
    flow = flow_of(confirm, if_exists="resume")
    first = await suspended(flow)
    assert (await suspended(flow)).questions == first.questions
    rt.state.send("run", first.questions[0].id, "yes")
    assert await flow.ainvoke() == "yes"


async def test_message_sent_while_suspended_is_there_on_resume():
    @rt.function_node
    async def main():
        return [await rt.receive("t") for _ in range(3)]

    flow = flow_of(main)
    await suspended(flow)
    rt.state.send("run", "t", 1)
    rt.state.send("run", "t", 2)
    assert (await suspended(flow, resume="run")).topics == ("t",)
    rt.state.send("run", "t", 3)
    assert await flow.aresume("run") == [1, 2, 3]


async def test_question_keeps_its_id_below_a_caller_that_is_not_found():
    class Client:
        pass

    async def main(_):
        return await rt.call(confirm)

    flow = flow_of(main)
    first = await suspended(flow, Client())
    connection = flow.connect()
    with pytest.raises(RunSuspended) as caught:
        await connection.aresume("run", Client())
    assert caught.value.questions == first.questions


async def test_ids_of_questions_do_not_depend_on_what_runs_beside_them():
    order = ["a", "b"]

    @rt.function_node
    async def branch(name):
        await rt.call(confirm, name)

    async def main():
        async with anyio.create_task_group() as group:
            for name in order:
                group.start_soon(rt.call, branch, name)

    flow = flow_of(main)
    first = await suspended(flow)
    order.reverse()
    assert set((await suspended(flow, resume="run")).questions) == set(first.questions)
