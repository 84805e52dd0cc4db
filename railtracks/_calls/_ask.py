"""``ask``: a node asks a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from railtracks._calls._call import call
from railtracks._calls._terminal import ask_in_terminal, can_ask
from railtracks._context_variable import current
from railtracks.exceptions import ContextError
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import is_async


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
        ContextError: there is no session, or it has no ``ask_callback``.
        Exception: what the callback raises.
    Cancellation: an async callback, or ``input``, is cancelled; of another sync one the thread is left behind, as of a
        sync node.
    """
    frame = current.get()
    callback = None if frame is None else frame.coordinator.config.ask_callback
    if callback is input and can_ask():
        callback = ask_in_terminal
    if callback is None:
        what = "outside a session" if frame is None else "in a session that has nobody to ask"
        raise ContextError(
            f"rt.ask({question!r}) was called {what}; give the session a callback that answers, such as "
            f"`rt.Session(ask_callback=input)`"
        )
    return await call(_asking(callback), question)


def _asking(callback: Callable[[str], Any]) -> FunctionNode[..., Any]:
    """The callback as a node, the same one whoever answers: a resumed run may well have another callback."""
    if is_async(callback):

        async def ask(question: str) -> Any:
            return await callback(question)
    else:

        def ask(question: str) -> Any:  # type: ignore[misc]
            return callback(question)

    return FunctionNode(ask, name="ask", node_type="Other", is_async=is_async(callback), origin="railtracks.ask")
