"""Tools that a person must approve: who is asked what, what an answer does, and that the run may wait for days."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, ContextError, NodeCreationError, NodeInvocationError, RunSuspended
from railtracks.llm import ToolCall, ToolMessage
from railtracks.state import MemoryStore, Status
from railtracks.testing import ScriptedModel, check, simulate, tool_call
from railtracks.testing.faults import Kill
from tests.agents.helpers import agent_of, records, scripted, tool_messages

PAID: list[tuple[int, str]] = []
"""What was really paid, in order."""


@pytest.fixture(autouse=True)
def nothing_paid():
    PAID.clear()


@rt.function_node
async def pay(amount: int, to: str = "Ada") -> str:
    """Pay.

    Args:
        amount: How much.
        to: Whom.
    """
    PAID.append((amount, to))
    return f"paid {amount}"


@rt.function_node
async def book(place: str) -> str:
    """Book a table."""
    PAID.append((0, place))
    return f"booked {place}"


def large(amount, to="Ada"):
    return amount > 10


async def large_async(amount, to="Ada"):
    return amount > 10


class Person:
    """An ``ask_callback`` that gives the same answer to each question, and keeps the questions."""

    def __init__(self, answer):
        self.answer = answer
        self.asked: list[Any] = []

    async def __call__(self, question):
        self.asked.append(question)
        return self.answer


TWO = [tool_call("pay", amount=5), tool_call("pay", amount=50)]


def clerk(*answers, needs_approval: Any = True, **options):
    return agent_of(*answers, name="Clerk", tool_nodes=[rt.tool(pay, needs_approval=needs_approval), book], **options)


async def replies(answer, *wanted, **options):
    """Return what the model reads of its calls, if this is the answer of the person to each question."""
    agent, model = clerk([*wanted], "Done.", **options)
    async with rt.Session(ask_callback=lambda _: answer, logging_setting="NONE"):
        await rt.call(agent, "Go.")
    return [message.content for message in tool_messages(model)]


# ---- what is asked, and of which calls


async def test_the_person_reads_the_call_and_a_page_its_parts():
    person = Person("yes")
    agent, _ = clerk(tool_call("pay", amount=5, to="Bob"), "Done.")
    async with rt.Session(ask_callback=person):
        await rt.call(agent, "Go.")
    [request] = person.asked
    assert isinstance(request, rt.ApprovalRequest)
    assert request == "Clerk asks to call pay(amount=5, to='Bob'). Answer \"yes\", or why not."
    assert (request.agent, request.tool, request.arguments) == ("Clerk", "pay", {"amount": 5, "to": "Bob"})
    assert pickle.loads(pickle.dumps(request)).arguments == request.arguments


@pytest.mark.parametrize("decides", [large, large_async, rt.function_node(large)])
async def test_a_function_decides_which_calls_are_asked_for(decides):
    person = Person("no")
    agent, model = clerk(TWO, "Done.", needs_approval=decides)
    async with rt.Session(ask_callback=person) as session:
        await rt.call(agent, "Go.")
    assert [request.arguments for request in person.asked] == [{"amount": 50}]
    assert PAID == [(5, "Ada")]
    assert [message.is_error for message in tool_messages(model)] == [False, True]
    assert len(records(session, decides.__name__ if decides is large_async else "large")) == 2


async def test_no_call_is_asked_for_without_need():
    assert await replies("no", *TWO, needs_approval=False) == ["paid 5", "paid 50"]


async def test_arguments_that_do_not_fit_are_not_asked_for():
    [text] = await replies(1 / 3, tool_call("pay", amount="many"))
    assert text.startswith("pay was not run: amount: expected an integer")


async def test_secrets_are_masked_in_what_is_asked():
    person = Person(True)

    @rt.function_node
    async def sign_in(password: str) -> str:
        """Sign in."""
        return "in"

    agent = scripted(
        tool_call("sign_in", password="hunter22"), "Done.", tool_nodes=[rt.tool(sign_in, needs_approval=True)]
    )
    async with rt.Session(ask_callback=person):
        await rt.call(agent, "Go.")
    assert person.asked[0].arguments == {"password": "***"}
    assert "hunter22" not in person.asked[0]


# ---- what an answer does


@pytest.mark.parametrize("answer", [True, "yes", " OK ", "Approve", {"approved": True}])
async def test_an_approved_call_is_made(answer):
    assert await replies(answer, *TWO) == ["paid 5", "paid 50"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (False, ""), ("no", ""), ("", ""), ("Too much.", ": Too much."), ("yes, but later", ": yes, but later"),
        ({"approved": False, "reason": "Too much."}, ": Too much."),
    ],
)  # fmt: skip
async def test_a_denied_call_is_not_made_and_the_model_reads_why(answer, reason):
    assert await replies(answer, tool_call("pay", amount=5)) == [f"not run: a person denied it{reason}"]
    assert PAID == []


async def test_a_call_may_be_approved_with_other_arguments():
    """The model reads which."""
    [text] = await replies({"approved": True, "arguments": {"amount": 3, "to": "Bob"}}, tool_call("pay", amount=5))
    assert text == '(run with other arguments, as a person decided: {"amount": 3, "to": "Bob"})\npaid 3'
    assert PAID == [(3, "Bob")]


@pytest.mark.parametrize("answer", [None, 7, [], {"approved": "yes"}, {"ok": True}])
async def test_an_answer_that_says_neither_is_an_error(answer):
    with pytest.raises(NodeInvocationError, match=r"answered with .*; expected True or False, 'yes' or the reason"):
        await replies(answer, tool_call("pay", amount=5))
    assert PAID == []


async def test_other_arguments_that_do_not_fit_are_an_error():
    with pytest.raises(NodeInvocationError, match=r"the tool pay was approved with .* amount: missing"):
        await replies({"approved": True, "arguments": {"to": "Bob"}}, tool_call("pay", amount=5))


async def test_the_error_of_an_approved_tool_goes_to_the_model():
    @rt.function_node
    async def broken() -> str:
        """Break."""
        raise ValueError("out of order")

    agent, model = agent_of(tool_call("broken"), "Done.", tool_nodes=[rt.tool(broken, needs_approval=True)])
    async with rt.Session(ask_callback=lambda _: True):
        await rt.call(agent, "Go.")
    assert tool_messages(model) == [ToolMessage("ValueError: out of order", "call_0", "broken", is_error=True)]


async def test_an_agent_may_need_approval():
    helper, helpers_model = agent_of("42", name="helper")
    agent, _ = agent_of(tool_call("helper", request="?"), "Done.", tool_nodes=[rt.tool(helper, needs_approval=True)])
    async with rt.Session(ask_callback=Person("no")):
        await rt.call(agent, "Go.")
    assert helpers_model.calls == []


# ---- mistakes


async def test_a_mistake_in_the_function_is_raised_and_nothing_runs():
    """The model does not get it as the error of the tool."""

    def wrong(amount):
        raise KeyError("limit")

    with pytest.raises(KeyError, match="limit"):
        await replies("yes", tool_call("pay", amount=5), needs_approval=wrong)
    with pytest.raises(NodeInvocationError, match="returned 5; expected True or False"):
        await replies("yes", tool_call("pay", amount=5), needs_approval=lambda amount: amount)
    assert PAID == []


async def test_where_nobody_can_be_asked_the_agent_raises_it():
    agent, _ = clerk(tool_call("pay", amount=5), "Done.")
    async with rt.Session():
        with pytest.raises(ContextError, match="without an ask_callback"):
            await rt.call(agent, "Go.")
    assert PAID == []


def test_what_cannot_decide_is_refused():
    with pytest.raises(NodeCreationError, match="needs_approval is 'yes'; expected True, False, or a function"):
        rt.tool(pay, needs_approval="yes")  # type: ignore[arg-type]
    with pytest.raises(NodeCreationError, match="pass the node itself"):
        rt.tool(rt.tool(pay, needs_approval=True), needs_approval=True)  # type: ignore[arg-type]


def test_approval_is_part_of_the_version_of_an_agent():
    """An agent without it has the version that it had."""
    versions = [clerk("x", needs_approval=needs)[0].version() for needs in (False, True, large, large_async)]
    plain = scripted("x", name="Clerk", tool_nodes=[pay, book])
    assert versions[0] == plain.version()
    assert len({*versions}) == 4


# ---- the answer comes tomorrow


def office(model, **options):
    agent = rt.agent_node("Clerk", llm=model, tool_nodes=[rt.tool(pay, needs_approval=large), book])

    async def main():
        return str(await rt.call(agent, "Pay."))

    return rt.Flow("Office", main, run_identifier="run", logging_setting="QUIET", **options)


def by_amount(questions):
    return sorted(questions, key=lambda question: question.text.arguments["amount"])


async def test_a_suspended_run_goes_on_when_all_have_answered():
    """The model is not asked again, and the other tools of the round do not run again."""
    wanted = [tool_call("pay", amount=50), tool_call("book", place="Nobu"), tool_call("pay", amount=70)]
    model = ScriptedModel([wanted, "Done."])
    flow = office(model)
    with pytest.raises(RunSuspended) as caught:
        await flow.ainvoke()
    first, second = by_amount(caught.value.questions)
    assert PAID == [(0, "Nobu")]
    assert by_amount(rt.state.load_run("run").questions) == [first, second]
    with pytest.raises(RunSuspended) as caught:
        await flow.aresume("run", answers={second.id: {"approved": True, "arguments": {"amount": 60}}})
    assert caught.value.questions == (first,)
    assert PAID == [(0, "Nobu"), (60, "Ada")]
    assert len(model.calls) == 1
    assert await flow.aresume("run", answers={first.id: "too much"}) == "Done."
    assert PAID == [(0, "Nobu"), (60, "Ada")]
    denied, booked, paid = model.calls[1][-3:]
    assert (denied.content, booked.content) == ("not run: a person denied it: too much", "booked Nobu")
    assert paid.content.endswith("paid 60")


async def test_a_model_that_is_asked_again_reads_answers_to_its_calls():
    """It gives them other identifiers."""
    agent = rt.agent_node("Clerk", tool_nodes=[rt.tool(pay, needs_approval=True)])

    def flow(name, *ids):
        wanted = [ToolCall(each, "pay", {"amount": 50 + number}) for number, each in enumerate(ids)]
        model = ScriptedModel([wanted, "Done."], name=name)
        return rt.Flow("Office", agent, default_llm=model, run_identifier="run", logging_setting="QUIET"), model

    with pytest.raises(RunSuspended) as caught:
        await flow("one", "a", "b")[0].ainvoke("Pay.")
    first, second = by_amount(caught.value.questions)
    with pytest.raises(RunSuspended):
        await flow("one")[0].aresume("run", answers={first.id: "yes"})
    again, model = flow("two", "c", "d")
    assert str(await again.aresume("run", answers={second.id: "no"})) == "Done."
    assert PAID == [(50, "Ada")]
    assert [message.tool_call_id for message in tool_messages(model)] == ["c", "d"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [(7, "answered with 7"), ({"approved": True, "arguments": {"amount": "much"}}, "do not fit: amount: expected an")],
)
async def test_a_callback_that_answered_wrongly_is_asked_again(wrong, says):
    said = [wrong, "yes"]
    flow = office(ScriptedModel([tool_call("pay", amount=50), "Done."]), ask_callback=lambda _: said.pop(0))
    with pytest.raises(NodeInvocationError, match=says):
        await flow.ainvoke()
    assert await flow.aresume("run") == "Done."
    assert PAID == [(50, "Ada")]


@pytest.mark.parametrize("after", range(3, 30, 4))
def test_a_killed_run_asks_nobody_twice(backend, after):
    asked = []

    async def answer(request):
        asked.append(request.arguments["amount"])
        return "yes" if request.arguments["amount"] == 50 else "no"

    agent = scripted(
        [tool_call("pay", amount=n) for n in (5, 50, 70)], "Done.", tool_nodes=[rt.tool(pay, needs_approval=large)]
    )
    store = MemoryStore()
    options = {"backend": backend, "store": store, "ask_callback": answer, "durability": "sync"}
    outcome = simulate(agent, "Go.", faults=[Kill(after)], **options)
    answered = [record for record in outcome.info.records if record.name == "ask" and record.status is Status.COMPLETED]
    in_flight = len(asked) - len(answered)
    again = simulate(agent, "Go.", resume="s0" if store.modified("s0") is not None else None, **options)
    check(again)
    assert again.result.content == "Done."
    assert len(asked) <= 2 + in_flight
    assert [message.is_error for message in again.result.message_history if message.role == "tool"] == [
        False, False, True,
    ]  # fmt: skip


async def test_a_stream_shows_what_was_denied():
    agent, _ = clerk(tool_call("pay", amount=5), "Done.")
    async with rt.Session(ask_callback=lambda _: "no"):
        kinds = [chunk.kind async for chunk in rt.astream(agent, "Go.")]
    assert kinds == ["tool_call", "tool_result", "text", "final"]


@pytest.mark.parametrize("wrong", [7, {"approved": "maybe"}, ["yes"], ("yes",)])
async def test_a_wrong_answer_is_refused_before_it_is_kept(wrong):
    flow = office(ScriptedModel([tool_call("pay", amount=50), "Done."]))
    with pytest.raises(RunSuspended) as caught:
        await flow.ainvoke()
    (question,) = caught.value.questions
    with pytest.raises(ConfigError, match=r"answered with .*; expected True or False"):
        rt.state.send("run", question.id, wrong)
    with pytest.raises(ConfigError, match=r"answered with .*; expected True or False"):
        await flow.aresume("run", answers={question.id: wrong})
    assert await flow.aresume("run", answers={question.id: True}) == "Done."
    assert PAID == [(50, "Ada")]
