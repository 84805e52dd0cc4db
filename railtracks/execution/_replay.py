"""Resuming: which calls need not run, because a session that this one resumes has recorded what came of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._past import Place, key_of
from railtracks.state._records import REUSED, Change, Form
from railtracks.state._text import form_in, is_lost, members

_AGAIN = {
    Status.FAILED: "it had failed",
    Status.CANCELLED: "it had been cancelled",
    Status.OPEN: "it had not ended",
}


@attrs.frozen
class Found:
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
    below: list[CallRecord] = attrs.field(factory=list)
    changes: list[tuple[CallRecord, Change]] = attrs.field(factory=list)


def find(above: Place | None, record: CallRecord, node: FunctionNode[..., Any]) -> Found:
    """Look for a call that was just recorded. ``above``: the place of its caller."""
    from railtracks.state._typed import restore  # here: most programs resume nothing, and it brings a dozen modules

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
    below = place.generation.subtree(known)
    changes = sorted(
        ((each, change) for each in (known, *below) for change in each.changes or ()), key=lambda pair: pair[1].order
    )
    for _, change in changes:
        if change.form is not Form.PLAIN:
            return Found(place, f"what it put into the context as {change.key!r} is not all on record ({change.form})")
    assert known.output is not None
    form = form_in(known.output)
    try:
        data = members(known.output)["output"]
        result = restore(data, form, None if form is Form.PLAIN else returned_type(node))
    except ValueError as exc:
        return Found(place, f"its result {exc}")
    return Found(place, REUSED, result, below, changes)


def recorded_arguments(record: CallRecord, node: FunctionNode[..., Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The arguments of a recorded call of ``node``, as they were.

    Raises:
        ValueError: that cannot be done; the text says why, to follow "it".
    """
    from railtracks.state._typed import restore

    assert record.inputs is not None
    form = form_in(record.inputs)
    data = members(record.inputs)
    args, kwargs = data["input_args"], data["input_kwargs"]
    if form is Form.PLAIN:
        return tuple(restore(args, form, None)), restore(kwargs, form, None)
    if is_lost(form):
        raise ValueError(f"is not all on record ({form})")
    hints = _hints(node.target)
    bound = inspect.signature(node.target).bind(*args, **kwargs)
    parameters = bound.signature.parameters
    for name, value in bound.arguments.items():
        variable = parameters[name].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        try:
            bound.arguments[name] = restore(value, form, None if variable else hints.get(name))
        except ValueError as exc:
            raise ValueError(f"has an argument {name!r} that {exc}") from exc
    return bound.args, bound.kwargs


def returned_type(node: FunctionNode[..., Any]) -> Any:
    """What the annotation of the node says that a call returns; None if it does not say, or cannot be understood."""
    target: Any = inspect.unwrap(node.func)
    hint = _hints(getattr(target, "invoke", target)).get("return")
    if get_origin(hint) in (Awaitable, Coroutine):
        hint = get_args(hint)[-1]
    return hint


def _hints(target: Any) -> dict[str, Any]:
    while isinstance(target, functools.partial):
        target = target.func
    if isinstance(target, type):
        target = target.__init__  # type: ignore[misc]
    try:
        return get_type_hints(target)
    except Exception:  # names that exist for type checkers only, and objects that have no annotations
        return {}
