"""``ask``: ask a person from a node."""

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

    Cancellation: an async callback, and ``input``, is cancelled. The thread of another sync callback is left behind,
        like that of a sync node.
    """
    # Up to "Raises" the docstring describes this tool to models, and takes part in the recorded identity of each agent
    # that has it as a tool: with another text, resumed runs would call the models of these agents again.
    frame = current.get()
    callback = None if frame is None else frame.coordinator.config.ask_callback
    if callback is input and can_ask():
        callback = ask_in_terminal
    if callback is None:
        where = "outside a session" if frame is None else "in a session without an ask_callback"
        raise ContextError(
            f"rt.ask({question!r}) was called {where}; open the session with a callback that answers, such as "
            f"`rt.Session(ask_callback=input)`"
        )
    return await call(_ask_node(callback), question)


def _ask_node(callback: Callable[[str], Any]) -> FunctionNode[..., Any]:
    """Wrap the callback in a node whose key does not depend on it, so that a resumed run may use another callback."""
    if is_async(callback):

        async def ask(question: str) -> Any:
            return await callback(question)
    else:

        def ask(question: str) -> Any:  # type: ignore[misc]
            return callback(question)

    return FunctionNode(ask, name="ask", node_type="Other", is_async=is_async(callback), origin="railtracks.ask")
