"""Matching: which recorded call a new call corresponds to, and whether its result can be used."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from railtracks._resume._history import HistoryNode, match_key
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._call_tree import changes_of
from railtracks.state._records import REUSED, Change, Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._record_text import form_in, inputs_text, is_lossy, loads, parse_members

_RERUN_REASONS = {
    Status.FAILED: "it had failed",
    Status.CANCELLED: "it had been cancelled",
    Status.OPEN: "it had not ended",
}


class Match(NamedTuple):
    """The outcome of looking for a new call in the history."""

    node: HistoryNode | None
    """The recorded call; None if the history has no such call."""
    reuse: str
    """``REUSED`` if the call is replayed, or why it has to run."""
    result: Any = None
    """The recorded result of a call that is replayed."""
    descendants: Sequence[CallRecord] = ()
    """The recorded calls below a call that is replayed."""
    changes: Sequence[Change] = ()
    """The context changes of a call that is replayed and of its descendants, in order."""

    @property
    def is_replayed(self) -> bool:
        """Whether the recorded result is used in place of running the call."""
        return self.reuse == REUSED


def match_call(caller: HistoryNode | None, record: CallRecord, node: FunctionNode[..., Any]) -> Match:
    """Match a new call with a call in the history, which then matches no other.

    Args:
        caller: The match of the caller, or the root of the history; None if the caller has no match.
        record: The new call. Its ``node`` and ``inputs`` are settled.
        node: The node that it calls.
    """
    if caller is None:
        return Match(None, "the call that made it is not on record")
    if record.node is None:
        return Match(None, "its node has no key: it is a lambda, or bound to a value that cannot be compared")
    key = match_key(record)
    if key is None:
        assert record.inputs is not None
        return Match(None, f"its arguments cannot be compared: they are not all on record ({form_in(record.inputs)})")
    found = caller.pop_child(key)
    if found is None or found.record is None:
        return Match(None, "it is not on record")
    return _replay_or_rerun(found, found.record, node)


def _replay_or_rerun(found: HistoryNode, known: CallRecord, node: FunctionNode[..., Any]) -> Match:
    if known.status is not Status.COMPLETED:
        return Match(found, _RERUN_REASONS[known.status])
    if not node.memo:
        return Match(found, "its node has memo=False")
    descendants = found.attempt.descendants(known)
    if any(each.status is Status.OPEN for each in descendants):
        return Match(found, "a call below it had not ended")
    changes = [change for _, change in changes_of(known, descendants)]
    for change in changes:
        if change.form is not Form.PLAIN:
            lost = "the type of the value" if change.form is Form.TYPED else "the value"
            return Match(
                found, f"{lost} that it put into the context as {change.key!r} is not on record ({change.form})"
            )
        try:
            decode(loads(change.value or "null"))
        except Exception as exc:  # whatever a hook of a registered type raises
            what = f"the value that it put into the context as {change.key!r}"
            return Match(found, f"{what} cannot be restored ({exc!r})")
    assert known.output is not None
    # Imported here because few programs resume, and it brings a dozen modules.
    from railtracks.state._serialization._structuring import restore_result

    try:
        result = restore_result(known.output, return_hint(node))
    except ValueError as exc:
        return Match(found, f"its result {exc}")
    return Match(found, REUSED, result, descendants, changes)


def restore_arguments(record: CallRecord, node: FunctionNode[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a recorded call of ``node``, as they were.

    Raises:
        ValueError: They cannot be restored. The text says why, and continues a sentence that begins with "it".
    """
    assert record.inputs is not None
    form = form_in(record.inputs)
    if is_lossy(form):
        raise ValueError(f"has arguments that are not all on record ({form.value})")
    data = parse_members(record.inputs)
    args, kwargs = data["input_args"], data["input_kwargs"]
    if form is Form.PLAIN:
        args, kwargs = decode(args), decode(kwargs)
    else:
        args, kwargs = _structure_arguments(args, kwargs, node)
    if inputs_text(tuple(args), kwargs, Redactor(), node.secret_positions) != record.inputs:
        names = ", ".join(f"{name!r}" for name in inspect.signature(node.target).parameters)
        raise ValueError(f"has arguments whose types are not on record, and no annotation of {names} names them")
    return tuple(args), kwargs


def _structure_arguments(
    args: list[Any], kwargs: dict[str, Any], node: FunctionNode[..., Any]
) -> tuple[Any, dict[str, Any]]:
    from railtracks.state._serialization._structuring import structure_as
    from railtracks.state._serialization._type_hints import UNKNOWN, hints_of

    hints = hints_of(node.target)
    try:
        bound = inspect.signature(node.target).bind(*args, **kwargs)
    except TypeError as exc:
        raise ValueError(f"has arguments that do not fit its current parameters ({exc})") from exc
    for name, value in bound.arguments.items():
        hint = hints.get(name, UNKNOWN)
        match bound.signature.parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                new: Any = tuple(structure_as(item, hint) for item in value)
            case inspect.Parameter.VAR_KEYWORD:
                new = {key: structure_as(item, hint) for key, item in value.items()}
            case _:
                new = structure_as(value, hint)
        bound.arguments[name] = new
    given = set(kwargs)
    named = {name: value for name, value in bound.arguments.items() if name in given}
    return bound.args[: len(args)], {**bound.kwargs, **named} if given else {}


def return_hint(node: FunctionNode[..., Any]) -> Any:
    """Return the type that the node's return annotation names; ``UNKNOWN`` without one, or if it cannot be resolved."""
    from railtracks.state._serialization._type_hints import UNKNOWN, hints_of

    target: Any = inspect.unwrap(node.func)
    hint = hints_of(getattr(target, "invoke", target)).get("return", UNKNOWN)
    if get_origin(hint) in (Awaitable, Coroutine):
        hint = get_args(hint)[-1]
    return hint
