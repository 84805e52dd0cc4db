"""``ask``: ask a person from a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from railtracks._approval_request import ApprovalRequest
from railtracks._calls._call import call
from railtracks._calls._in_worker import refused_in_worker
from railtracks._calls._receive import check_is_kept
from railtracks._calls._terminal import ask_in_terminal, can_ask
from railtracks._context_variable import current
from railtracks._policies import OWN_POLICIES
from railtracks.exceptions import ContextError
from railtracks.execution import Coordinator, Frame
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import is_async, is_awaited
from railtracks.state._questions import APPROVAL, ASK, QUESTION, question_id
from railtracks.state._stores._messages import MESSAGE


async def ask(question: str) -> Any:
    """Ask a person, and wait for the answer.

    The session's ``ask_callback`` gets the question, and what it returns is the answer. It is a call like any other, on
    record as ``ask``: a flow that is resumed has the answer, and does not ask again. The time that people take counts
    towards the ``timeout`` of the top-level call.

    In a sync node write ``rt.call_sync(rt.ask, question)``. With ``ask_callback=input`` it asks in the terminal, one
    question at a time.

    Args:
        question: For people to read.

    Raises:
        ContextError: there is no session, or it has no ``ask_callback`` and its run is not suspended.
        Exception: what the callback raises.

    Cancellation: an async callback, and ``input``, is cancelled. The thread of another sync callback is left behind,
        like that of a sync node.
    """
    # Without a callback the run is suspended, and the answer comes as a message: see `docs/durability.md`.
    # Up to "Raises" the docstring describes this tool to models, and takes part in the recorded identity of each agent
    # that has it as a tool: with another text, resumed runs would call the models of these agents again.
    return await _ask(question, {})


async def ask_for_approval(request: ApprovalRequest, check: Callable[[Any], object]) -> Any:
    """Ask a person whether a tool may run, as ``ask`` asks, and return the answer.

    Args:
        request: What is asked.
        check: Called with an answer of the ``ask_callback``. If it raises, the question counts as not answered, and
            is asked again when the run is resumed. An answer that came as a message is not checked here.

    Raises: What ``ask`` raises.

    Cancellation: As that of ``ask``.
    """
    return await _ask(str(request), {APPROVAL: request.parts}, check)


async def _ask(question: str, kwargs: dict[str, Any], check: Callable[[Any], object] | None = None) -> Any:
    frame = current.get()
    callback = None if frame is None else frame.coordinator.config.ask_callback
    if callback is input and can_ask():
        callback = ask_in_terminal
    if callback is not None:
        return await call(_ask_node(callback, check), question, **kwargs)
    if frame is not None and _can_wait(frame.coordinator):
        return await call(_WAIT_FOR_ANSWER, question, **kwargs)
    if frame is not None and frame.coordinator.outbox is not None:
        raise refused_in_worker(f"rt.ask({question!r})", "ask", "the answer")
    where = "outside a session" if frame is None else "in a session without an ask_callback"
    raise ContextError(
        f"rt.ask({question!r}) was called {where}; open the session with a callback that answers, such as "
        f"`rt.Session(ask_callback=input)`, or let the run be suspended until the answer comes: suspend=True"
    )


def _can_wait(coordinator: Coordinator) -> bool:
    """Return whether a session may wait for an answer that no callback gives: its caller knows what to do then."""
    waits = coordinator.suspends or coordinator.config.suspend is False
    return coordinator.mailbox is not None and waits


def _ask_node(callback: Callable[[str], Any], check: Callable[[Any], object] | None) -> FunctionNode[..., Any]:
    """Wrap the callback in a node whose key does not depend on it, so that a resumed run may use another callback."""
    if is_async(callback):

        async def ask(question: str, *, approval: dict[str, Any] | None = None) -> Any:
            return checked(await callback(_question(question, approval)))
    else:

        def ask(question: str, *, approval: dict[str, Any] | None = None) -> Any:  # type: ignore[misc]
            return checked(callback(_question(question, approval)))

    def checked(answer: Any) -> Any:
        if check is None:
            return answer
        if is_awaited(answer):
            return checked_later(answer)
        check(answer)
        return answer

    async def checked_later(answer: Awaitable[Any]) -> Any:
        return checked(await answer)

    return _node(ask, is_async(callback))


def _question(text: str, approval: dict[str, Any] | None) -> str:
    return text if approval is None else ApprovalRequest(**approval)


def _node(func: Callable[..., Any], is_async: bool) -> FunctionNode[..., Any]:
    return FunctionNode(func, name="ask", node_type="Other", is_async=is_async, origin=ASK, policies=OWN_POLICIES)


async def _wait_for_answer(question: str, *, approval: dict[str, Any] | None = None) -> Any:
    """Wait for the answer as for a message, whose topic is the id of the question."""
    frame: Frame = current.get()
    coordinator, record = frame.coordinator, frame.record
    assert record is not None
    assert coordinator.mailbox is not None
    check_is_kept(record, f"rt.ask({question!r})")
    attributes = {QUESTION: question_id(coordinator.state.entries, record, coordinator.redactor)}
    coordinator.set_attributes(record, attributes)
    message = await coordinator.mailbox.take(attributes[QUESTION], frame, None, _question(question, approval))
    assert message is not None
    coordinator.set_attributes(record, {**attributes, MESSAGE: message.number})
    return message.value


_WAIT_FOR_ANSWER = _node(_wait_for_answer, True)
