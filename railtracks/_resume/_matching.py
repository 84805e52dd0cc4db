"""Matching: which recorded call a new call corresponds to, and whether its result can be used."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from railtracks._resume._canonical import CanonicalForms
from railtracks._resume._history import HistoryNode, MatchKey, match_key
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._call_tree import changes_of
from railtracks.state._records import REUSED, Change, Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import (
    form_in,
    inputs_text,
    is_lossy,
    loads,
    member_text,
    parse_members,
)

TYPED_KEY = '"input_types": {'
"""What stands in the key of a node to which values are bound that are not plain data."""
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
    found = _find(caller, key, record, node)
    if found is None or found.record is None:
        return Match(None, "it is not on record")
    # It keeps the text under which it is on record, so that it is the same call in all attempts.
    record.node, record.inputs = found.record.node, found.record.inputs
    return _replay_or_rerun(found, found.record, node)


def _find(caller: HistoryNode, key: MatchKey, record: CallRecord, node: FunctionNode[..., Any]) -> HistoryNode | None:
    """Return the recorded call that a new one corresponds to: as it is written now, or as earlier releases wrote it."""
    if (found := caller.pop_child(key, CanonicalForms(node).of)) is not None or not caller.has_former_children:
        return found
    from railtracks.state._serialization._former_text import former_inputs  # here, as it serves old records only

    former = node.former_key if TYPED_KEY in key[0] else None
    if former is not None and (found := caller.pop_child((former, key[1]))) is not None:
        return found
    inputs = former_inputs(record.args, record.kwargs, node.secret_positions)
    names = [name for name in (key[0], former) if name is not None and inputs is not None]
    return next(filter(None, (caller.pop_child((name, inputs)) for name in names)), None)  # type: ignore[arg-type]


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
        try:
            restore_change(change)
        except ValueError as exc:
            return Match(found, f"{exc}")
    assert known.output is not None
    # Imported here because few programs resume, and it brings a dozen modules.
    from railtracks.state._serialization._structuring import restore_result

    try:
        result = restore_result(known.output, node.return_hint)
    except ValueError as exc:
        return Match(found, f"its result {exc}")
    return Match(found, REUSED, result, descendants, changes)


def restore_change(change: Change) -> Any:
    """Return the value that a call put into the context, as it was; None for a deletion.

    Raises:
        ValueError: It cannot be restored. The text says why.
    """
    what = f"the value that it put into the context as {change.key!r}"
    if is_lossy(change.form) or (change.form is Form.TYPED and change.types is None):
        lost = what if is_lossy(change.form) else f"the type of {what}"
        raise ValueError(f"{lost} is not on record ({change.form})")
    if change.value is None:
        return None
    # Imported here because few programs resume, and it brings a dozen modules.
    from railtracks.state._serialization._restoring import restore

    data, types = loads(change.value), None if change.types is None else loads(change.types)
    try:
        value = restore(data, types)
    except ValueError as exc:
        raise ValueError(f"{what} {exc}") from exc
    if member_text(None, value, Redactor()) != (change.value, change.form, change.types):
        raise ValueError(f"{what} cannot be made again exactly as it was")
    return value


def restore_arguments(record: CallRecord, node: FunctionNode[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a recorded call of ``node``, as they were.

    Raises:
        ValueError: They cannot be restored. The text says why, and continues a sentence that begins with "it".
    """
    assert record.inputs is not None
    form = form_in(record.inputs)
    if is_lossy(form):
        raise ValueError(f"has arguments that are not all on record ({form.value})")
    from railtracks.state._serialization._former_text import former_inputs
    from railtracks.state._serialization._restoring import UnknownTypeError, restore
    from railtracks.state._serialization._type_hints import hints_of

    data = parse_members(record.inputs)
    types = data.get("input_types")
    names = ", ".join(f"{name!r}" for name in inspect.signature(node.target).parameters)
    if form is Form.TYPED and not isinstance(types, dict):
        args, kwargs = _structure_arguments(data["input_args"], data["input_kwargs"], node)
        if former_inputs(args, kwargs, node.secret_positions) != record.inputs:
            raise ValueError(f"has arguments whose types are not on record, and no annotation of {names} names them")
        return tuple(args), kwargs
    members = {name: data[name] for name in ("input_args", "input_kwargs")}
    try:
        restored = restore(members, types, *hints_of(node.target).values())
    except UnknownTypeError as exc:
        raise ValueError(f"has an argument that {exc}; no annotation of {names} names it") from exc
    except ValueError as exc:
        raise ValueError(f"has an argument that {exc}") from exc
    args, kwargs = tuple(restored["input_args"]), restored["input_kwargs"]
    if inputs_text(args, kwargs, Redactor(), node.secret_positions) != record.inputs:
        raise ValueError("has arguments that cannot be made again exactly as they were")
    _bind(node, args, kwargs)
    return args, kwargs


def _bind(node: FunctionNode[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> inspect.BoundArguments:
    try:
        return inspect.signature(node.target).bind(*args, **kwargs)
    except TypeError as exc:
        raise ValueError(f"has arguments that do not fit its current parameters ({exc})") from exc


def _structure_arguments(
    args: list[Any], kwargs: dict[str, Any], node: FunctionNode[..., Any]
) -> tuple[Any, dict[str, Any]]:
    from railtracks.state._serialization._structuring import structure_as
    from railtracks.state._serialization._type_hints import UNKNOWN, hints_of

    hints = hints_of(node.target)
    bound = _bind(node, args, kwargs)
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
