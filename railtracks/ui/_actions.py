"""What the page of a run can do to it: resume it, cancel it, answer its questions. What makes no sense is refused."""

from __future__ import annotations

import json
from typing import Any

from railtracks.exceptions import ConfigError, StateError
from railtracks.state import Store, cancel_run, send
from railtracks.state._stores._messages import parse_value
from railtracks.ui._runs import RunState

MAX_BODY = 2**20
"""The number of bytes of the largest request that is read."""
RESUME, CANCEL, ANSWER = "resume", "cancel", "answer"
ACTIONS = (RESUME, CANCEL, ANSWER)


def offered(state: RunState) -> tuple[str, ...]:
    """Return which actions make sense for a run as it is now."""
    known = {RESUME: state.can_resume, CANCEL: state.can_cancel, ANSWER: state.can_answer}
    return tuple(action for action in ACTIONS if known[action])


def check_offered(action: str, state: RunState) -> None:
    """Raise StateError if an action makes no sense for a run as it is now."""
    if action in offered(state):
        return
    name, status = repr(state.info.session_id), state.info.status.value.lower()
    if action == ANSWER and state.receives_messages:
        raise StateError(f"the run {name} waits for no answer")
    if action == RESUME and state.state != "running" and not state.is_over and state.info.flow_name is None:
        raise StateError(f"the run {name} is of a session without a flow: resume it with the code that made it")
    how = {"running": "is running", "died": "died with its process"}.get(state.state, f"has ended: it is {status}")
    raise StateError(f"the run {name} {how}, so there is nothing to {action}")


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a request brings.

    Raises:
        ConfigError: It is something else.
    """
    try:
        data = json.loads(body or b"{}")
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"the request is not JSON that can be read: {exc}; send a JSON object") from None
    if not isinstance(data, dict):
        raise ConfigError(f"the request is JSON of the type {type(data).__name__}; send a JSON object")
    return data


def cancel(state: RunState, store: Store) -> str:
    """Cancel a run, and return what to say. Blocks."""
    cancel_run(state.info.session_id, store)
    return "It will be cancelled within about a second." if state.state == "running" else "It is cancelled."


def answer(state: RunState, store: Store, data: dict[str, Any]) -> str:
    """Send the answer to a question of a run, and return what to say. Blocks.

    Args:
        state: The run.
        store: The store that it is in.
        data: ``question``, the id of the question, and ``value``, which is read as ``railtracks answer`` reads it.
    """
    question, value = data.get("question"), data.get("value")
    if not isinstance(question, str) or not isinstance(value, str):
        raise ConfigError('an answer needs the texts "question" and "value"')
    if question not in {each.id for each in state.info.questions}:
        raise StateError(f"the run {state.info.session_id!r} has no open question {question!r}: reload the page")
    send(state.info.session_id, question, parse_value(value), store)
    return "The answer is sent." if state.state == "running" else "The answer is sent. Resume the run to go on."
