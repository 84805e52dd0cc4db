"""Resuming: which calls need not run, because a session that this one resumes has recorded what came of them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from railtracks._resume._history import Place, key_of
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._call_tree import changes_of
from railtracks.state._records import REUSED, Change, Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._record_text import form_in, inputs_text, is_lossy, parse_members

_AGAIN = {
    Status.FAILED: "it had failed",
    Status.CANCELLED: "it had been cancelled",
    Status.OPEN: "it had not ended",
}


class Found(NamedTuple):
    """What is on record about a call that is being made.

    Attributes:
        place: Where it stands in the recorded tree; None if it does not.
        why: Why it has to run; ``REUSED`` if it has not.
        result: What it returned, if it has not to run.
        below: The calls below it, then.
        changes: What all of them changed in the context, then, in order.
    """

    place: Place | None
    why: str
    result: Any = None
    below: Sequence[CallRecord] = ()
    changes: Sequence[Change] = ()


def find(above: Place | None, record: CallRecord, node: FunctionNode[..., Any]) -> Found:
    """Look for a call that was just recorded. ``above``: the place of its caller."""
    if above is None:
        return Found(None, "the call that made it is not on record")
    if record.node is None:
        return Found(None, "its node has no name to be found by: it is a lambda, or bound to what cannot be compared")
    key = key_of(record)
    if key is None:
        assert record.inputs is not None
        return Found(None, f"its arguments cannot be compared: they are not all on record ({form_in(record.inputs)})")
    place = above.take(key)
    if place is None or place.record is None:
        return Found(None, "it is not on record")
    known = place.record
    if known.status is not Status.COMPLETED:
        return Found(place, _AGAIN[known.status])
    if not node.memo:
        return Found(place, "its node has memo=False")
    below = place.generation.descendants(known)
    if any(each.status is Status.OPEN for each in below):
        return Found(place, "something that it had started had not ended")
    changes = [change for _, change in changes_of(known, below)]
    for change in changes:
        if change.form is not Form.PLAIN:
            lost = "the type of what" if change.form is Form.TYPED else "what"
            return Found(place, f"{lost} it put into the context as {change.key!r} is not on record ({change.form})")
    assert known.output is not None
    from railtracks.state._serialization._structuring import restore_result

    try:
        result = restore_result(known.output, returned_type(node))
    except ValueError as exc:
        return Found(place, f"its result {exc}")
    return Found(place, REUSED, result, below, changes)


def recorded_arguments(record: CallRecord, node: FunctionNode[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a recorded call of ``node``, as they were.

    Raises:
        ValueError: that cannot be done; the text says why, to follow "it".
    """
    assert record.inputs is not None
    form = form_in(record.inputs)
    if is_lossy(form):
        raise ValueError(f"was given something that is not all on record ({form.value})")
    data = parse_members(record.inputs)
    args, kwargs = data["input_args"], data["input_kwargs"]
    if form is Form.PLAIN:
        args, kwargs = decode(args), decode(kwargs)
    else:
        args, kwargs = _as_annotated(args, kwargs, node)
    if inputs_text(tuple(args), kwargs, Redactor(), node.secret_positions) != record.inputs:
        names = ", ".join(f"{name!r}" for name in inspect.signature(node.target).parameters)
        raise ValueError(f"was given values whose types are not on record, as no annotation of {names} says them")
    return tuple(args), kwargs


def _as_annotated(args: list[Any], kwargs: dict[str, Any], node: FunctionNode[..., Any]) -> tuple[Any, dict[str, Any]]:
    from railtracks.state._serialization._structuring import structure_as
    from railtracks.state._serialization._type_hints import UNKNOWN, hints_of

    hints = hints_of(node.target)
    try:
        bound = inspect.signature(node.target).bind(*args, **kwargs)
    except TypeError as exc:
        raise ValueError(f"was given what does not fit its parameters now ({exc})") from exc
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


def returned_type(node: FunctionNode[..., Any]) -> Any:
    """What the annotation of the node says that a call returns; ``UNKNOWN`` if it does not, or cannot be understood."""
    from railtracks.state._serialization._type_hints import UNKNOWN, hints_of

    target: Any = inspect.unwrap(node.func)
    hint = hints_of(getattr(target, "invoke", target)).get("return", UNKNOWN)
    if get_origin(hint) in (Awaitable, Coroutine):
        hint = get_args(hint)[-1]
    return hint
