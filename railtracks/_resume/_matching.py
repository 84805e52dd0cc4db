"""Matching: which recorded call a new call corresponds to, and whether its result can be used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from railtracks._resume._canonical import CanonicalForms
from railtracks._resume._history import HistoryNode
from railtracks._resume._siblings import MatchKey, match_key
from railtracks._resume._tries import retry_of
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Reason, Status
from railtracks.state._records import REUSED, Change, Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._added_fields import classes_in, is_same_result
from railtracks.state._serialization._compact_text import compact_inputs
from railtracks.state._serialization._large_values import Find, discard, expand, find_nothing, has_large
from railtracks.state._serialization._placeholders import IGNORED
from railtracks.state._serialization._record_text import (
    form_in,
    inputs_text,
    is_lossy,
    loads,
    member_text,
    parse_members,
    why_lossy,
)

NOT_ON_RECORD = "it is not on record"
OTHER_ARGUMENTS = "it has other arguments than on record"
"""Why an entry point runs again with which a run had begun otherwise, and not completed."""
"""The reason of a call that the history does not have, of a caller that it has."""
TYPED_KEY = '"input_types": {'
"""What stands in the key of a node to which values are bound that are not plain data."""
_RERUN_REASONS = {
    Status.FAILED: "it had failed",
    Status.CANCELLED: "it had been cancelled",
    Status.OPEN: "it had not ended",
    Status.SUSPENDED: "it was suspended",
}
GRACE = 1.0
"""Seconds for which a call waits to be cancelled again, in addition to how long it had run."""


class Match(NamedTuple):
    """The outcome of looking for a new call in the history."""

    node: HistoryNode | None
    """The recorded call; None if the history has no such call."""
    reuse: str
    """``REUSED`` if the call is replayed, or why it has to run."""
    result: Any = None
    """The recorded result of a call that is replayed, or its exception if it had failed."""
    descendants: Sequence[CallRecord] = ()
    """The recorded calls below a call that is replayed."""
    changes: Sequence[Change] = ()
    """The context changes of a call that is replayed and of its descendants, in order."""
    is_lost_failure: bool = False
    """Whether a failure that the flow had handled cannot be raised again, as its exception is not on record."""
    is_given_up: bool = False
    """Whether the code that made the recorded call had cancelled it, and gone on, as at a timeout of its own."""
    is_found: bool = True
    """Whether the history has this very call. Otherwise ``node``, if there is one, is only linked with it."""
    remark: str = ""
    """What has changed since the result of a call that is replayed was recorded; "" if nothing has."""

    @property
    def is_replayed(self) -> bool:
        """Whether the recorded result is used in place of running the call."""
        return self.reuse == REUSED

    @property
    def patience(self) -> float:
        """The seconds for which a call that is given up waits to be cancelled again, before it runs after all."""
        assert self.node is not None
        known = self.node.record
        assert known is not None
        return max((known.ended or 0.0) - known.started, 0.0) + GRACE

    @property
    def is_left(self) -> bool:
        """Whether the code that made the recorded call had gone on after it, for one that stands for a session."""
        return self.node is not None and self.node.is_left

    @property
    def recorded_result(self) -> Any:
        """The result of the call, also of one that is only linked with it; None if nothing is on record.

        For results that are plain data.
        """
        known = None if self.node is None else self.node.record
        if known is None or known.status is not Status.COMPLETED or known.output is None:
            return None
        return parse_members(known.output)["output"]


def match_call(
    caller: HistoryNode | None,
    record: CallRecord,
    node: FunctionNode[..., Any],
    forms: CanonicalForms,
    find: Find = find_nothing,
    before: HistoryNode | None = None,
) -> Match:
    """Match a new call with a call in the history, which then matches no other.

    Args:
        caller: The match of the caller, or the root of the history; None if the caller has no match.
        record: The new call. Its ``node`` and ``inputs`` are settled.
        node: The node that it calls.
        forms: The canonical forms of the node's arguments.
        find: Returns the large values of the history.
        before: The match of the try before it, if it is another try of a call that has failed, and the history
            has that.
    """
    if caller is None:
        return Match(None, "the call that made it is not on record", is_found=False)
    key, found = match_key(record), None
    if key is not None and not retry_of(record):
        found = _find(caller, key, record, node, forms)
    elif key is not None and before is not None:
        found = caller.pop_next_try(before)
    if found is None or found.record is None:
        linked, why = _link(caller, record, node, forms), _why_not_found(record)
        if linked is None and record.parent is None and why == NOT_ON_RECORD:
            linked = caller.link_only_child(record)
            why = why if linked is None else OTHER_ARGUMENTS
        return Match(linked, why, is_found=False)
    match = _replay_or_rerun(found, found.record, node, find)
    if not match.is_replayed:
        match = match._replace(node=caller.link_child(record, found, forms))
    # It keeps the text under which it is on record, so that it is the same call in all attempts.
    record.node, record.inputs = found.record.node, found.record.inputs
    return match


def _link(
    caller: HistoryNode, record: CallRecord, node: FunctionNode[..., Any], forms: CanonicalForms
) -> HistoryNode | None:
    """Return the recorded call that a new one without a match is linked with; None if there is none."""
    linked = caller.link_child(record, None, forms)
    if linked is None and record.node is not None and node.unkeyed is not None:
        given, record.node = record.node, node.unkeyed
        try:
            return caller.link_child(record, None, forms)
        finally:
            record.node = given
    return linked


def _why_not_found(record: CallRecord) -> str:
    if record.node is None:
        return "its node has no key: it is a lambda, or bound to a value that cannot be compared"
    assert record.inputs is not None
    form = form_in(record.inputs)
    if is_lossy(form):
        return f"its arguments cannot be compared: they are not all on record ({why_lossy(form)})"
    return NOT_ON_RECORD


def _find(
    caller: HistoryNode, key: MatchKey, record: CallRecord, node: FunctionNode[..., Any], forms: CanonicalForms
) -> HistoryNode | None:
    """Return the recorded call that a new one corresponds to.

    It may be on record as it is written now, as it was before the node got a key, or as earlier releases wrote it.
    """
    keys = [key] if node.unkeyed is None else [key, (node.unkeyed, key[1])]
    for each in keys:
        if (found := caller.pop_child(each, forms)) is not None:
            return found
    classes = classes_in(record.args, record.kwargs) if '"input_types"' in key[1] else {}
    for each in keys if classes else ():
        if (found := caller.pop_child_without_fields(each, forms, classes)) is not None:
            return found
    if not caller.has_former_children:
        return None
    from railtracks.state._serialization._former_text import former_inputs  # here, as it serves old records only

    former = node.former_key if TYPED_KEY in key[0] else None
    if former is not None and (found := caller.pop_child((former, key[1]))) is not None:
        return found
    inputs = former_inputs(record.args, record.kwargs, node.secret_positions)
    inputs = None if inputs is None else compact_inputs(inputs)
    names = [name for name in (key[0], former) if name is not None and inputs is not None]
    return next(filter(None, (caller.pop_child((name, inputs)) for name in names)), None)  # type: ignore[arg-type]


def _replay_or_rerun(found: HistoryNode, known: CallRecord, node: FunctionNode[..., Any], find: Find) -> Match:
    is_failure = found.is_handled
    if known.status is not Status.COMPLETED and not is_failure:
        is_given_up = node.memo and not node.retry_on_resume and was_given_up(found)
        return Match(found, _RERUN_REASONS[known.status], is_given_up=is_given_up)
    if is_failure and node.retry_on_resume:
        return Match(found, "it had failed, and its node has retry_on_resume=True")
    if not node.memo:
        return Match(found, "its node has memo=False")
    descendants = found.attempt.descendants(known)
    if descendants.have_open:
        return Match(found, "a call below it had not ended")
    changes = descendants.changes()
    for change in changes:
        try:
            restore_change(change, find)
        except ValueError as exc:
            return Match(found, f"{exc}")
    assert known.output is not None
    try:
        result = _restore_failure(known.output) if is_failure else _restore_result(known.output, node, find)
    except ValueError as exc:
        what = "its caller had gone on after it failed, but its exception" if is_failure else "its result"
        return Match(found, f"{what} {exc}", is_lost_failure=is_failure)
    return Match(found, REUSED, result, descendants, changes)


@cache
def _restorer() -> Callable[[str, Any, Find], Any]:
    # Imported here because few programs resume, and it brings a dozen modules.
    from railtracks.state._serialization._structuring import restore_result

    return restore_result


def _restore_result(output: str, node: FunctionNode[..., Any], find: Find) -> Any:
    return _restorer()(output, node.return_hint, find)


def _restore_failure(output: str) -> BaseException:
    from railtracks.state._serialization._structuring import restore_error  # here, as above

    return restore_error(output)


def was_given_up(cancelled: HistoryNode) -> bool:
    """Return whether the code that made a call had cancelled it, and gone on: as at a timeout, or after another answer.

    If the failure of another call was why, and has ended the caller, the call is tried again with that. One that has
    changed the context runs again too, so that the change is made.
    """
    record, attempt = cancelled.record, cancelled.attempt
    assert record is not None
    if record.status is not Status.CANCELLED or record.reason not in (Reason.OUTSIDE, Reason.BATCH):
        return False
    if attempt.descendants(record).changes():
        return False
    caller = attempt.caller(record)
    if caller is None or caller.status is Status.COMPLETED:
        return caller is not None
    if caller.status is Status.CANCELLED or attempt.had_failed_before(record, caller.raised_by or ()):
        return False
    return attempt.has_gone_on(record)


def restore_change(change: Change, find: Find = find_nothing) -> Any:
    """Return the value that a call put into the context, as it was; None for a deletion.

    Args:
        change: The change of the context.
        find: Returns the large values in it.

    Raises:
        ValueError: It cannot be restored. The text says why.
    """
    what = f"the value that it put into the context as {change.key!r}"
    if is_lossy(change.form):
        raise ValueError(f"{what} is not on record ({why_lossy(change.form)})")
    if change.form is Form.TYPED and change.types is None:
        raise ValueError(f"the type of {what} is not on record")
    if change.value is None:
        return None
    # Imported here because few programs resume, and it brings a dozen modules.
    from railtracks.state._serialization._restoring import restore

    data, types = loads(change.value), None if change.types is None else loads(change.types)
    is_large = has_large(change.value) or has_large(change.types)
    try:
        if is_large:
            data, types = expand(data, find), expand(types, find)
        value = restore(data, types)
    except ValueError as exc:
        raise ValueError(f"{what} {exc}") from exc
    if member_text(None, value, Redactor(), keep=discard if is_large else None) != (
        change.value,
        change.form,
        change.types,
    ):
        raise ValueError(f"{what} cannot be made again exactly as it was")
    return value


def restore_arguments(
    record: CallRecord, node: FunctionNode[..., Any], find: Find = find_nothing, given: Mapping[str, Any] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a recorded call of ``node``, as they were.

    Args:
        record: The record of the call.
        node: The node that it called.
        find: Returns the large values in the arguments.
        given: Arguments that are not on record, as the node ignores them, by the names of their parameters.

    Raises:
        MissingArgumentsError: An argument that is not on record is not among ``given``.
        ValueError: They cannot be restored. The text says why, and continues a sentence that begins with "it".
    """
    assert record.inputs is not None
    form = form_in(record.inputs)
    if is_lossy(form):
        raise ValueError(f"has arguments that are not all on record ({why_lossy(form)})")
    from railtracks.state._serialization._former_text import former_inputs
    from railtracks.state._serialization._restoring import UnknownTypeError, restore
    from railtracks.state._serialization._type_hints import hints_of

    data = parse_members(record.inputs)
    is_large = has_large(record.inputs)
    if is_large:
        data = expand(data, find)
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
    keep = discard if is_large else None
    text = inputs_text(args, kwargs, Redactor(), node.secret_positions, keep=keep)
    if text != record.inputs and not is_same_result(record.inputs, (args, kwargs), text, "input"):
        raise ValueError("has arguments that cannot be made again exactly as they were")
    _bind(node, args, kwargs)
    return with_ignored(args, kwargs, node, given or {})


class MissingArgumentsError(ValueError):
    """Arguments are not on record, as their node ignores them. The text continues a sentence that begins with "it".

    Attributes:
        names: The names of their parameters.
    """

    def __init__(self, node: FunctionNode[..., Any], names: list[str]) -> None:
        self.names: list[str] = names
        verb = "which is" if len(names) == 1 else "which are"
        super().__init__(f"needs {', '.join(names)}, {verb} not on record, as the node has ignore={node.ignore!r}")


def with_ignored(
    args: tuple[Any, ...], kwargs: dict[str, Any], node: FunctionNode[..., Any], given: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return restored arguments with those that the node ignores.

    Raises:
        MissingArgumentsError: One that had been passed is not given.
    """
    parameters = list(inspect.signature(node.target).parameters)
    # The last one may be a parameter for several.
    names = [parameters[min(at, len(parameters) - 1)] if value is IGNORED else "" for at, value in enumerate(args)]
    missing = [name for name in names if name and name not in given]
    missing += [name for name, value in kwargs.items() if value is IGNORED and name not in given]
    if missing:
        raise MissingArgumentsError(node, missing)
    by_position = {name for name in names if name}
    passed = tuple(given[name] if name else value for name, value in zip(names, args, strict=True))
    return passed, {**kwargs, **{name: value for name, value in given.items() if name not in by_position}}


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
